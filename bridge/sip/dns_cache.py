"""What the name servers said, for as long as it holds, and a while longer when they are silent."""

from dataclasses import dataclass

from bridge.sip.resolver import Question, Record

MAX_ENTRIES = 4096
STALE_S = 600.0
RECHECK_S = 30.0
"""How long a stale answer is given at once after the name servers were silent."""
MAX_TTL_S = 86400.0
MIN_TTL_S = 1.0
"""A TTL of 0 would make each retry of one call a look-up of its own."""
NEGATIVE_TTL_S = 60.0
MAX_NEGATIVE_TTL_S = 300.0


@dataclass(frozen=True, slots=True)
class Cached:
    records: tuple[Record, ...]
    fresh: bool
    """False: to be given only when nobody answers (RFC 8767)."""


class DnsCache:
    """Answers by question; the oldest go first when it is full."""

    def __init__(self) -> None:
        self._entries: dict[Question, tuple[tuple[Record, ...], float]] = {}
        self._extended: dict[Question, float] = {}

    def get(self, question: Question, now: float) -> Cached | None:
        entry = self._entries.get(question)
        if entry is None:
            return None
        records, expires = entry
        if now >= expires + STALE_S:
            self._forget(question)
            return None
        return Cached(records, now < max(expires, self._extended.get(question, 0.0)))

    def extend(self, question: Question, now: float) -> None:
        """Nobody answered: do not ask again at once what is still known."""
        if question in self._entries:
            self._extended[question] = now + RECHECK_S

    def put(
        self, question: Question, records: tuple[Record, ...], ttl_s: float, now: float
    ) -> None:
        """No records: the name server says that there are none."""
        longest = MAX_TTL_S if records else MAX_NEGATIVE_TTL_S
        self._forget(question)
        if len(self._entries) >= MAX_ENTRIES:
            self._forget(next(iter(self._entries)))
        self._entries[question] = records, now + min(max(ttl_s, MIN_TTL_S), longest)

    def _forget(self, question: Question) -> None:
        self._entries.pop(question, None)
        self._extended.pop(question, None)

    def __len__(self) -> int:
        return len(self._entries)


def parse_hosts(text: str) -> dict[str, list[str]]:
    """/etc/hosts: addresses by name, in the order of the file."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            found.setdefault(name.lower(), []).append(address)
    return found

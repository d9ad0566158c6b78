"""What is promised of a server on one core, its model included, and which rows keep it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.measure import Row
from tests.bench.table import KINDS, compared

REPEATED = (("sip", 200, 0.0), ("webrtc", 60, 0.0), ("sip", 200, 10.0), ("webrtc", 60, 10.0))
"""Kind, calls and calls set up a second meanwhile: often, since once may be luck."""
TIMES = 5
RATIOS = {"webrtc": 5.0, "sip": 4.0}

Value = Callable[[Row], float | None]


@dataclass(frozen=True, slots=True)
class Target:
    """Kept by a row of ours if `value` is at most `limit`, or less if it is to be `below` that."""

    name: str
    value: Value
    limit: float
    kinds: tuple[str, ...]
    calls: tuple[int, ...]
    churns: tuple[float, ...] = (0.0,)
    below: bool = False

    def kept(self, value: float) -> bool:
        return value < self.limit or (value == self.limit and not self.below)

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        return [
            row
            for row in rows
            if row.subject == "bridge"
            and row.model
            and row.kind in self.kinds
            and row.calls in self.calls
            and row.churn in self.churns
        ]


def _cpu(row: Row) -> float | None:
    return row.cpu_percent if row.up == row.calls else None


def _memory(row: Row) -> float | None:
    return row.memory_kib


def _late(row: Row) -> float | None:
    return row.late_ms


def _media(series: str, percentile: str) -> Value:
    def value(row: Row) -> float | None:
        found: float | None = row.media.get(series, {}).get(percentile)
        return found

    return value


PHONES = ("sip", "srtp")
CPU = "CPU % of a core per call"
TARGETS = (
    Target(CPU, _cpu, 0.25, ("sip",), (200, 300)),
    Target(CPU, _cpu, 0.35, ("srtp",), (200, 300)),
    Target(CPU, _cpu, 1.2, ("webrtc",), (50,)),
    Target(CPU, _cpu, 3.0, ("sip", "srtp", "webrtc"), (1,)),
    Target("spacing p99 ms", _media("spacing_ms", "p99"), 25.0, ("sip",), (200, 300)),
    Target("KiB per call", _memory, 512.0, PHONES, (100, 200, 300, 400)),
    Target("KiB per call", _memory, 1024.0, ("webrtc",), (50, 60, 100)),
    Target("full loop p50 ms", _media("latency_ms", "p50"), 25.0, ("sip",), (200,)),
    Target("full loop p50 ms", _media("latency_ms", "p50"), 25.0, ("webrtc",), (60,)),
    Target("full loop p99 ms", _media("latency_ms", "p99"), 50.0, ("sip",), (200,)),
    Target("full loop p99 ms", _media("latency_ms", "p99"), 50.0, ("webrtc",), (60,)),
    *(
        Target("tick late p99 ms", _late, 5.0, (kind,), (calls,), (churn,), below=True)
        for kind, calls, churn in REPEATED
    ),
)


def verdicts(rows: Sequence[Row]) -> list[str]:
    """A line for each target that some row can tell of: how many keep it, and from what to what."""
    told = [_verdict(target, target.rows(rows)) for target in TARGETS]
    return [line for line in told if line] + _peers(rows)


def _verdict(target: Target, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    values = [target.value(row) for row in rows]
    known = [value for value in values if value is not None]
    kept = sum(map(target.kept, known))
    span = f"{min(known):.3g} to {max(known):.3g}" if known else "nothing measured"
    kinds = "/".join(KINDS[kind] for kind in target.kinds)
    calls = "/".join(map(str, sorted({row.calls for row in rows})))
    meanwhile = f", {target.churns[0]:g} set-ups a second" if target.churns[0] else ""
    return (
        f"{'kept' if kept == len(rows) else 'MISSED'}: {kinds}, {calls} calls{meanwhile}: "
        f"{target.name} {'below' if target.below else 'at most'} {target.limit:g} "
        f"in {kept} of {len(rows)} runs ({span})"
    )


def _peers(rows: Sequence[Row]) -> list[str]:
    told = []
    for peer, near, _ in compared(rows):
        ratio = peer.cpu_percent / near.cpu_percent
        wanted = RATIOS[near.kind]
        told.append(
            f"{'kept' if ratio >= wanted else 'MISSED'}: {peer.subject} at {peer.calls} calls: "
            f"at least {wanted:g} times the CPU of ours at {near.calls} ({ratio:.1f})"
        )
    return told

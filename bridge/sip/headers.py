"""The header section of a SIP message: ordered, raw, indexed by canonical name."""

from collections.abc import Iterable, Iterator, Sequence

from bridge.errors import SipError
from bridge.sip.grammar import WHITESPACE, is_token, split_outside

_COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

# As most peers write them: one look-up instead of a token check and a copy.
_USUAL = """
    Via From To Call-ID CSeq Contact Max-Forwards Route Record-Route User-Agent Server Allow
    Supported Require Proxy-Require Unsupported Content-Type Content-Length Content-Disposition
    Content-Encoding Accept Accept-Encoding Expires Min-Expires Session-Expires Min-SE Date Subject
    Authorization Proxy-Authorization WWW-Authenticate Proxy-Authenticate Retry-After Timestamp
    P-Asserted-Identity P-Preferred-Identity Remote-Party-ID Privacy Diversion History-Info Reason
    Refer-To Referred-By Replaces Event Allow-Events Subscription-State RAck RSeq Identity
"""
USUAL_NAMES = {name: name.lower() for name in _USUAL.split()}
USUAL_NAMES.update({name.lower(): name.lower() for name in _USUAL.split()})
USUAL_NAMES.update(_COMPACT)


def canonical_name(name: str) -> str:
    """Lower case, compact forms spelled out (RFC 3261 section 7.3.3 and its extensions)."""
    usual = USUAL_NAMES.get(name)
    if usual is not None:
        return usual
    lower = name.lower()
    return _COMPACT.get(lower, lower) if len(lower) == 1 else lower


class Headers:
    """Immutable list of (name as written, raw value); look-ups ignore case and compact forms."""

    __slots__ = ("_index", "_items")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items = tuple(items)
        index: dict[str, list[str]] = {}
        for name, value in self._items:
            key = USUAL_NAMES.get(name) or canonical_name(name)
            if key in index:
                index[key].append(value)
            else:
                index[key] = [value]
        self._index = index

    @classmethod
    def read(cls, lines: Iterable[str]) -> "Headers":
        """What looks like a header; RFC 3261 section 7.3.1 allows to ignore the rest."""
        items: list[tuple[str, str]] = []
        index: dict[str, list[str]] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            key = USUAL_NAMES.get(name)
            if key is None:
                name = name.rstrip(WHITESPACE)
                lower = name.lower()
                key = USUAL_NAMES.get(lower)
                if key is None:
                    if not is_token(name):
                        continue
                    key = lower
            if colon:
                value = value.strip(WHITESPACE)
                items.append((name, value))
                if key in index:
                    index[key].append(value)
                else:
                    index[key] = [value]
        return cls._made(tuple(items), index)

    @classmethod
    def _made(cls, items: tuple[tuple[str, str], ...], index: dict[str, list[str]]) -> "Headers":
        made = cls.__new__(cls)
        made._items, made._index = items, index
        return made

    def get(self, name: str) -> str | None:
        """The first value, raw."""
        found = self._lines(name)
        return found[0] if found else None

    def get_all(self, name: str) -> list[str]:
        """One raw string per header line, in order."""
        return list(self._lines(name))

    def values(self, name: str, most: int | None = None) -> list[str]:
        """Every element of a comma-separated header, over all its lines; empty ones left out.

        Raises SipError when there are more than `most`.
        """
        lines = self._lines(name)
        if not lines:
            return []
        if most is not None and len(lines) > most:
            raise SipError("too many values")
        found: list[str] = []
        for line in lines:
            if "," in line:
                found += filter(None, split_outside(line, ",", most))
            elif value := line.strip(WHITESPACE):
                found.append(value)
        if most is not None and len(found) > most:
            raise SipError("too many values")
        return found

    def items(self) -> tuple[tuple[str, str], ...]:
        return self._items

    def added(self, name: str, value: str) -> "Headers":
        return Headers((*self._items, (name, value)))

    def without(self, name: str) -> "Headers":
        key = canonical_name(name)
        return Headers(item for item in self._items if canonical_name(item[0]) != key)

    def replaced(self, name: str, value: str) -> "Headers":
        """The first line of that name gets `value`, further ones stay; added when there is none."""
        key = canonical_name(name)
        for position, item in enumerate(self._items):
            if canonical_name(item[0]) == key:
                return self._with(position, key, item[0], value)
        return self.added(name, value)

    def _with(self, position: int, key: str, name: str, value: str) -> "Headers":
        items = (*self._items[:position], (name, value), *self._items[position + 1 :])
        return self._made(items, {**self._index, key: [value, *self._index[key][1:]]})

    def _lines(self, name: str) -> Sequence[str]:
        # Our own code asks by canonical names.
        found = self._index.get(name)
        return self._index.get(canonical_name(name), ()) if found is None else found

    def __contains__(self, name: str) -> bool:
        return name in self._index or canonical_name(name) in self._index

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Headers({list(self._items)!r})"

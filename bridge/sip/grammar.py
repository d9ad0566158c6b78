"""Scanning rules shared by all SIP header values: quotes, angle brackets, tokens, parameters.

Every function here is linear in its input: header values come from strangers.
"""

import re
from collections.abc import Iterable, Iterator

from bridge.errors import SipError

TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
# RFC 3261 allows a NUL as a quoted-pair, and RFC 4475 sends one in a display name.
FORBIDDEN_IN_LINE = re.compile(r"[\r\n]|(?<!\\)\0")
SPACE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_DELIMITERS = {",": re.compile(r'[,"<]'), ";": re.compile(r'[;"<]')}
_QUOTE_OR_ESCAPE = re.compile(r'["\\]')
WHITESPACE = " \t"


def is_token(text: str) -> bool:
    return TOKEN.fullmatch(text) is not None


def closing_quote(text: str, start: int) -> int:
    """Index of the quote that ends the string opened at `start`, or -1."""
    position = start + 1
    while match := _QUOTE_OR_ESCAPE.search(text, position):
        if match[0] == '"':
            return match.start()
        position = match.end() + 1
    return -1


def split_outside(text: str, separator: str) -> list[str]:
    """Split at `,` or `;` where it stands outside quotes and angle brackets, and strip.

    An unclosed quote or bracket swallows the rest: whoever needs the value will refuse it.
    """
    if '"' not in text and "<" not in text:
        return [part.strip(WHITESPACE) for part in text.split(separator)]
    parts: list[str] = []
    start = position = 0
    while match := _DELIMITERS[separator].search(text, position):
        found = match.start()
        if match[0] == separator:
            parts.append(text[start:found].strip(WHITESPACE))
            start = position = found + 1
            continue
        end = closing_quote(text, found) if match[0] == '"' else text.find(">", found)
        if end < 0:
            break
        position = end + 1
    parts.append(text[start:].strip(WHITESPACE))
    return parts


def unquote(text: str) -> str:
    """The content of a quoted-string; anything else comes back as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    return re.sub(r"\\(.)", r"\1", inner) if "\\" in inner else inner


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_number(text: str, limit: int) -> int:
    """A run of ASCII digits below `limit`; raises SipError."""
    text = text.strip(WHITESPACE)
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise SipError("not a number")
    number = int(text)
    if number >= limit:
        raise SipError("number too large")
    return number


class Params:
    """`;name=value;flag` in order; names compare without case, values stay raw."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str | None]] = ()) -> None:
        self._pairs = tuple(pairs)

    @classmethod
    def parse(cls, text: str) -> "Params":
        """From `a=1;b` (a leading semicolon is optional); empty parameters are skipped."""
        if not text:
            return NO_PARAMS
        pairs: list[tuple[str, str | None]] = []
        for part in split_outside(text, ";"):
            if part:
                name, equals, value = part.partition("=")
                if not equals:
                    pairs.append((name, None))
                elif " " in part or "\t" in part:
                    pairs.append((name.rstrip(WHITESPACE), value.lstrip(WHITESPACE)))
                else:
                    pairs.append((name, value))
        return cls(pairs)

    def get(self, name: str) -> str | None:
        """The raw value; `""` for a flag; None when absent."""
        wanted = name.lower()
        for key, value in self._pairs:
            if key == wanted or key.lower() == wanted:
                return value or ""
        return None

    def replaced(self, name: str, value: str | None) -> "Params":
        """With `name` set, in its old place if it has one."""
        if name not in self:
            return Params((*self._pairs, (name, value)))
        wanted = name.lower()
        return Params((k, value if k.lower() == wanted else v) for k, v in self._pairs)

    def without(self, name: str) -> "Params":
        wanted = name.lower()
        return Params((k, v) for k, v in self._pairs if k.lower() != wanted)

    def __contains__(self, name: str) -> bool:
        wanted = name.lower()
        for key, _ in self._pairs:  # noqa: SIM110 - a generator costs three times as much
            if key == wanted or key.lower() == wanted:
                return True
        return False

    def __iter__(self) -> Iterator[tuple[str, str | None]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Params) and self._pairs == other._pairs

    def __hash__(self) -> int:
        return hash(self._pairs)

    def __str__(self) -> str:
        return "".join(f";{k}" if v is None else f";{k}={v}" for k, v in self._pairs)

    def __repr__(self) -> str:
        return f"Params({str(self)!r})"


NO_PARAMS = Params()

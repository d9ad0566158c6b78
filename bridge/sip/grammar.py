"""Scanning rules shared by all SIP header values: quotes, angle brackets, tokens, parameters.

Every function here is linear in its input, and its loops are those of `re` and `str`: header
values come from strangers, and a loop over their characters is what they would make us pay for.
"""

import re
from collections.abc import Iterable, Iterator

from bridge.errors import SipError

TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
# RFC 3261 allows a NUL as a quoted-pair, and RFC 4475 sends one in a display name.
FORBIDDEN_IN_LINE = re.compile(r"[\r\n]|(?<!\\)\0")
SPACE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_QUOTED_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_QUOTED = re.compile(_QUOTED_STRING, re.DOTALL)
MAX_PIECES = 1024
# What is not closed reaches to the end.
_ELEMENT = {
    separator: re.compile(
        rf'(?:[^{separator}"<]++|{_QUOTED_STRING}|<[^>]*+>|["<].*+){{0,{MAX_PIECES}}}+', re.DOTALL
    )
    for separator in ",;"
}
WHITESPACE = " \t"
MAX_PARAMS = 64


def is_token(text: str) -> bool:
    return TOKEN.fullmatch(text) is not None


def closing_quote(text: str, start: int) -> int:
    """Index of the quote that ends the string opened at `start`, or -1."""
    match = _QUOTED.match(text, start)
    return match.end() - 1 if match else -1


def split_outside(text: str, separator: str, most: int | None = None) -> list[str]:
    """Split at `,` or `;` where it stands outside quotes and angle brackets, and strip.

    An unclosed quote or bracket swallows the rest, and so do quotes and brackets without end:
    whoever needs the value will refuse it. Raises SipError when there are more than `most`.
    """
    if '"' not in text and "<" not in text:
        if most is not None and text.count(separator) >= most:
            raise SipError("too many values")
        return [part.strip(WHITESPACE) for part in text.split(separator)]
    parts: list[str] = []
    end = -1
    while end < len(text):
        if len(parts) == most:
            raise SipError("too many values")
        start, end = end + 1, _end_of_element(text, separator, end + 1)
        parts.append(text[start:end].strip(WHITESPACE))
    return parts


def first_outside(text: str, separator: str) -> str:
    """The first part of what `split_outside` gives."""
    if '"' not in text and "<" not in text:
        return text.partition(separator)[0].strip(WHITESPACE)
    return text[: _end_of_element(text, separator, 0)].strip(WHITESPACE)


def _end_of_element(text: str, separator: str, start: int) -> int:
    match = _ELEMENT[separator].match(text, start)
    end = match.end() if match else start
    return end if text[end : end + 1] == separator else len(text)


def has_bare_nul(text: str) -> bool:
    """What FORBIDDEN_IN_LINE finds besides line breaks, at the speed of `str`."""
    return "\0" in text and text.count("\0") != text.count("\\\0")


def unquote(text: str) -> str:
    """The content of a quoted-string; anything else comes back as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    if "\\" not in inner:
        return inner
    # No value has a line break, so one can stand for the backslashes that stay.
    return inner.replace("\\\\", "\n").replace("\\", "").replace("\n", "\\")


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
        """From `a=1;b` (a leading semicolon is optional); empty parameters are skipped.

        Raises SipError when there are more than any peer needs.
        """
        if not text:
            return NO_PARAMS
        pairs: list[tuple[str, str | None]] = []
        for part in split_outside(text, ";", MAX_PARAMS):
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

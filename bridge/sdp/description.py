"""Session descriptions (RFC 8866): a reader that forgives, a writer that does not.

The reader keeps what a call needs (o= s= c= b= t= a= m=) and drops every other line. It takes bare
LF, missing t= and o=, blanks at either end of a line, repeats (the first counts) and rubbish.
"""

import re
from dataclasses import dataclass, field
from typing import Literal, Self, cast

from bridge.errors import SdpError

MAX_SIZE = 64 * 1024
MAX_LINES = 1024
MAX_MEDIA = 64
MAX_FORMATS = 256

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
DIRECTIONS: tuple[Direction, ...] = ("sendrecv", "sendonly", "recvonly", "inactive")

Attribute = tuple[str, str | None]
"""Name and value; None for a flag such as `a=sendrecv`."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_FORBIDDEN = re.compile(r"[\r\n\0]")
_TIMING = re.compile(r"\d{1,20} \d{1,20}")


def _number(text: str, maximum: int) -> int | None:
    """int() takes underscores, other scripts' digits and thousands of them: this does not."""
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    value = int(text)
    return value if value <= maximum else None


@dataclass(frozen=True, slots=True)
class RtpMap:
    """`a=rtpmap:0 PCMU/8000`. `encoding` compares without case."""

    encoding: str
    clock_rate: int
    channels: int = 1

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The part after the payload type; None if it makes no sense."""
        parts = text.split("/")
        clock_rate = _number(parts[1].strip(), 1_000_000) if len(parts) > 1 else None
        if not parts[0] or not clock_rate:
            return None
        channels = _number(parts[2].strip(), 255) if len(parts) > 2 else None
        return cls(parts[0], clock_rate, channels or 1)

    def __str__(self) -> str:
        channels = f"/{self.channels}" if self.channels > 1 else ""
        return f"{self.encoding}/{self.clock_rate}{channels}"


STATIC_PAYLOAD_TYPES = {
    0: RtpMap("PCMU", 8000),
    3: RtpMap("GSM", 8000),
    4: RtpMap("G723", 8000),
    8: RtpMap("PCMA", 8000),
    9: RtpMap("G722", 8000),
    13: RtpMap("CN", 8000),
    18: RtpMap("G729", 8000),
}
"""What needs no rtpmap (RFC 3551 section 6), as far as telephones use it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """`session_id` and `version` as written: peers send numbers of any size."""

    username: str = "-"
    session_id: str = "0"
    version: str = "0"
    address: str = "0.0.0.0"

    @classmethod
    def parse(cls, value: str) -> Self:
        fields = value.split()
        if len(fields) < 6:
            return cls()
        return cls(fields[0], fields[1], fields[2], fields[5])

    def __str__(self) -> str:
        return f"{self.username} {self.session_id} {self.version} {_address(self.address)}"


def _address(host: str) -> str:
    return f"IN {'IP6' if ':' in host else 'IP4'} {host}"


def _parse_connection(value: str) -> str | None:
    fields = value.split()
    if len(fields) < 3:
        return None
    return fields[2].split("/", 1)[0] or None  # `/ttl` of multicast


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """One m= line and what belongs to it; `kind` and `protocol` as written. The repr leaves the
    attributes out: there may be keys among them."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    connection: str | None = None
    bandwidth: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = field(default=(), repr=False)

    @classmethod
    def parse_line(cls, value: str) -> Self:
        """The value of m=. Raises SdpError."""
        fields = value.split(None, 3)
        port = _number(fields[1].split("/", 1)[0], 65535) if len(fields) > 2 else None
        if port is None:
            raise SdpError("m= line is not media, port, protocol and formats")
        formats = fields[3].split(None, MAX_FORMATS) if len(fields) > 3 else []
        if len(formats) > MAX_FORMATS:
            raise SdpError(f"m= line has more than {MAX_FORMATS} formats")
        return cls(fields[0], port, fields[2], tuple(formats))

    def attribute(self, name: str) -> str | None:
        """The first value of this lower-case name; "" for a flag, None when absent."""
        return _first(self.attributes, name)

    @property
    def direction(self) -> Direction | None:
        return _direction(self.attributes)

    def rtpmaps(self) -> dict[int, RtpMap]:
        """Payload type → encoding in the order of the m= line, static ones filled in."""
        written: dict[int, RtpMap] = {}
        for attribute, value in self.attributes:
            if attribute.lower() != "rtpmap" or value is None:
                continue
            head, *tail = value.split(None, 1) or [""]
            payload_type = _number(head, 127)
            rtpmap = RtpMap.parse(tail[0]) if tail else None
            if payload_type is not None and rtpmap is not None:
                written.setdefault(payload_type, rtpmap)
        result: dict[int, RtpMap] = {}
        for name in self.formats:
            payload_type = _number(name, 127)
            known = written if payload_type in written else STATIC_PAYLOAD_TYPES
            if payload_type in known:
                result[payload_type] = known[payload_type]
        return result

    def milliseconds(self, name: Literal["ptime", "maxptime"]) -> int | None:
        """None when absent or not a number of milliseconds below a minute."""
        value = self.attribute(name)
        return None if value is None else _number(value.strip().partition(".")[0], 60_000)

    def lines(self) -> list[str]:
        lines = ["m=" + " ".join((self.kind, str(self.port), self.protocol, *self.formats))]
        if self.connection is not None:
            lines.append(f"c={_address(self.connection)}")
        return lines + _tail_lines(self.bandwidth, self.attributes)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """`timing` is the value of t=; `connection` an address, without its IN IP4."""

    origin: Origin = field(default_factory=Origin)
    name: str = "-"
    connection: str | None = None
    bandwidth: tuple[str, ...] = ()
    timing: str = "0 0"
    attributes: tuple[Attribute, ...] = field(default=(), repr=False)
    media: tuple[MediaDescription, ...] = ()

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Raises SdpError, and nothing else, for what is no session description or exceeds the
        caps."""
        if len(text) > MAX_SIZE:
            raise SdpError("session description is too large")
        if isinstance(text, bytes):
            text = text.decode("utf-8", errors="replace")
        lines = _LINE_END.split(text, MAX_LINES)
        if len(lines) > MAX_LINES:
            raise SdpError("session description has too many lines")
        return cast(Self, _Reader().read(lines))

    def attribute(self, name: str) -> str | None:
        """As MediaDescription.attribute, of the session part."""
        return _first(self.attributes, name)

    def host_of(self, media: MediaDescription) -> str | None:
        return media.connection or self.connection

    def direction_of(self, media: MediaDescription) -> Direction:
        return media.direction or _direction(self.attributes) or "sendrecv"

    def __str__(self) -> str:
        """CRLF lines in the order of RFC 8866 section 5. Raises SdpError for a value that would
        break out of its line."""
        lines = ["v=0", f"o={self.origin}", f"s={self.name or '-'}"]
        if self.connection is not None:
            lines.append(f"c={_address(self.connection)}")
        lines += (f"b={value}" for value in self.bandwidth)
        lines.append(f"t={self.timing}")
        lines += _tail_lines((), self.attributes)
        for media in self.media:
            lines += media.lines()
        if any(_FORBIDDEN.search(line) for line in lines):
            raise SdpError("line break within a line of a session description")
        return "\r\n".join(lines) + "\r\n"

    def __bytes__(self) -> bytes:
        return str(self).encode(errors="replace")


def _first(attributes: tuple[Attribute, ...], name: str) -> str | None:
    for key, value in attributes:
        if key.lower() == name:
            return value or ""
    return None


def _direction(attributes: tuple[Attribute, ...]) -> Direction | None:
    for name, _ in attributes:
        for direction in DIRECTIONS:
            if name.lower() == direction:
                return direction
    return None


def _tail_lines(bandwidth: tuple[str, ...], attributes: tuple[Attribute, ...]) -> list[str]:
    lines = [f"b={value}" for value in bandwidth]
    lines += (f"a={name}" if value is None else f"a={name}:{value}" for name, value in attributes)
    return lines


@dataclass(slots=True)
class _Section:
    """The session part, or the part under one m= line, while it is read."""

    media: MediaDescription | None = None
    fields: dict[str, str] = field(default_factory=dict)
    bandwidth: list[str] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)

    def add(self, kind: str, value: str) -> None:
        if kind == "a":
            name, colon, rest = value.partition(":")
            self.attributes.append((name.strip(), rest.strip() if colon else None))
        elif kind == "b":
            self.bandwidth.append(value)
        else:
            self.fields.setdefault(kind, value)

    @property
    def connection(self) -> str | None:
        return _parse_connection(self.fields.get("c", ""))

    def finished_media(self, media: MediaDescription) -> MediaDescription:
        return MediaDescription(
            kind=media.kind,
            port=media.port,
            protocol=media.protocol,
            formats=media.formats,
            connection=self.connection,
            bandwidth=tuple(self.bandwidth),
            attributes=tuple(self.attributes),
        )


class _Reader:
    def __init__(self) -> None:
        self._session = _Section()
        self._sections: list[_Section] = []

    def read(self, lines: list[str]) -> SessionDescription:
        current = self._session
        for line in lines:
            line = line.strip(" \t\0")
            if len(line) < 2 or line[1] != "=":
                continue
            kind, value = line[0], line[2:].strip()
            if kind == "m":
                current = self._begin_media(value)
            elif value and "\0" not in value:
                current.add(kind, value)
        return self._finish()

    def _begin_media(self, value: str) -> _Section:
        if len(self._sections) == MAX_MEDIA:
            raise SdpError(f"session description has more than {MAX_MEDIA} m= lines")
        section = _Section(MediaDescription.parse_line(value.replace("\0", "")))
        self._sections.append(section)
        return section

    def _finish(self) -> SessionDescription:
        fields = self._session.fields
        if fields.get("v") != "0":
            raise SdpError("not a session description: no v=0")
        timing = fields.get("t", "")
        return SessionDescription(
            origin=Origin.parse(fields.get("o", "")),
            name=fields.get("s") or "-",
            connection=self._session.connection,
            bandwidth=tuple(self._session.bandwidth),
            timing=timing if _TIMING.fullmatch(timing) else "0 0",
            attributes=tuple(self._session.attributes),
            media=tuple(
                section.finished_media(section.media)
                for section in self._sections
                if section.media is not None
            ),
        )

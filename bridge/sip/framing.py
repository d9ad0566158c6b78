"""Cuts a byte stream into SIP messages by Content-Length, and finds keep-alives between them."""

import enum
import re
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from bridge.errors import SipError
from bridge.sip.grammar import WHITESPACE, parse_number

MAX_MESSAGE = 65536
MAX_HEAD = 32768
"""Start line and headers; four lines of the longest."""
MAX_HEADERS = 256
MAX_LINES = 512
"""As they come, before unfolding."""
MAX_LENGTHS = 8
MAX_LINE = 8192
"""One header after unfolding; what nginx allows for a line."""

_LENGTH_LINE = re.compile(
    rb"^(?:content-length|l)[ \t]*+:((?:[^\r\n]++|\r?\n[ \t])*+)", re.IGNORECASE | re.MULTILINE
)
_LINE_BREAK = b"\r\n"
_FIRST_VIA = re.compile(rb"^((?:via|v)[ \t]*:[ \t]*SIP/2\.0/)UDP\b", re.IGNORECASE | re.MULTILINE)


class KeepAlive(enum.Enum):
    """RFC 5626 section 3.5.1: a ping is a double CRLF, its pong a single one."""

    PING = b"\r\n\r\n"
    PONG = b"\r\n"


def declared_length(values: Sequence[str]) -> int:
    """Content-Length when all its lines agree; raises SipError."""
    if len(values) != 1 and len({value.strip(WHITESPACE) for value in values}) != 1:
        raise SipError("Conflicting Content-Length")
    try:
        return parse_number(values[0], 2**63)
    except SipError:
        raise SipError("Bad Content-Length") from None


class StreamFramer:
    """Feed it what the stream brings; it gives back whole messages and keep-alives, in order.

    Once `broken` is set the stream cannot be read any further: answer what came out, then close.
    A message whose length is a lie comes out as its header section alone, so that
    `parse_message` can say why it is refused.
    """

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._body_end: int | None = None
        self._max_message = max_message
        self.broken = False

    @property
    def pending(self) -> int:
        """Octets held of a message that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes | KeepAlive]:
        self._buffer += data
        frames: list[bytes | KeepAlive] = []
        while not self.broken and self._buffer:
            frame = self._next()
            if frame is None:
                break
            frames.append(frame)
        if self.broken:
            self._buffer.clear()
        return frames

    def _next(self) -> bytes | KeepAlive | None:
        if self._body_end is None:
            keep_alive = self._keep_alive()
            if keep_alive is not None:
                return keep_alive
            if self._buffer[0] in _LINE_BREAK:
                return None
            head_end = self._find_head_end()
            if head_end is None:
                return None
            head = bytes(self._buffer[:head_end])
            length = _length_of(head)
            # Without a length on a stream nobody knows where the next message starts.
            if length is None:
                self.broken = True
                return head
            if head_end + length > self._max_message:
                self.broken = True
                return head
            self._body_end = head_end + length
        if len(self._buffer) < self._body_end:
            return None
        return self._take(self._body_end)

    def _keep_alive(self) -> KeepAlive | None:
        buffer = self._buffer
        if buffer[:4] == b"\r\n\r\n":
            self._take(4)
            return KeepAlive.PING
        # A lone CRLF may be the first half of a ping, so it is told apart by what follows.
        if buffer[:2] == b"\r\n" and len(buffer) > 2 and buffer[2:3] != b"\r":
            self._take(2)
            return KeepAlive.PONG
        if buffer[0] in _LINE_BREAK and not b"\r\n\r\n".startswith(buffer[:4]):
            self.broken = True
        return None

    def _find_head_end(self) -> int | None:
        found = self._buffer.find(b"\r\n\r\n", self._searched)
        if found >= 0:
            return found + 4
        self._searched = max(0, len(self._buffer) - 3)
        if len(self._buffer) > self._max_message:
            self.broken = True
        return None

    def _take(self, length: int) -> bytes:
        frame = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._searched = 0
        self._body_end = None
        return frame


class Framing(Protocol):
    """How SIP messages travel in a stream: end to end by length, or one in each WebSocket message.

    It has no socket: write what `data_to_send` gives after every call.
    """

    @property
    def broken(self) -> bool:
        """The peer broke the rules: answer what came out, then close."""

    @property
    def finished(self) -> bool:
        """The peer is done: close."""

    @property
    def keeps_open(self) -> bool:
        """Pings are ours to send, as the peer cannot."""

    def receive(self, data: bytes) -> list[bytes | KeepAlive]: ...
    def send(self, message: bytes) -> None: ...
    def ping(self) -> None: ...
    def close(self) -> None: ...
    def data_to_send(self) -> bytes: ...


class StreamFraming:
    """RFC 3261 section 18.3 over TCP and TLS, with the keep-alives of RFC 5626."""

    finished = False
    keeps_open = False

    def __init__(self) -> None:
        self._framer = StreamFramer()
        self._outgoing = bytearray()

    @property
    def broken(self) -> bool:
        return self._framer.broken

    def receive(self, data: bytes) -> list[bytes | KeepAlive]:
        frames = self._framer.feed(data)
        for frame in frames:
            if frame is KeepAlive.PING:
                self._outgoing += KeepAlive.PONG.value
        return frames

    def send(self, message: bytes) -> None:
        self._outgoing += message

    def ping(self) -> None:
        self._outgoing += KeepAlive.PING.value

    def close(self) -> None:
        """A stream says no goodbye."""

    def data_to_send(self) -> bytes:
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data


def is_request(message: bytes) -> bool:
    return not message.startswith(b"SIP/2.0 ") and bool(message.strip(_LINE_BREAK))


def over_tcp(request: bytes) -> bytes:
    """The request with TCP named in its top Via."""
    return _FIRST_VIA.sub(rb"\1TCP", request, count=1)


def _length_of(head: bytes) -> int | None:
    """Octets of the body, None when nobody can say."""
    if len(head) - len(b"\r\n\r\n") > MAX_HEAD or head.count(b"\n") > MAX_LINES + 2:
        return None
    found = [_text(match[1]) for match in islice(_LENGTH_LINE.finditer(head), MAX_LENGTHS + 1)]
    if len(found) > MAX_LENGTHS:
        return None
    try:
        # With none at all, 0 is what the peers that leave it out mean.
        return declared_length(found) if found else 0
    except SipError:
        return None


def _text(found: bytes) -> str:
    return found.decode("latin-1").replace("\r", "").replace("\n", "").strip(WHITESPACE)

"""SIP in WebSocket messages (RFC 7118), the serving side: handshake, frames, pings; no socket."""

import logging
from collections.abc import Sequence

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from bridge.sip.framing import MAX_MESSAGE, KeepAlive

SUBPROTOCOL = Subprotocol("sip")
_KEEP_ALIVES = {kind.value: kind for kind in KeepAlive}
_CONTROL = {Opcode.PING: KeepAlive.PING, Opcode.PONG: KeepAlive.PONG}

# At debug level the library writes whole frames, and SIP carries keys and credentials.
_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)


class WebSocketFraming:
    """One SIP message per WebSocket message, text or binary; `sip` must be among the subprotocols.

    Args:
        origins: pages that may connect; None lets all. Phones that are no page send no origin
            and are let in either way.
    """

    keeps_open = True

    def __init__(self, origins: Sequence[str] | None = None) -> None:
        allowed = None if origins is None else [None, *map(Origin, origins)]
        self._protocol = ServerProtocol(
            origins=allowed, subprotocols=[SUBPROTOCOL], max_size=MAX_MESSAGE, logger=_log
        )
        self._parts = bytearray()
        self._is_text = False
        self._eof = False
        self._invalid = False

    @property
    def broken(self) -> bool:
        protocol = self._protocol
        failed = protocol.handshake_exc is not None or protocol.parser_exc is not None
        return failed or self._invalid

    @property
    def _open(self) -> bool:
        return self._protocol.state is State.OPEN

    @property
    def finished(self) -> bool:
        return self._eof or self._protocol.close_rcvd is not None

    def receive(self, data: bytes) -> list[bytes | KeepAlive]:
        frames: list[bytes | KeepAlive] = []
        if self._eof:
            return frames
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if self._invalid:
                break
            if isinstance(event, Request):
                self._accept(event)
            elif isinstance(event, Frame):
                frame = self._frame(event)
                if frame is not None:
                    frames.append(frame)
        return frames

    def send(self, message: bytes) -> None:
        if not self._open:
            return
        if _is_utf8(message):
            self._protocol.send_text(message)
        else:
            self._protocol.send_binary(message)

    def ping(self) -> None:
        if self._open:
            self._protocol.send_ping(b"")

    def close(self) -> None:
        if self._open:
            self._protocol.send_close(CloseCode.GOING_AWAY)

    def data_to_send(self) -> bytes:
        chunks = self._protocol.data_to_send()
        # An empty chunk stands for the end of the stream.
        self._eof = self._eof or b"" in chunks
        return b"".join(chunks)

    def _accept(self, request: Request) -> None:
        response = self._protocol.accept(request)
        self._protocol.send_response(response)

    def _frame(self, frame: Frame) -> bytes | KeepAlive | None:
        if frame.opcode in _CONTROL:
            return _CONTROL[frame.opcode]
        if frame.opcode is Opcode.CLOSE:
            return None
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._parts += frame.data
        if not frame.fin:
            return None
        message = bytes(self._parts)
        self._parts.clear()
        if self._is_text and not _is_utf8(message):
            self._protocol.fail(CloseCode.INVALID_DATA)
            self._invalid = True
            return None
        return self._sip(message)

    def _sip(self, message: bytes) -> bytes | KeepAlive | None:
        """What the message is; a double CRLF is a ping here as it is on a stream."""
        kind = _KEEP_ALIVES.get(message)
        if kind is KeepAlive.PING:
            self.send(KeepAlive.PONG.value)
        return kind or message or None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

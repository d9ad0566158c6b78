"""The WebSocket to an upstream: bounded both ways, and the only door of the client library."""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    ws_connect,
)

from bridge import metrics
from bridge.backends.upstream.dial import (
    headers_for,
    proxy_for,
    refusal,
    trust,
    unreachable,
    url_for,
)
from bridge.backends.upstream.dialects import Dialect
from bridge.backends.upstream.rounds import Round, Rounds
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.errors import BackendError, PeerError
from bridge.load import LOAD
from bridge.tasks import TaskOwner

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_UNSENT_BYTES = 32 * 1024
"""With the transport; what is more waits with us, where sound can be dropped."""
TLS_BUFFERS: dict[str, Any] = dict.fromkeys(
    ("ssl_incoming_bio_size", "ssl_outgoing_bio_size"), 2 * (16 * 1024 + 64)
)
"""Two records each; the library's own, of sixteen, fill up where messages have waited."""
MAX_QUEUED_SAMPLES = 35 * 24_000
MAX_TOGETHER_SAMPLES = 24_000
"""More does not wait until all others send."""
MAX_EVENTS_PER_S = 2_000
MAX_STRIKES = 3
PING_S = 5.0
CLOSE_S = 0.5
# Between events of a burst others must have their turn.
TURN = 16

APPEND, APPENDED = b'{"type":"input_audio_buffer.append","audio":"', b'"}'
SIGN = b"bridge"
"""In pings of ours, apart from the library's."""

# The library's own log tells headers, and with them the key.
_silent = logging.getLogger("bridge.upstream.websocket")
_silent.propagate = False
_silent.setLevel(logging.CRITICAL + 1)

encode = msgspec.json.Encoder().encode


class Link:
    """`on_message` may raise PeerError; `on_lost` is called once at most, never after `close`."""

    def __init__(
        self,
        settings: UpstreamSettings,
        dialect: Dialect,
        rounds: Rounds,
        *,
        on_message: Callable[[str | bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._dialect = dialect
        self._incoming = _Incoming(self, on_message, rounds.telling)
        self._sending = rounds.sending
        self._due = False
        self._on_lost: Callable[[str], None] | None = on_lost
        self._on_pong: list[Callable[[], None]] = []
        self._transport: WSTransport | None = None
        self._queue: deque[tuple[bytes, int]] = deque()
        self._queued_samples = 0
        self._full = False
        self._stall: asyncio.TimerHandle | None = None
        self._tasks = TaskOwner("upstream")

    async def open(self) -> None:
        """Raises BackendError; BackendBusy when the server is too busy for us."""
        settings = self._settings
        url = url_for(settings, self._dialect)
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                transport, _ = await ws_connect(
                    lambda: self._incoming,
                    url,
                    ssl_context=trust(settings),
                    # The library's own closes what is given up here.
                    websocket_handshake_timeout=settings.connect_timeout_s,
                    logger_name=_silent,
                    enable_auto_ping=True,
                    auto_ping_idle_timeout=PING_S,
                    auto_ping_reply_timeout=PING_S,
                    auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
                    max_frame_size=MAX_MESSAGE_BYTES,
                    extra_headers=headers_for(settings, self._dialect),
                    # A key is for the server it was given for.
                    max_redirects=0,
                    proxy=proxy_for(url),
                    **(TLS_BUFFERS if url.startswith("wss:") else {}),
                )
        except WSHandshakeError as error:
            if error.response is not None:
                raise refusal(int(error.response.status)) from None
            raise unreachable(error) from None
        except ssl.SSLCertVerificationError as error:
            raise BackendError(
                f"The model's server cannot be trusted: {error.verify_message}"
            ) from None
        except TimeoutError:
            raise BackendError("The model's server does not answer") from None
        except (OSError, WSError) as error:
            raise unreachable(error) from None
        if transport.response is None:
            raise BackendError("The model's server cannot be reached: it hung up")
        transport.underlying_transport.set_write_buffer_limits(MAX_UNSENT_BYTES)
        self._transport = transport
        self._tasks.spawn(self._watch(transport), name="watch")
        self._flush()
        self._incoming.begin(transport)

    async def _watch(self, transport: WSTransport) -> None:
        try:
            await transport.wait_disconnected()
        except WSProtocolError as error:
            metrics.upstream_bad_events.inc()
            self._incoming.reason = f"closed {int(error.code)}"
        finally:
            self._incoming.finish()
            self.lose(self._incoming.reason)

    def send(self, message: Mapping[str, Any]) -> None:
        self._put(encode(message), 0)

    def send_audio(self, audio: bytes, samples: int) -> None:
        """`audio` is base64; what is too much for the server is dropped, the oldest first."""
        message = b"".join((APPEND, audio, APPENDED))
        if not LOAD.high:
            self._put(message, samples)
        else:
            self._keep(message, samples)
            if self._queued_samples > MAX_TOGETHER_SAMPLES:
                self._flush()
            elif not self._due:
                self._due = True
                self._sending.soon(self._flush)
        while self._queued_samples > MAX_QUEUED_SAMPLES:
            oldest = next(n for n, (_, samples) in enumerate(self._queue) if samples)
            self._queued_samples -= self._queue[oldest][1]
            metrics.upstream_audio_dropped_s.inc(self._queue[oldest][1] / 24_000)
            del self._queue[oldest]

    def _put(self, message: bytes, samples: int) -> None:
        if self._transport is None or self._full or self._queue:
            self._keep(message, samples)
        else:
            self._transport.send(WSMsgType.TEXT, message)

    def _keep(self, message: bytes, samples: int) -> None:
        self._queue.append((message, samples))
        self._queued_samples += samples

    def _flush(self) -> None:
        self._due = False
        while self._queue and self._transport is not None and not self._full:
            message, samples = self._queue.popleft()
            self._queued_samples -= samples
            self._transport.send(WSMsgType.TEXT, message)

    def pause(self) -> None:
        """The server takes no more for now."""
        self._full = True
        loop = asyncio.get_running_loop()
        self._stall = loop.call_later(self._settings.stall_timeout_s, self.lose, "stalled")

    def resume(self) -> None:
        self._full = False
        self._stop_waiting()
        self._flush()

    def _stop_waiting(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def ping(self, on_pong: Callable[[], None]) -> None:
        if self._transport is not None:
            self._on_pong.append(on_pong)
            self._transport.send_ping(SIGN)

    def pong(self) -> None:
        waiting, self._on_pong = self._on_pong, []
        for on_pong in waiting:
            on_pong()

    @property
    def lost(self) -> bool:
        """Or forgotten."""
        return self._on_lost is None

    def forget(self) -> None:
        """Nothing more is read, and nothing told."""
        self._on_lost = None

    async def close(self) -> None:
        """Idempotent."""
        self.forget()
        self._stop_waiting()
        self._flush()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.send_close(WSCloseCode.OK)
            await self._tasks.settle(CLOSE_S)
            transport.disconnect(graceful=False)
        await self._tasks.settle(CLOSE_S)
        await self._tasks.close()

    def lose(self, reason: str) -> None:
        self._stop_waiting()
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(reason)


class _Incoming(WSListener):
    """What the server sends, a whole message at a time and TURN of them at once."""

    def __init__(
        self, link: Link, on_message: Callable[[str | bytes], None], telling: Round
    ) -> None:
        self.reason = "closed"
        self._link = link
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._parts = bytearray()
        self._waiting: deque[bytes] = deque()
        self._telling = telling
        self._transport: WSTransport | None = None
        self._held = True
        self._due = self._paused = False
        self._turn_at = 0.0
        self._taken = 0
        self._strikes = 0
        self._window_began = 0.0
        self._window_events = 0

    def begin(self, transport: WSTransport) -> None:
        """Nothing is told before."""
        self._held = False
        self._transport = transport
        if self._waiting and not transport.is_disconnected:
            self._go_on_soon()

    def finish(self) -> None:
        """Nothing comes any more; what has come is told."""
        while self._waiting:
            self._tell(self._waiting.popleft())

    # Of the library

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.CLOSE:
            code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big")
            self.reason = f"closed {code}" if code else "closed"
            transport.send_close(frame.get_close_code() if code else WSCloseCode.OK)
            transport.disconnect()
        elif kind is WSMsgType.PONG:
            self._link.pong()
        elif kind is not WSMsgType.PING:
            self._arrive(transport, frame)

    def is_user_specific_pong(self, frame: WSFrame) -> bool:
        """Of the library's own pings."""
        return frame.msg_type is WSMsgType.PONG and not frame.payload_size

    def pause_writing(self) -> None:
        self._link.pause()

    def resume_writing(self) -> None:
        self._link.resume()

    # Messages

    def _arrive(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._link.lost:
            return
        if len(self._parts) + frame.payload_size > MAX_MESSAGE_BYTES:
            # Told at once: the library goes on with what follows.
            self._link.lose("closed 1009")
            raise WSProtocolError(WSCloseCode.MESSAGE_TOO_BIG, "message too big")
        message = frame.get_payload_as_bytes()
        if self._parts or not frame.fin:
            self._parts += message
            if not frame.fin:
                return
            message, self._parts = bytes(self._parts), bytearray()
        if not self._admits():
            return
        if self._waiting or self._held or self._taken >= TURN or LOAD.high:
            self._waiting.append(message)
            if not self._held:
                self._go_on_soon()
        else:
            self._taken += 1
            self._tell(message)

    def _admits(self) -> bool:
        now = self._loop.time()
        if now != self._turn_at:
            self._turn_at, self._taken = now, 0
        if now - self._window_began >= 1.0:
            self._window_began, self._window_events = now, 0
        self._window_events += 1
        if self._window_events > MAX_EVENTS_PER_S:
            self._link.lose("flood")
            return False
        return True

    def _go_on_soon(self) -> None:
        if not self._due:
            self._due = True
            self._telling.soon(self._go_on)
        if self._taken + len(self._waiting) > TURN:
            self._pause(paused=True)

    def _go_on(self) -> None:
        self._due = False
        for _ in range(min(TURN, len(self._waiting))):
            self._tell(self._waiting.popleft())
        if self._waiting:
            self._go_on_soon()
        else:
            self._pause(paused=False)

    def _pause(self, *, paused: bool) -> None:
        """Read no more, or go on reading."""
        transport = self._transport
        if paused == self._paused or transport is None or transport.is_disconnected:
            return
        self._paused = paused
        if paused:
            transport.underlying_transport.pause_reading()
        else:
            transport.underlying_transport.resume_reading()

    def _tell(self, message: bytes) -> None:
        if self._link.lost:
            return
        try:
            self._on_message(message)
        except PeerError:
            self._strikes += 1
            metrics.upstream_bad_events.inc()
            if self._strikes >= MAX_STRIKES:
                self._link.lose("garbage")

"""The WebSocket to an upstream: bounded both ways, and the only door of the client library."""

import asyncio
import functools
import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from bridge import metrics
from bridge.backends.upstream.dialects import Dialect
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.errors import BackendBusy, BackendError, ConfigError, PeerError
from bridge.tasks import TaskOwner

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_QUEUED_SAMPLES = 35 * 24_000
MAX_EVENTS_PER_S = 2_000
MAX_STRIKES = 3
PING_S = 5.0
CLOSE_S = 0.5
# Between events of a burst others must have their turn.
TURN = 16

TOO_MANY_REQUESTS = 429

# The library's own log tells headers, and with them the key.
_silent = logging.getLogger("bridge.upstream.websocket")
_silent.propagate = False
_silent.setLevel(logging.CRITICAL + 1)

encode = msgspec.json.Encoder().encode


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        # A key is for the server it was given for.
        return exc


def url_for(settings: UpstreamSettings, dialect: Dialect) -> str:
    """The URL with the model in its query, unless it is there already. Raises ConfigError."""
    parts = urlsplit(settings.url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ConfigError("upstream.url must begin with ws:// or wss://", param="upstream.url")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if settings.model and dialect.model_query:
        query.setdefault(dialect.model_query, settings.model)
    return urlunsplit(parts._replace(query=urlencode(query)))


def trust(settings: UpstreamSettings) -> ssl.SSLContext | None:
    """Raises ConfigError."""
    if not settings.url.startswith("wss://"):
        return None
    return _context(settings.tls_ca)


@functools.cache
def _context(authority: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority or None)
    except OSError as error:
        raise ConfigError(
            f"upstream.tls_ca cannot be read: {error.strerror}", param="upstream.tls_ca"
        ) from None


class Link:
    """`on_message` may raise PeerError; `on_lost` is called once at most, never after `close`."""

    def __init__(
        self,
        settings: UpstreamSettings,
        dialect: Dialect,
        *,
        on_message: Callable[[str | bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._dialect = dialect
        self._on_message = on_message
        self._on_lost: Callable[[str], None] | None = on_lost
        self._websocket: ClientConnection | None = None
        self._queue: deque[tuple[bytes | str, int]] = deque()
        self._queued_samples = 0
        self._wake = asyncio.Event()
        self._tasks = TaskOwner("upstream")
        self._strikes = 0
        self._window_began = 0.0
        self._window_events = 0

    async def open(self) -> None:
        """Raises BackendError; BackendBusy when the server is too busy for us."""
        settings = self._settings
        headers = {}
        if settings.api_key:
            headers[self._dialect.key_header] = f"{self._dialect.key_prefix}{settings.api_key}"
        try:
            self._websocket = await _Connect(
                url_for(settings, self._dialect),
                additional_headers=headers,
                ssl=trust(settings),
                open_timeout=settings.connect_timeout_s,
                ping_interval=PING_S,
                ping_timeout=PING_S,
                close_timeout=CLOSE_S,
                max_size=MAX_MESSAGE_BYTES,
                compression=None,
                user_agent_header="bridge",
                logger=_silent,
            )
        except InvalidStatus as error:
            raise refusal(error.response.status_code) from None
        except ssl.SSLCertVerificationError as error:
            raise BackendError(
                f"The model's server cannot be trusted: {error.verify_message}"
            ) from None
        except TimeoutError:
            raise BackendError("The model's server does not answer") from None
        except (OSError, InvalidHandshake, InvalidURI) as error:
            raise BackendError(
                f"The model's server cannot be reached: {type(error).__name__}"
            ) from None
        self._tasks.spawn(self._read(self._websocket), name="read")
        self._tasks.spawn(self._write(self._websocket), name="write")

    def send(self, message: Mapping[str, Any]) -> None:
        self._put(encode(message).decode(), 0)

    def send_audio(self, audio: str, samples: int) -> None:
        """`audio` is base64; what is too much for the server is dropped, the oldest first."""
        self._put(f'{{"type":"input_audio_buffer.append","audio":"{audio}"}}', samples)
        while self._queued_samples > MAX_QUEUED_SAMPLES:
            oldest = next(n for n, (_, samples) in enumerate(self._queue) if samples)
            self._queued_samples -= self._queue[oldest][1]
            metrics.upstream_audio_dropped_s.inc(self._queue[oldest][1] / 24_000)
            del self._queue[oldest]

    def _put(self, text: str, samples: int) -> None:
        self._queue.append((text, samples))
        self._queued_samples += samples
        self._wake.set()

    def ping(self, on_pong: Callable[[], None]) -> None:
        if self._websocket is not None:
            self._tasks.spawn(self._ping(self._websocket, on_pong), name="ping")

    async def _ping(self, websocket: ClientConnection, on_pong: Callable[[], None]) -> None:
        try:
            await (await websocket.ping())
        except ConnectionClosed:
            return  # the reader tells
        on_pong()

    def forget(self) -> None:
        """Nothing more is read, and nothing told."""
        self._on_lost = None

    async def close(self) -> None:
        """Idempotent."""
        self.forget()
        await self._tasks.close()
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            await websocket.close()
            await websocket.wait_closed()

    def lose(self, reason: str) -> None:
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(reason)

    async def _read(self, websocket: ClientConnection) -> None:
        count = 0
        try:
            async for text in websocket:
                if self._on_lost is None:
                    return
                self._take(text)
                count += 1
                if not count % TURN:
                    await asyncio.sleep(0)
        except ConnectionClosed:
            pass
        code = websocket.close_code
        self.lose("closed" if code is None else f"closed {code}")

    def _take(self, text: str | bytes) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._window_began >= 1.0:
            self._window_began, self._window_events = now, 0
        self._window_events += 1
        if self._window_events > MAX_EVENTS_PER_S:
            self.lose("flood")
            return
        try:
            self._on_message(text)
        except PeerError:
            self._strikes += 1
            metrics.upstream_bad_events.inc()
            if self._strikes >= MAX_STRIKES:
                self.lose("garbage")

    async def _write(self, websocket: ClientConnection) -> None:
        try:
            while True:
                while not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                text, samples = self._queue.popleft()
                self._queued_samples -= samples
                async with asyncio.timeout(self._settings.stall_timeout_s):
                    await websocket.send(text)
        except TimeoutError:
            self.lose("stalled")
        except ConnectionClosed:
            pass  # the reader tells


def refusal(status: int) -> BackendError:
    """What the server's answer to the handshake means to those who wait for the call."""
    if status == TOO_MANY_REQUESTS:
        return BackendBusy("The model's server has too many sessions (429)")
    if status in (401, 403):
        return BackendError(f"The model's server refused upstream.api_key ({status})")
    return BackendError(f"The model's server refused the session ({status})")

"""Speech to text by servers of Realtime transcription: a WebSocket hears along with a caller."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
import pybase64
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.settings import SttSettings
from bridge.backends.cascade.stt import LOGPROBS, Hints, Pending, Utterance, Wanted
from bridge.backends.cascade.stt_openai import need_base_url, prompt_of
from bridge.backends.weighed import Logprob, Weighed, told
from bridge.errors import BackendError
from bridge.tasks import TaskOwner

APPEND_SAMPLES = MODEL_RATE // 10
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
CLOSE_S = 0.2
MAX_WAITING = 3000  # pieces a server may be behind: of a call a minute of sound

# The library's own log tells headers, and with them the key.
_silent = logging.getLogger("bridge.cascade.websocket")
_silent.propagate = False
_silent.setLevel(logging.CRITICAL + 1)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        # A key is for the server it was given for.
        return exc


class _Event(msgspec.Struct):
    type: str
    delta: str = ""
    transcript: str = ""
    logprobs: list[Logprob] | None = None
    error: dict[str, Any] | None = None


FAILED = "conversation.item.input_audio_transcription.failed"
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"


class RealtimeSpeechToText:
    """A WebSocket to /v1/realtime?intent=transcription for each utterance, from its first sample
    on: it connects while the caller speaks, so that only the last words are waited for.

    Raises:
        ConfigError: no server is named.
    """

    def __init__(self, settings: SttSettings) -> None:
        self._settings = settings
        self._url = _url(need_base_url(settings.base_url, "cascade.stt.base_url"))
        self._tasks = TaskOwner("stt")

    async def start(self) -> None:
        """Its server may come up later than this one."""

    def listen(self, wanted: Wanted, on_delta: Callable[[str], None]) -> Utterance:
        return _Streamed(self._tasks, self._settings, self._url, wanted, on_delta)

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted = Wanted()) -> str:
        wanted = replace(wanted, prompt=prompt_of(hints, wanted))
        utterance = self.listen(wanted, lambda _: None)
        utterance.push(pcm)
        return await utterance.finish()

    async def close(self) -> None:
        await self._tasks.close()


class _Streamed:
    def __init__(
        self,
        tasks: TaskOwner,
        settings: SttSettings,
        url: str,
        wanted: Wanted,
        on_delta: Callable[[str], None],
    ) -> None:
        self._tasks = tasks
        self._settings = settings
        self._url = url
        self._wanted = wanted
        self._on_delta = on_delta
        self._sound: asyncio.Queue[Pcm | None] = asyncio.Queue()
        self._words = Pending(tasks, self._run)

    def push(self, pcm: Pcm) -> None:
        if self._words.done:
            return
        if self._sound.qsize() >= MAX_WAITING:
            self._words.fail("the speech recogniser does not keep up")
            self.abandon()
            return
        self._sound.put_nowait(pcm)

    async def finish(self) -> str:
        self._sound.put_nowait(None)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._words.wait()
        except TimeoutError:
            raise BackendError("the speech recogniser did not answer in time") from None

    def abandon(self) -> None:
        self._words.abandon()

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._settings.api_key or 'none'}"}
        try:
            socket = await _Connect(
                self._url,
                logger=_silent,
                additional_headers=headers,
                open_timeout=self._settings.timeout_s,
                max_size=MAX_MESSAGE_BYTES,
                compression=None,
                close_timeout=CLOSE_S,
            )
            try:
                await self._converse(socket)
                await socket.close()
            finally:
                # Where nobody wants the words any more, nobody waits for a farewell either.
                socket.transport.abort()
        except BackendError as error:
            self._words.fail(error.message)
        except ConnectionClosed:
            self._words.fail("the speech recogniser broke off")
        except WebSocketException as error:
            self._words.fail(f"the speech recogniser cannot be used: {error}")
        except (OSError, TimeoutError) as error:
            self._words.fail(f"the speech recogniser cannot be reached: {error}")

    async def _converse(self, socket: ClientConnection) -> None:
        sending = self._tasks.spawn(self._send(socket), name="send")
        try:
            await self._receive(socket)
        finally:
            sending.cancel()

    def _session(self) -> dict[str, Any]:
        fields = {
            "model": self._settings.model,
            "language": self._wanted.language or self._settings.language,
            "prompt": self._wanted.prompt,
        }
        listening = {
            "format": {"type": "audio/pcm", "rate": MODEL_RATE},
            "transcription": {name: value for name, value in fields.items() if value},
            "turn_detection": None,
        }
        session: dict[str, Any] = {"type": "transcription", "audio": {"input": listening}}
        if self._wanted.logprobs:
            session["include"] = [LOGPROBS]
        return {"type": "session.update", "session": session}

    async def _send(self, socket: ClientConnection) -> None:
        # The reader of this connection tells why it was closed.
        with contextlib.suppress(ConnectionClosed):
            await socket.send(msgspec.json.encode(self._session()).decode())
            while (pcm := await self._sound.get()) is not None:
                for begin in range(0, len(pcm), APPEND_SAMPLES):
                    data = pybase64.b64encode(pcm[begin : begin + APPEND_SAMPLES].tobytes())
                    event = {"type": "input_audio_buffer.append", "audio": data.decode("ascii")}
                    await socket.send(msgspec.json.encode(event).decode())
            await socket.send('{"type":"input_audio_buffer.commit"}')

    async def _receive(self, socket: ClientConnection) -> None:
        async for text in socket:
            try:
                event = msgspec.json.decode(text, type=_Event)
            except msgspec.MsgspecError as error:
                raise BackendError("the speech recogniser sent no event") from error
            if event.type == DELTA:
                self._on_delta(Weighed(event.delta, told(event.logprobs)))
            elif event.type == COMPLETED:
                self._words.tell(Weighed(event.transcript.strip(), told(event.logprobs)))
                return
            elif event.type in (FAILED, "error"):
                message = (event.error or {}).get("message", "it does not say why")
                raise BackendError(f"the speech recogniser failed: {message}")
        raise BackendError("the speech recogniser broke off")


def _url(base_url: str) -> str:
    parts = urlsplit(base_url)
    query = {"intent": "transcription", **dict(parse_qsl(parts.query, keep_blank_values=True))}
    path = parts.path.rstrip("/") + "/realtime"
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit(parts._replace(scheme=scheme, path=path, query=urlencode(query)))

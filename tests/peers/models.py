"""Servers of speech and language on loopback, as OpenAI's API describes them, with faults to order.

One process answers all stages of a cascade: transcriptions of files and over a WebSocket, chat
completions, and speech as streamed PCM. It understands nothing: what was "said" is set beforehand,
and a word of it is heard for every third of a second of sound. What it was asked is kept.
"""

import argparse
import asyncio
import base64
import io
import json
import re
import socket
import threading
import wave
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.peers.model import deltas

RATE = 24_000
LOUD = 300  # RMS of a block that somebody speaks in
BLOCK_S = 0.02
WORD_S = 0.3
CHARACTER_S = 0.04  # of speech
PIECE_S = 0.1
TONE_HZ = 440.0
LOGPROBS = "item.input_audio_transcription.logprobs"

Sound = NDArray[np.int16]
Stamp = dict[str, Any]


@dataclass(slots=True)
class Fault:
    """What goes wrong with one request: a status, silence, an end in the middle, or nonsense."""

    kind: str
    status: int = 503

    REFUSES = "refuses"
    STALLS = "stalls"
    BREAKS = "breaks"
    BABBLES = "babbles"


@dataclass(slots=True)
class Knobs:
    """Seconds are those a stage takes before it says anything."""

    words: str = "what time do you open"
    accept_s: float = 0.0
    """Of a recogniser that listens over a WebSocket."""
    transcript_s: float = 0.0
    first_token_s: float = 0.0
    token_s: float = 0.0
    first_sound_s: float = 0.0
    sound_pace: float = 0.0
    """Of real time that sound is streamed with; 0: as fast as it goes."""
    sound_rate: int = RATE
    sound_type: str = "audio/pcm"
    sound_header: bool = False
    """A WAV file's, before the samples."""
    word_s: Callable[[str], float] | None = None
    """A beep for each word, so long, with a pause as long after it; None: one tone for all."""
    timestamps: bool = True
    """Told in the events of sound, where events are asked for."""
    reply: Callable[[dict[str, Any]], list[str]] | None = None
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    """By stage: "transcriptions", "realtime", "chat", "speech"; one is taken by each request."""


@dataclass(slots=True)
class Asked:
    """What came with one request; `sound` is what a recogniser was given."""

    stage: str
    fields: dict[str, Any]
    authorization: str = ""
    sound: Sound = field(default_factory=lambda: np.empty(0, np.int16))
    rate: int = 0

    @property
    def voiced_s(self) -> float:
        return voiced_s(self.sound, self.rate)


def voiced_s(sound: Sound, rate: int) -> float:
    """How long it is loud."""
    block = int(rate * BLOCK_S)
    if not block or len(sound) < block:
        return 0.0
    blocks = sound[: len(sound) - len(sound) % block].reshape(-1, block).astype(np.float64)
    return float((np.sqrt((blocks**2).mean(axis=1)) > LOUD).sum()) * BLOCK_S


def weighed(words: str) -> list[dict[str, Any]]:
    """A token of each word, and of each the same doubt."""
    tokens = re.findall(r"\s*\S+", words)
    return [{"token": t, "logprob": -0.25, "bytes": list(t.encode())} for t in tokens]


def tone(seconds: float, rate: int) -> Sound:
    instants = np.arange(int(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * TONE_HZ * instants)).astype(np.int16)


def wav_header(rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
    return buffer.getvalue()


class _Application:
    def __init__(self, knobs: Knobs, asked: list[Asked]) -> None:
        self.knobs = knobs
        self.asked = asked
        self.open = 0
        self.closed = threading.Event()
        """Set whenever one of the open ends."""
        self.app = Starlette(
            routes=[
                Route("/v1/audio/transcriptions", self._transcribe, methods=["POST"]),
                Route("/v1/audio/speech", self._speak, methods=["POST"]),
                Route("/dev/captioned_speech", self._speak, methods=["POST"]),
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                WebSocketRoute("/v1/realtime", self._listen),
            ]
        )

    def _close(self) -> None:
        self.open -= 1
        self.closed.set()

    def _fault(self, stage: str) -> Fault | None:
        waiting = self.knobs.faults[stage]
        return waiting.popleft() if waiting else None

    async def _meet(self, fault: Fault | None) -> Response | None:
        """The answer that a fault makes instead; None if there is none."""
        if fault is None or fault.kind == Fault.BREAKS:
            return None
        if fault.kind == Fault.STALLS:
            await asyncio.sleep(3600)
        if fault.kind == Fault.BABBLES:
            return Response(b"<html>It works!</html>", media_type="text/html")
        return JSONResponse({"error": {"message": "out of order"}}, fault.status)

    async def _transcribe(self, request: Request) -> Response:
        async with request.form() as form:
            upload = form["file"]
            assert not isinstance(upload, str)
            with wave.open(io.BytesIO(await upload.read())) as file:
                rate = file.getframerate()
                sound = np.frombuffer(file.readframes(file.getnframes()), np.int16)
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
        self.asked.append(
            Asked("transcriptions", fields, request.headers["authorization"], sound, rate)
        )
        fault = self._fault("transcriptions")
        if (answer := await self._meet(fault)) is not None:
            return answer
        await asyncio.sleep(self.knobs.transcript_s)
        if fault is not None:
            return StreamingResponse(_broken(b'{"te'), media_type="application/json")
        heard: dict[str, Any] = {"text": self.knobs.words}
        if fields.get("include[]") == "logprobs":
            heard["logprobs"] = weighed(self.knobs.words)
        return JSONResponse(heard)

    async def _speak(self, request: Request) -> Response:
        fields = await request.json()
        self.asked.append(Asked("speech", fields, request.headers["authorization"]))
        fault = self._fault("speech")
        if (answer := await self._meet(fault)) is not None:
            return answer
        if fields.get("response_format") != "pcm":
            return JSONResponse({"error": {"message": "only pcm"}}, 400)
        sound, stamps = self._say(fields["input"])
        pieces = self._pieces(sound, breaks=fault is not None)
        lines = request.url.path == "/dev/captioned_speech"
        if not lines and fields.get("stream_format") != "sse":
            return StreamingResponse(pieces, media_type=self.knobs.sound_type)
        events = self._events(pieces, stamps if self.knobs.timestamps else [], lines=lines)
        kind = "application/json" if lines else "text/event-stream"
        return StreamingResponse(events, media_type=kind)

    def _say(self, text: str) -> tuple[Sound, list[Stamp]]:
        """And when each word is said; punctuation is a word without sound to it."""
        rate, word_s = self.knobs.sound_rate, self.knobs.word_s
        if word_s is None:
            return tone(CHARACTER_S * len(text), rate), []
        sounds: list[Sound] = []
        stamps: list[Stamp] = []
        at = 0.0
        for word in text.split():
            beep = tone(word_s(word), rate)
            end = at + len(beep) / rate
            sounds += [beep, np.zeros_like(beep)]
            stamps.append({"word": word.rstrip(".,"), "start_time": at, "end_time": end})
            if word[-1] in ".,":
                stamps.append({"word": word[-1], "start_time": end, "end_time": end})
            at += 2 * len(beep) / rate
        return np.concatenate(sounds), stamps

    async def _events(
        self, pieces: AsyncIterator[bytes], stamps: list[Stamp], *, lines: bool
    ) -> AsyncIterator[bytes]:
        """As Kokoro-FastAPI writes them, a line each, or as OpenAI does, and words with both."""
        sent, last = 0, 0.0
        async for piece in pieces:
            sent += len(piece)
            until = sent / 2 / self.knobs.sound_rate
            words = [stamp for stamp in stamps if last <= float(stamp["start_time"]) < until]
            last = until
            told = {"audio": base64.b64encode(piece).decode(), "timestamps": words}
            if lines:
                yield json.dumps(told | {"audio_format": "audio/pcm"}).encode() + b"\n"
            else:
                yield _event({"type": "speech.audio.delta", **told})
        if not lines:
            yield _event({"type": "speech.audio.done", "usage": {"output_tokens": 1}})

    async def _pieces(self, sound: Sound, *, breaks: bool) -> AsyncIterator[bytes]:
        knobs = self.knobs
        self.open += 1
        try:
            await asyncio.sleep(knobs.first_sound_s)
            if knobs.sound_header:
                yield wav_header(knobs.sound_rate)
            # Of an odd number of bytes: a sample may lie in two pieces.
            data, size = sound.tobytes(), int(knobs.sound_rate * PIECE_S) * 2 - 1
            for begin in range(0, len(data), size):
                if breaks and begin:
                    raise ConnectionAbortedError
                yield data[begin : begin + size]
                await asyncio.sleep(PIECE_S / knobs.sound_pace if knobs.sound_pace else 0)
        finally:
            self._close()

    async def _complete(self, request: Request) -> Response:
        fields = await request.json()
        self.asked.append(Asked("chat", fields, request.headers["authorization"]))
        fault = self._fault("chat")
        if (answer := await self._meet(fault)) is not None:
            return answer
        tokens = self._tokens(fields, breaks=fault is not None)
        return StreamingResponse(tokens, media_type="text/event-stream")

    async def _tokens(self, fields: dict[str, Any], *, breaks: bool) -> AsyncIterator[bytes]:
        knobs = self.knobs
        if knobs.reply is not None:
            said = [{"content": text} for text in knobs.reply(fields)]
        else:
            said = list(deltas(fields))
        reason = "tool_calls" if any("tool_calls" in delta for delta in said) else "stop"
        await asyncio.sleep(knobs.first_token_s)
        for delta in said:
            for part in _by_word(delta):
                yield _event({"choices": [{"delta": part}]})
                await asyncio.sleep(knobs.token_s)
            if breaks:
                raise ConnectionAbortedError
        yield _event({"choices": [{"delta": {}, "finish_reason": reason}]})
        if (fields.get("stream_options") or {}).get("include_usage"):
            yield _event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
        yield b"data: [DONE]\n\n"

    async def _listen(self, websocket: WebSocket) -> None:
        fault = self._fault("realtime")
        if fault is not None and fault.kind == Fault.REFUSES:
            await websocket.close()
            return
        await asyncio.sleep(self.knobs.accept_s)
        await websocket.accept()
        asked = Asked("realtime", dict(websocket.query_params), rate=RATE)
        asked.authorization = websocket.headers.get("authorization", "")
        self.asked.append(asked)
        self.open += 1
        try:
            await _Hearing(websocket, self.knobs, asked, fault).serve()
        except WebSocketDisconnect:
            pass
        finally:
            self._close()


class _Hearing:
    """One transcription session: refuses what the Realtime API refuses of one."""

    def __init__(
        self, websocket: WebSocket, knobs: Knobs, asked: Asked, fault: Fault | None
    ) -> None:
        self._websocket = websocket
        self._knobs = knobs
        self._asked = asked
        self._fault = fault
        self._told = 0

    async def serve(self) -> None:
        if "model" in self._asked.fields:
            await self._error("You must not provide a model parameter for transcription sessions.")
            await self._websocket.close(3000)
            return
        await self._send("session.created", session={"type": "transcription"})
        while True:
            event = json.loads(await self._websocket.receive_text())
            match event["type"]:
                case "session.update" if event["session"].get("type") == "transcription":
                    self._asked.fields |= {"session": event["session"]}
                    await self._send("session.updated", session=event["session"])
                case "input_audio_buffer.append":
                    data = np.frombuffer(base64.b64decode(event["audio"]), np.int16)
                    self._asked.sound = np.concatenate((self._asked.sound, data))
                    await self._tell(int(self._asked.voiced_s / WORD_S))
                case "input_audio_buffer.commit":
                    await self._finish()
                case other:
                    await self._error(f"Invalid value: {other!r}.")

    async def _finish(self) -> None:
        await self._send("input_audio_buffer.committed", item_id="item_1")
        kind = self._fault.kind if self._fault is not None else ""
        if kind == Fault.STALLS:
            await asyncio.sleep(3600)
        if kind == Fault.BREAKS:
            await self._websocket.close(1011)
            raise WebSocketDisconnect
        if kind == Fault.BABBLES:
            await self._websocket.send_text("{")
            return
        await asyncio.sleep(self._knobs.transcript_s)
        await self._tell(len(self._words))
        await self._transcription("completed", self._knobs.words)

    @property
    def _words(self) -> list[str]:
        return self._knobs.words.split()

    async def _tell(self, count: int) -> None:
        for word in self._words[self._told : count]:
            await self._transcription("delta", word if not self._told else f" {word}")
            self._told += 1

    async def _transcription(self, kind: str, words: str) -> None:
        name = f"conversation.item.input_audio_transcription.{kind}"
        fields: dict[str, Any] = {"delta" if kind == "delta" else "transcript": words}
        if LOGPROBS in self._asked.fields["session"].get("include", ()):
            fields["logprobs"] = weighed(words)
        await self._send(name, item_id="item_1", content_index=0, **fields)

    async def _error(self, message: str) -> None:
        await self._send("error", error={"type": "invalid_request_error", "message": message})

    async def _send(self, kind: str, **fields: Any) -> None:
        await self._websocket.send_text(json.dumps({"type": kind, **fields}))


def _by_word(delta: dict[str, Any]) -> list[dict[str, Any]]:
    words = str(delta.get("content", "")).split(" ")
    if len(words) < 2:
        return [delta]
    return [{"content": word if not number else f" {word}"} for number, word in enumerate(words)]


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def _broken(body: bytes) -> AsyncIterator[bytes]:
    yield body
    raise ConnectionAbortedError


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """The thread that it runs in gets none."""


class ModelServers:
    """Serves on a free loopback port in a thread of its own. Use as a context."""

    def __init__(self, knobs: Knobs | None = None, port: int = 0) -> None:
        self.knobs = knobs or Knobs()
        self.asked: list[Asked] = []
        self._application = _Application(self.knobs, self.asked)
        self._socket = socket.create_server(("127.0.0.1", port))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        config = uvicorn.Config(
            self._application.app,
            log_config=None,
            log_level="critical",
            ws="websockets-sansio",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        asyncio.run(self._server.serve([self._socket]))

    @property
    def open(self) -> int:
        """Answers of speech and sockets of recognition under way."""
        return self._application.open

    @property
    def closed(self) -> threading.Event:
        return self._application.closed

    def asked_of(self, stage: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.stage == stage]

    def __enter__(self) -> "ModelServers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(5)
        self._socket.close()


def main() -> None:
    """In a process of its own, so that what it costs is not the service's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    for name in ("transcript_s", "first_token_s", "token_s", "first_sound_s", "sound_pace"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    parser.add_argument("--words", default="what time do you open")
    given = vars(parser.parse_args())
    port = given.pop("port")
    with ModelServers(Knobs(**given), port):
        threading.Event().wait()


if __name__ == "__main__":
    main()

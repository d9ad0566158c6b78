"""Text to speech by OpenAI-compatible servers: PCM streamed from POST /v1/audio/speech.

Some tell when each word is spoken. Then the sound comes in events of JSON, each with its words: by
`stream_format: "sse"`, or a line each from the /dev/captioned_speech of Kokoro-FastAPI.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
import numpy as np

from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.http import Answer, ModelServer, Transport, media_type
from bridge.backends.cascade.settings import TtsSettings
from bridge.backends.cascade.stt_openai import need_base_url
from bridge.backends.cascade.tts import OnWords, Word
from bridge.errors import BackendError

MAX_RATE = 192_000
SOUND = ("audio/pcm", "audio/l16", "application/octet-stream", "audio/wav", "")
EVENTS = ("text/event-stream", "application/json", "application/x-ndjson", "")
OPENAI_VOICES = frozenset(
    "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split()  # noqa: SIM905
)


class HttpTextToSpeech:
    """One request for each piece of text; what is not wanted any more is closed, not read.

    Raises:
        ConfigError: no server is named.
    """

    def __init__(self, settings: TtsSettings, *, transport: Transport | None = None) -> None:
        self._settings = settings
        base_url = need_base_url(settings.base_url, "cascade.tts.base_url").rstrip("/")
        self._path = "audio/speech"
        if settings.words == "captioned_speech":
            self._path = f"{base_url.removesuffix('/v1')}/dev/captioned_speech"
        self._server = ModelServer(
            "the voice",
            base_url,
            api_key=settings.api_key,
            timeout_s=settings.timeout_s,
            transport=transport,
        )

    async def start(self) -> None:
        """Its server may come up later than this one."""

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, on_words: OnWords | None = None
    ) -> AsyncGenerator[Pcm, None]:
        if self._settings.voice and (not voice or voice in OPENAI_VOICES):
            voice = self._settings.voice
        body: dict[str, Any] = {"model": self._settings.model, "input": text}
        body |= {"voice": voice or "alloy", "response_format": "pcm"}
        if speed != 1.0:
            body["speed"] = speed
        if self._settings.words == "sse":
            body["stream_format"] = "sse"
        async with self._server.post(self._path, json=body) as answer:
            rate = self._settings.sample_rate
            if self._settings.words:
                pieces = _told(answer, on_words)
            else:
                rate = _rate(answer, rate)
                pieces = answer.pieces()
            async with aclosing(_samples(pieces, rate)) as samples:
                async for pcm in samples:
                    yield pcm

    async def close(self) -> None:
        await self._server.close()


def _rate(answer: Answer, sample_rate: int) -> int:
    """Of sound; `sample_rate` if the answer does not say. Raises BackendError if it is none."""
    kind, params = media_type(answer.content_type)
    if kind.startswith(("text/", "application/json")):
        raise BackendError(f"the voice sent {kind}, not sound")
    if kind not in SOUND and not kind.startswith("audio/x-"):
        raise BackendError(f"the voice sent {kind}; response_format pcm is needed")
    return int(params["rate"]) if params.get("rate", "").isdigit() else sample_rate


class _Stamp(msgspec.Struct):
    word: str = ""
    start_time: float = 0.0
    end_time: float = 0.0


class _Event(msgspec.Struct):
    audio: bytes = b""
    """Base64."""
    timestamps: list[_Stamp] | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


async def _told(answer: Answer, on_words: OnWords | None) -> AsyncGenerator[bytes, None]:
    """The sound of an answer in events; its words go to `on_words` before it. Raises
    BackendError."""
    kind, _ = media_type(answer.content_type)
    if kind not in EVENTS:
        raise BackendError(f"the voice sent {kind} and no words")
    async with aclosing(answer.lines()) as lines:
        async for line in lines:
            data = line.removeprefix("data:").strip()
            if not data.startswith("{"):
                continue
            try:
                event = msgspec.json.decode(data, type=_Event)
            except msgspec.MsgspecError as error:
                raise BackendError("the voice sent what is no speech event") from error
            if bytes(event.error) != b"null":
                raise BackendError("the voice failed")
            if event.timestamps and on_words is not None:
                on_words([Word(s.word, s.start_time, s.end_time) for s in event.timestamps])
            if event.audio:
                yield event.audio


async def _samples(octets: AsyncGenerator[bytes, None], rate: int) -> AsyncGenerator[Pcm, None]:
    resampler: Resampler | None = None
    rest = b""
    async with aclosing(octets) as pieces:
        async for piece in pieces:
            data = rest + piece
            if resampler is None:
                if len(data) < WAV_HEADER and data[:4] == b"RIFF"[: len(data[:4])]:
                    rest = data
                    continue
                rate, data = _without_header(data, rate)
                if not 0 < rate <= MAX_RATE:
                    raise BackendError(f"the voice sent sound at {rate} Hz")
                resampler = Resampler(rate, MODEL_RATE)
            whole = len(data) - len(data) % 2
            rest = data[whole:]
            pcm = np.frombuffer(data[:whole], "<i2").astype(np.int16)
            if len(pcm):
                yield pcm if rate == MODEL_RATE else resampler.process(pcm)
    if resampler is not None and rate != MODEL_RATE:
        yield resampler.flush()


WAV_HEADER = 44


def _without_header(data: bytes, rate: int) -> tuple[int, bytes]:
    """Some servers send a WAV file whatever they are asked for."""
    if not data.startswith(b"RIFF"):
        return rate, data
    format_at = data.find(b"fmt ")
    sound_at = data.find(b"data")
    if format_at < 0 or sound_at < 0:
        raise BackendError("the voice sent a WAV file that cannot be read")
    rate = int.from_bytes(data[format_at + 12 : format_at + 16], "little")
    return rate, data[sound_at + 8 :]

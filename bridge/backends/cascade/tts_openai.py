"""Text to speech by OpenAI-compatible servers: PCM streamed from POST /v1/audio/speech."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import numpy as np

from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.http import Answer, ModelServer, Transport, media_type
from bridge.backends.cascade.settings import TtsSettings
from bridge.backends.cascade.stt_openai import need_base_url
from bridge.errors import BackendError

MAX_RATE = 192_000
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
        self._server = ModelServer(
            "the voice",
            need_base_url(settings.base_url, "cascade.tts.base_url"),
            api_key=settings.api_key,
            timeout_s=settings.timeout_s,
            transport=transport,
        )

    async def start(self) -> None:
        """Its server may come up later than this one."""

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0
    ) -> AsyncGenerator[Pcm, None]:
        if self._settings.voice and (not voice or voice in OPENAI_VOICES):
            voice = self._settings.voice
        body: dict[str, Any] = {"model": self._settings.model, "input": text}
        body |= {"voice": voice or "alloy", "response_format": "pcm"}
        if speed != 1.0:
            body["speed"] = speed
        async with (
            self._server.post("audio/speech", json=body) as answer,
            aclosing(_samples(answer, self._settings.sample_rate)) as samples,
        ):
            async for pcm in samples:
                yield pcm

    async def close(self) -> None:
        await self._server.close()


async def _samples(answer: Answer, sample_rate: int) -> AsyncGenerator[Pcm, None]:
    kind, params = media_type(answer.content_type)
    if kind.startswith(("text/", "application/json")):
        raise BackendError(f"the voice sent {kind}, not sound")
    known = kind in ("audio/pcm", "audio/l16", "application/octet-stream", "audio/wav", "")
    if not known and not kind.startswith("audio/x-"):
        raise BackendError(f"the voice sent {kind}; response_format pcm is needed")
    rate = int(params["rate"]) if params.get("rate", "").isdigit() else sample_rate
    resampler: Resampler | None = None
    rest = b""
    async with aclosing(answer.pieces()) as pieces:
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

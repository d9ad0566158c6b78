"""Speech to text by OpenAI-compatible servers: an HTTP request for each utterance."""

import msgspec
import numpy as np

from bridge.audio.resample import Resampler
from bridge.audio.wav import to_wav
from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.http import ModelServer, Transport, media_type
from bridge.backends.cascade.settings import SttSettings
from bridge.backends.cascade.stt import Hints, Wanted
from bridge.backends.weighed import Logprob, Weighed, told
from bridge.errors import BackendError, ConfigError

RATE = 16_000  # what recognisers run at; a third fewer bytes to send


def prompt_of(hints: Hints | None, wanted: Wanted) -> str:
    """What a recogniser that takes a prompt is told to expect."""
    return wanted.prompt or ", ".join(hints.phrases if hints else ())


def need_base_url(base_url: str, setting: str) -> str:
    """Raises ConfigError."""
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(
            f"{setting} needs the URL of its server, for example http://127.0.0.1:8000/v1",
            param=setting,
        )
    return base_url


class _Words(msgspec.Struct):
    text: str
    logprobs: list[Logprob] | None = None


class HttpSpeechToText:
    """POST /v1/audio/transcriptions for each utterance.

    Raises:
        ConfigError: no server is named.
    """

    def __init__(self, settings: SttSettings, *, transport: Transport | None = None) -> None:
        self._settings = settings
        self._server = ModelServer(
            "the speech recogniser",
            need_base_url(settings.base_url, "cascade.stt.base_url"),
            api_key=settings.api_key,
            timeout_s=settings.timeout_s,
            transport=transport,
        )

    async def start(self) -> None:
        """Its server may come up later than this one."""

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted = Wanted()) -> str:
        fields = {
            "model": self._settings.model,
            "response_format": "json",
            "language": wanted.language or self._settings.language,
            "prompt": prompt_of(hints, wanted),
            "include[]": "logprobs" if wanted.logprobs else "",
        }
        resampler = Resampler(MODEL_RATE, RATE)
        sound = to_wav(np.concatenate((resampler.process(pcm), resampler.flush())), RATE)
        async with self._server.post(
            "audio/transcriptions",
            data={name: value for name, value in fields.items() if value},
            files={"file": ("speech.wav", sound, "audio/wav")},
        ) as answer:
            body = await answer.whole()
        kind, _ = media_type(answer.content_type)
        if kind == "text/plain":
            return body.decode("utf-8", "replace").strip()
        try:
            words = msgspec.json.decode(body, type=_Words)
        except msgspec.MsgspecError as error:
            raise BackendError("the speech recogniser sent no transcript") from error
        return Weighed(words.text.strip(), told(words.logprobs))

    async def close(self) -> None:
        await self._server.close()

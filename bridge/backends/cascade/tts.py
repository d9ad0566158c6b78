"""Text to speech: the protocol of a voice, and espeak-ng in its own process."""

import asyncio
import importlib.util
import logging
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade import pipes
from bridge.backends.cascade.worker import Worker, WorkerLost
from bridge.errors import BackendError, ConfigError

log = logging.getLogger(__name__)

PROGRAM = "bridge.backends.cascade.tts_program"
WORDS_PER_MINUTE = 165  # espeak-ng's own 175 is brisk for a telephone
PIECE_TIMEOUT_S = 5.0

ESPEAK_VOICE = re.compile(r"[a-z]{2,3}(-[a-z0-9]+)+(\+[a-z0-9]+)?|[a-z]{2}(\+[a-z0-9]+)?")
RENAMED = {"en-gb": "en"}  # espeak-ng 1.52 knows it by its language only
OPENAI_VOICES = {
    "ash": "en-us+m3",
    "ballad": "en+m3",
    "cedar": "en-us+m7",
    "coral": "en-us+f3",
    "echo": "en-us+m1",
    "marin": "en-us+f2",
    "sage": "en-us+f4",
    "shimmer": "en-us+f1",
    "verse": "en-gb-scotland",
}


@dataclass(frozen=True, slots=True)
class Word:
    """As it is spoken, which may not be as it was written; seconds into the sound of the text."""

    text: str
    begin_s: float
    end_s: float


OnWords = Callable[[Sequence[Word]], None]


class TextToSpeech(Protocol):
    async def start(self) -> None:
        """Raises ConfigError or BackendError."""
        ...

    def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, on_words: OnWords | None = None
    ) -> AsyncGenerator[Pcm, None]:
        """The sound of `text` in pieces at MODEL_RATE; closing the iterator stops the voice.

        `on_words` is called before the sound of its words comes, by voices that know when that is.

        Raises:
            BackendError: the voice failed.
        """
        ...

    async def close(self) -> None: ...


class EspeakVoice:
    """One process speaks for all calls, a sentence at a time, at about -20 dBFS of speech."""

    def __init__(self, default_voice: str = "") -> None:
        self._default_voice = default_voice or "en-us"
        self._worker = Worker(PROGRAM)
        self._lock = asyncio.Lock()
        self._job = 0

    @property
    def worker(self) -> Worker:
        return self._worker

    async def start(self) -> None:
        if importlib.util.find_spec("espeakng_loader") is None:
            raise ConfigError(
                'the embedded voice needs espeak-ng: pip install "realtime-bridge[demo]"',
                param="cascade.tts",
            )
        async with self._lock:
            await self._worker.start()

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, on_words: OnWords | None = None
    ) -> AsyncGenerator[Pcm, None]:
        async with self._lock:
            self._job += 1
            job, finished = self._job, False
            request = pipes.Speak(
                job, text, self._voice(voice), round(WORDS_PER_MINUTE * min(max(speed, 0.5), 2.5))
            )
            resampler: Resampler | None = None
            try:
                await self._worker.start()
                await self._worker.send(request)
                while not finished:
                    reply = await self._reply(job)
                    if isinstance(reply, pipes.Sound):
                        resampler = resampler or Resampler(reply.rate, MODEL_RATE)
                        if reply.words and on_words is not None:
                            on_words(_words(text, reply.words))
                        yield resampler.process(np.frombuffer(reply.pcm, np.int16))
                    else:
                        finished = True
            except (WorkerLost, TimeoutError, OSError) as error:
                log.warning("voice lost, restarting", extra={"error": str(error)})
                finished = True
                await self._worker.close()
                raise BackendError("the voice failed") from error
            finally:
                if not finished:
                    await self._stop(job)

    async def close(self) -> None:
        await self._worker.close()

    def _voice(self, name: str) -> str:
        name = OPENAI_VOICES.get(name, name)
        # OpenAI's names are words; espeak-ng's are a language, a region, a variant.
        if not ESPEAK_VOICE.fullmatch(name):
            name = self._default_voice
        language, plus, variant = name.partition("+")
        return RENAMED.get(language, language) + plus + variant

    async def _reply(self, job: int) -> pipes.Sound | pipes.Spoken:
        """The next message of this job; what a stopped one still sends is dropped."""
        while True:
            async with asyncio.timeout(PIECE_TIMEOUT_S):
                reply = await self._worker.receive()
            match reply:
                case pipes.Sound(job=number) | pipes.Spoken(job=number) if number == job:
                    return reply
                case pipes.Failed(job=number, message=message) if number == job:
                    log.warning("voice refused a sentence", extra={"error": message})
                    return pipes.Spoken(job)
                case _:
                    pass

    async def _stop(self, job: int) -> None:
        try:
            await self._worker.send(pipes.Stop(job))
        except WorkerLost:
            await self._worker.close()


def _words(text: str, places: Sequence[tuple[int, int, int]]) -> list[Word]:
    return [
        Word(text[begin : begin + length], begin_ms / 1000, begin_ms / 1000)
        for begin, length, begin_ms in places
    ]

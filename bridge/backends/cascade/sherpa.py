"""Speech to text and text to speech here, by sherpa-onnx and a directory with a model of one's own.

Its library is imported here alone. It works in threads, without Python's lock. For some of what it
finds wrong in a model it ends the process: so models are loaded before there are calls, and their
files are looked for before that.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.settings import SttSettings, TtsSettings
from bridge.backends.cascade.stt import Hints, Pending, SpeechToText, Utterance, Wanted
from bridge.backends.cascade.tts import OnWords
from bridge.errors import BackendError, BridgeError, ConfigError, OverloadedError
from bridge.tasks import TaskOwner

RATE = 16_000  # told another, its library resamples, and says so for every stream
MAX_WAITING = 64  # utterances
MAX_BEHIND = 500  # frames: 10 s
TAIL_S = 0.6  # of silence, without which the last words stay in the network
VOICE_THREADS = 2

Files = Mapping[str, str]
"""Parameters of a model, and patterns of their files."""

_TRANSDUCER = {"encoder": "*encoder*.onnx", "decoder": "*decoder*.onnx", "joiner": "*joiner*.onnx"}
RECOGNISERS: Mapping[str, tuple[str, Files]] = {
    "transducer": ("from_transducer", _TRANSDUCER),
    "nemo-ctc": ("from_nemo_ctc", {"model": "*.onnx"}),
    "zipformer-ctc": ("from_zipformer_ctc", {"model": "*.onnx"}),
    "sense-voice": ("from_sense_voice", {"model": "*.onnx"}),
    "paraformer": ("from_paraformer", {"paraformer": "*.onnx"}),
    "whisper": ("from_whisper", {"encoder": "*encoder*.onnx", "decoder": "*decoder*.onnx"}),
    "moonshine": (
        "from_moonshine",
        {
            "preprocessor": "preprocess*.onnx",
            "encoder": "encode*.onnx",
            "uncached_decoder": "uncached_decode*.onnx",
            "cached_decoder": "cached_decode*.onnx",
        },
    ),
}
STREAMING: Mapping[str, tuple[str, Files]] = {
    "streaming-transducer": ("from_transducer", _TRANSDUCER),
    "streaming-zipformer-ctc": ("from_zipformer2_ctc", {"model": "*.onnx"}),
    "streaming-nemo-ctc": ("from_nemo_ctc", {"model": "*.onnx"}),
}
VOICES: Mapping[str, tuple[str, Files]] = {
    "vits": ("OfflineTtsVitsModelConfig", {"model": "*.onnx"}),
    "kokoro": ("OfflineTtsKokoroModelConfig", {"model": "*.onnx", "voices": "voices*.bin"}),
    "kitten": ("OfflineTtsKittenModelConfig", {"model": "*.onnx", "voices": "voices*.bin"}),
    "matcha": (
        "OfflineTtsMatchaModelConfig",
        {"acoustic_model": "model*.onnx", "vocoder": "*voc*.onnx"},
    ),
}


def recogniser(settings: SttSettings) -> SpeechToText:
    """Raises ConfigError."""
    family = settings.family
    if family in STREAMING:
        return StreamingRecogniser(settings)
    _known("cascade.stt.family", family, (*RECOGNISERS, *STREAMING))
    return Recogniser(settings)


class Recogniser:
    """Of whole utterances. Loading the model takes seconds, and raises ConfigError."""

    _families = RECOGNISERS
    _class = "OfflineRecognizer"

    def __init__(self, settings: SttSettings) -> None:
        sherpa = _library("cascade.stt")
        made, patterns = self._families[settings.family]
        options = _find(settings.model, {**patterns, "tokens": "*tokens.txt"}, "cascade.stt")
        if settings.family in ("whisper", "sense-voice") and settings.language:
            options["language"] = settings.language
        make = getattr(getattr(sherpa, self._class), made)
        self._model = _load(lambda: make(**options), "cascade.stt")
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="sherpa-stt")
        self._waiting = 0

    async def start(self) -> None:
        """It is loaded."""

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted = Wanted()) -> str:
        return str(await self._run(self._words, pcm))

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        if self._waiting >= MAX_WAITING:
            raise OverloadedError("too many utterances wait for the recogniser")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work, *arguments)
        finally:
            self._waiting -= 1

    def _words(self, pcm: Pcm) -> str:
        stream = self._model.create_stream()
        resampler = Resampler(MODEL_RATE, RATE)
        sound = np.concatenate((resampler.process(pcm), resampler.flush()))
        stream.accept_waveform(RATE, _floats(sound))
        self._model.decode_stream(stream)
        return str(stream.result.text).strip()


class StreamingRecogniser(Recogniser):
    """Hears words while they are spoken."""

    _families = STREAMING
    _class = "OnlineRecognizer"

    def __init__(self, settings: SttSettings) -> None:
        super().__init__(settings)
        self._tasks = TaskOwner("sherpa")

    def listen(self, wanted: Wanted, on_delta: Callable[[str], None]) -> Utterance:
        return _Streamed(self, self._tasks, on_delta)

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted = Wanted()) -> str:
        return await self.hear(self.open(), pcm, last=True)

    async def hear(self, heard: "_Heard", pcm: Pcm, *, last: bool = False) -> str:
        """All words so far. Raises OverloadedError."""
        return str(await self._run(self._hear, heard, pcm, last))

    def open(self) -> "_Heard":
        return _Heard(self._model.create_stream(), Resampler(MODEL_RATE, RATE))

    async def close(self) -> None:
        await self._tasks.close()
        await super().close()

    def _hear(self, heard: "_Heard", pcm: Pcm, last: bool) -> str:  # noqa: FBT001
        stream = heard.stream
        stream.accept_waveform(RATE, _floats(heard.resampler.process(pcm)))
        if last:
            stream.accept_waveform(RATE, np.zeros(int(TAIL_S * RATE), np.float32))
            stream.input_finished()
        while self._model.is_ready(stream):
            self._model.decode_stream(stream)
        return str(self._model.get_result(stream)).strip()


@dataclass(frozen=True, slots=True)
class _Heard:
    stream: Any
    resampler: Resampler


class _Streamed:
    def __init__(
        self, recogniser: StreamingRecogniser, tasks: TaskOwner, on_delta: Callable[[str], None]
    ) -> None:
        self._recogniser = recogniser
        self._on_delta = on_delta
        self._sound: list[Pcm] = []
        self._more = asyncio.Event()
        self._over = False
        self._words = Pending(tasks, self._run)

    def push(self, pcm: Pcm) -> None:
        if self._words.done:
            return
        self._sound.append(pcm)
        self._more.set()
        if len(self._sound) > MAX_BEHIND:
            self._words.fail("the speech recogniser does not keep up")
            self.abandon()

    async def finish(self) -> str:
        self._over = True
        self._more.set()
        return await self._words.wait()

    def abandon(self) -> None:
        self._words.abandon()

    async def _run(self) -> None:
        try:
            self._words.tell(await self._hear())
        except BridgeError as error:
            self._words.fail(error.message)

    async def _hear(self) -> str:
        heard = self._recogniser.open()
        told = ""
        while True:
            await self._more.wait()
            self._more.clear()
            over, sound, self._sound = self._over, self._sound, []
            pcm = np.concatenate((np.empty(0, np.int16), *sound))
            words = await self._recogniser.hear(heard, pcm, last=over)
            # What was heard may still change: only what goes on from before is told.
            if words.startswith(told) and words != told:
                self._on_delta(words[len(told) :])
                told = words
            if over:
                return words


class Voice:
    """One text at a time, for all calls. Loading it takes seconds, and raises ConfigError."""

    def __init__(self, settings: TtsSettings) -> None:
        _known("cascade.tts.family", settings.family, VOICES)
        sherpa = _library("cascade.tts")
        self._settings = settings
        config, patterns = VOICES[settings.family]
        # Since its version 2 sherpa-onnx knows no pronunciation but that of a lexicon.
        patterns = {**patterns, "tokens": "tokens.txt", "lexicon": "lexicon*.txt"}
        files = _find(settings.model, patterns, "cascade.tts")

        def make() -> Any:
            part = getattr(sherpa, config)(**files)
            options = {settings.family: part, "num_threads": VOICE_THREADS}
            whole = sherpa.OfflineTtsConfig(model=sherpa.OfflineTtsModelConfig(**options))
            if not whole.validate():
                raise ValueError("sherpa-onnx says above what it lacks")
            return sherpa.OfflineTts(whole)

        self._model = _load(make, "cascade.tts")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sherpa-tts")

    async def start(self) -> None:
        """It is loaded."""

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, on_words: OnWords | None = None
    ) -> AsyncGenerator[Pcm, None]:
        loop = asyncio.get_running_loop()
        sounds: asyncio.Queue[Pcm | None] = asyncio.Queue()
        stopped = threading.Event()

        def heard(samples: Any, _: float) -> int:
            if not stopped.is_set():
                loop.call_soon_threadsafe(sounds.put_nowait, _pcm(np.array(samples)))
            return 0 if stopped.is_set() else 1

        def speak() -> None:
            try:
                if not stopped.is_set():
                    self._model.generate(text, sid=self._number(voice), speed=speed, callback=heard)
            finally:
                loop.call_soon_threadsafe(sounds.put_nowait, None)

        resampler: Resampler | None = None
        job = loop.run_in_executor(self._thread, speak)
        try:
            while (pcm := await self._next(sounds)) is not None:
                resampler = resampler or Resampler(self._model.sample_rate, MODEL_RATE)
                yield resampler.process(pcm)
            if resampler is not None:
                yield resampler.flush()
            await job
        except RuntimeError as error:
            raise BackendError(f"the voice failed: {error}") from error
        finally:
            stopped.set()

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def _next(self, sounds: "asyncio.Queue[Pcm | None]") -> Pcm | None:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await sounds.get()
        except TimeoutError:
            raise BackendError("the voice did not speak in time") from None

    def _number(self, voice: str) -> int:
        """Of a speaker among those of the model."""
        for name in (voice, self._settings.voice):
            if name.isdecimal() and int(name) < self._model.num_speakers:
                return int(name)
        return 0


def _known(setting: str, value: str, known: Any) -> None:
    if value not in known:
        names = ", ".join(known)
        raise ConfigError(f'{setting}: there is {names}, not "{value}"', param=setting)


def _find(directory: str, patterns: Files, part: str) -> dict[str, str]:
    """The file of each parameter; one of 8 bits where there are two. Raises ConfigError."""
    setting = f"{part}.model"
    folder = Path(directory)
    if not directory or not folder.is_dir():
        raise ConfigError(
            f'{setting} needs the directory of a model of sherpa-onnx, not "{directory}"',
            param=setting,
        )
    found: dict[str, str] = {}
    for name, pattern in patterns.items():
        files = sorted(folder.glob(pattern), key=lambda file: (".int8." not in file.name, file))
        if not files:
            raise ConfigError(f"{setting}: there is no {pattern} in {directory}", param=setting)
        found[name] = str(files[0])
    return found


def _library(part: str) -> Any:
    try:
        import sherpa_onnx
    except ImportError as error:
        raise ConfigError(
            f'{part}.kind = "sherpa" needs sherpa-onnx: pip install "realtime-bridge[sherpa]"',
            param=f"{part}.kind",
        ) from error
    return sherpa_onnx


def _load(make: Callable[[], Any], part: str) -> Any:
    try:
        return make()
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        setting = f"{part}.model"
        raise ConfigError(f"{setting} cannot be used: {error}", param=setting) from error


def _floats(pcm: Pcm) -> Any:
    return pcm.astype(np.float32) / 32768.0


def _pcm(samples: Any) -> Pcm:
    pcm: Pcm = np.clip(samples * 32768.0, -32768, 32767).astype(np.int16)
    return pcm

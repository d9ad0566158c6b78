"""What every cascade conversation shares: the models, their processes and connections."""

import asyncio
from collections.abc import Callable

from bridge.backends.base import Pcm
from bridge.backends.cascade import sherpa
from bridge.backends.cascade.ending import SmartTurn
from bridge.backends.cascade.llm import ChatModel
from bridge.backends.cascade.phrases import Phrases
from bridge.backends.cascade.settings import CascadeSettings, SttSettings, TtsSettings
from bridge.backends.cascade.stt import Hints, PocketSphinx, SpeechToText, Wanted
from bridge.backends.cascade.stt_openai import HttpSpeechToText
from bridge.backends.cascade.stt_realtime import RealtimeSpeechToText
from bridge.backends.cascade.tts import EspeakVoice, TextToSpeech
from bridge.backends.cascade.tts_openai import HttpTextToSpeech
from bridge.backends.cascade.vad import VadBatch, load_silero
from bridge.errors import BackendError, ConfigError


class Parts:
    """Started once, closed once; parts may be given instead of made from the settings.

    Raises:
        ConfigError: a setting names a part that does not exist.
    """

    def __init__(
        self,
        settings: CascadeSettings,
        *,
        chat: ChatModel | None = None,
        stt: SpeechToText | None = None,
        tts: TextToSpeech | None = None,
    ) -> None:
        _check("cascade.vad", settings.vad, "silero")
        self.settings = settings
        self.chat = chat or ChatModel(settings)
        self.stt = stt or _make_stt(settings.stt)
        self.tts = tts or _make_tts(settings.tts)
        self.phrases = Phrases(self.tts)
        self.turn_model = SmartTurn(settings.turn_model) if settings.turn_model else None
        self._vad: VadBatch | None = None
        self._started = False

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted) -> str:
        """One attempt, for as long as it may take. Raises BridgeError."""
        try:
            async with asyncio.timeout(self.settings.stt.timeout_s):
                return await self.stt.transcribe(pcm, hints, wanted)
        except TimeoutError:
            raise BackendError("the speech recogniser did not answer in time") from None

    def load_vad(self) -> VadBatch:
        """Raises ConfigError."""
        if self._vad is None:
            self._vad = VadBatch(load_silero())
        return self._vad

    async def start(self) -> None:
        """Load the models and warm the programs; a second time it does nothing.

        Raises:
            ConfigError: something is not installed.
            BackendError: a program does not start.
        """
        self.load_vad()
        await asyncio.gather(self.stt.start(), self.tts.start())
        if not self._started:
            self._started = True
            settings = self.settings
            for text in (settings.greeting, settings.apology):
                await self.phrases.prepare(text, voice=settings.voice)

    async def close(self) -> None:
        await self.stt.close()
        await self.tts.close()
        await self.chat.close()
        if self.turn_model is not None:
            self.turn_model.close()
        if self._vad is not None:
            self._vad.close()


def _make_stt(settings: SttSettings) -> SpeechToText:
    makers: dict[str, Callable[[], SpeechToText]] = {
        "pocketsphinx": lambda: PocketSphinx(settings.workers),
        "openai": lambda: HttpSpeechToText(settings),
        "openai-realtime": lambda: RealtimeSpeechToText(settings),
        "sherpa": lambda: sherpa.recogniser(settings),
    }
    _check("cascade.stt.kind", settings.kind, *makers)
    return makers[settings.kind]()


def _make_tts(settings: TtsSettings) -> TextToSpeech:
    makers: dict[str, Callable[[], TextToSpeech]] = {
        "espeak-ng": lambda: EspeakVoice(settings.voice),
        "openai": lambda: HttpTextToSpeech(settings),
        "sherpa": lambda: sherpa.Voice(settings),
    }
    _check("cascade.tts.kind", settings.kind, *makers)
    return makers[settings.kind]()


def _check(setting: str, value: str, *known: str) -> None:
    if value not in known:
        raise ConfigError(f"{setting}: there is {', '.join(known)}, not {value}", param=setting)

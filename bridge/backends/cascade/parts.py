"""What every cascade conversation shares: the models, their processes and connections."""

import asyncio

from bridge.backends.cascade.llm import ChatModel
from bridge.backends.cascade.settings import CascadeSettings
from bridge.backends.cascade.stt import PocketSphinx, SpeechToText
from bridge.backends.cascade.tts import EspeakVoice, TextToSpeech
from bridge.backends.cascade.vad import VadBatch, load_silero
from bridge.errors import ConfigError


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
        self.chat = chat or ChatModel(settings)
        self.stt = stt or _make_stt(settings)
        self.tts = tts or _make_tts(settings)
        self._vad: VadBatch | None = None

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

    async def close(self) -> None:
        await self.stt.close()
        await self.tts.close()
        await self.chat.close()
        if self._vad is not None:
            self._vad.close()


def _make_stt(settings: CascadeSettings) -> SpeechToText:
    _check("cascade.stt", settings.stt, "pocketsphinx")
    return PocketSphinx(settings.stt_workers)


def _make_tts(settings: CascadeSettings) -> TextToSpeech:
    _check("cascade.tts", settings.tts, "espeak-ng")
    return EspeakVoice(settings.tts_voice)


def _check(setting: str, value: str, *known: str) -> None:
    if value not in known:
        raise ConfigError(f"{setting}: there is {', '.join(known)}, not {value}", param=setting)

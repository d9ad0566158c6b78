"""Sound made before it is needed: the greeting, and the apology for when nothing else works."""

import asyncio
import logging
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass, field

from bridge.backends.base import Pcm
from bridge.backends.cascade.tts import TextToSpeech, Word
from bridge.errors import BridgeError

log = logging.getLogger(__name__)

MAX_PHRASES = 64  # voices and speeds of a few texts
Key = tuple[str, str, float]


@dataclass(frozen=True, slots=True)
class Phrase:
    sound: list[Pcm]
    words: list[Word] = field(default_factory=list)
    """When each is spoken, from a voice that knows."""


class Phrases:
    def __init__(self, tts: TextToSpeech) -> None:
        self._tts = tts
        self._phrases: OrderedDict[Key, Phrase] = OrderedDict()
        self._making: dict[Key, asyncio.Lock] = {}

    def find(self, text: str, *, voice: str, speed: float) -> Phrase | None:
        return self._phrases.get((text, voice, speed))

    async def prepare(self, text: str, *, voice: str, speed: float = 1.0) -> None:
        """Have the sound of `text` ready; what cannot be made now is made when it is spoken."""
        key = (text, voice, speed)
        if not text or key in self._phrases:
            return
        lock = self._making.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                if key not in self._phrases:
                    words: list[Word] = []
                    speech = self._tts.speak(text, voice=voice, speed=speed, on_words=words.extend)
                    async with aclosing(speech) as pieces:
                        sound = [pcm async for pcm in pieces if len(pcm)]
                    if sound:
                        self._phrases[key] = Phrase(sound, words)
        except BridgeError as error:
            log.warning("phrase not prepared", extra={"error": error.message})
        finally:
            self._making.pop(key, None)
        while len(self._phrases) > MAX_PHRASES:
            self._phrases.popitem(last=False)

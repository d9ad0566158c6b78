"""What is said while a tool runs, so that the caller does not wait in silence.

It is no part of any response: neither clients nor the model ever hear of it.
"""

import asyncio
from collections.abc import Callable

import numpy as np

from bridge.backends.base import Aside, Pcm
from bridge.backends.cascade.parts import Parts
from bridge.tasks import TaskOwner

LATER = 4
"""How many times longer the waits are after the first."""
NOTHING: Pcm = np.empty(0, np.int16)


class Fillers:
    """One phrase after another, the last again and again, each after a while of silence."""

    def __init__(self, parts: Parts, tasks: TaskOwner, emit: Callable[[Aside], None]) -> None:
        self._phrases = parts.phrases
        self._texts = parts.settings.fillers
        self._after_s = parts.settings.filler_after_s
        self._tasks = tasks
        self._emit = emit
        self._voice = ("", 1.0)
        self._told = 0
        self._awaited = False
        self._speaking = False
        self._waiting: asyncio.Task[None] | None = None

    async def prepare(self, *, voice: str, speed: float) -> None:
        for text in self._texts:
            await self._phrases.prepare(text, voice=voice, speed=speed)

    def tool_called(self, *, voice: str, speed: float) -> None:
        """Its result is awaited from now on."""
        self._voice = (voice, speed)
        self._told = 0
        self._awaited = bool(self._texts)
        self._wait()

    def agent_speaking(self, *, speaking: bool) -> None:
        self._speaking = speaking
        self._wait()

    def stop(self) -> None:
        """The model goes on."""
        self._awaited = False
        self._wait()

    def interrupt(self) -> None:
        """The caller speaks: what is being said stops."""
        if self._awaited and self._told and self._speaking:
            self._emit(Aside(NOTHING))
        self.stop()

    def _wait(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._awaited and not self._speaking:
            self._waiting = self._tasks.spawn(self._fill(), name="filler")

    async def _fill(self) -> None:
        await asyncio.sleep(self._after_s * (LATER if self._told else 1))
        text = self._texts[min(self._told, len(self._texts) - 1)]
        voice, speed = self._voice
        await self._phrases.prepare(text, voice=voice, speed=speed)
        phrase = self._phrases.find(text, voice=voice, speed=speed)
        self._told += 1
        if phrase is not None:
            self._emit(Aside(np.concatenate(phrase.sound)))

"""A caller who is to wait: nobody hears what is said meanwhile, and a tone tells of the line."""

import asyncio
from collections.abc import Callable

import numpy as np

from bridge.audio.tones import sine
from bridge.backends.base import Pcm

TONE = sine(440, 0.3, amplitude=1500)
EVERY_S = 4.0


class Hold:
    def __init__(self) -> None:
        self.waits = 0
        """For how many reasons."""

    def hear(self, pcm: Pcm) -> Pcm:
        """The caller, or silence in the caller's place: the model's clock runs on."""
        return np.zeros_like(pcm) if self.waits else pcm

    async def keep(self, seconds: float, play: Callable[[Pcm], None]) -> None:
        """`play` gets the tone, again and again."""
        self.waits += 1
        try:
            async with asyncio.timeout(seconds):
                while True:
                    play(TONE)
                    await asyncio.sleep(EVERY_S)
        except TimeoutError:
            return
        finally:
            self.waits -= 1

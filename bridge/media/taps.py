"""Both sides of a call in step: what the caller said and what the caller heard, 20 ms at a time.

The clock is that of the playout. What the caller says comes by the network's: a frame may be up to
two frames late, and then there are more at once. So one side waits a little for the other; when it
has waited long enough, the other was silent: a caller who has not begun, a standstill of ours.
"""

from collections import deque
from collections.abc import Callable

import numpy as np

from bridge.audio.frames import MODEL_FRAME, Pcm

WAIT = 3
"""Frames: what the jitter buffer holds a gap open for, and the one that is due."""

SILENCE: Pcm = np.zeros(MODEL_FRAME, np.int16)
SILENCE.flags.writeable = False


class Tap:
    """`on_pair` gets frames of 480 samples at 24 kHz, (said, heard), as many as the call lasts in
    20 ms. They are not copies: they are to be read only."""

    def __init__(self, on_pair: Callable[[Pcm, Pcm], None]) -> None:
        self._on_pair = on_pair
        self._said: deque[Pcm] = deque()
        self._heard: deque[Pcm] = deque()
        self._begun = False

    def say(self, frame: Pcm) -> None:
        """By the caller, on the way to the model."""
        self._begun = True
        self._said.append(frame)
        self._pair()

    def hear(self, frame: Pcm | None) -> None:
        """By the caller, in its next packet; None: silence. Once in 20 ms."""
        self._heard.append(SILENCE if frame is None else frame)
        self._pair()

    def flush(self) -> None:
        """The call is over: what waits has waited long enough."""
        while self._said or self._heard:
            self._emit()

    def _pair(self) -> None:
        said, heard = self._said, self._heard
        while said and heard:
            self._emit()
        while len(said) > WAIT or len(heard) > (WAIT if self._begun else 0):
            self._emit()

    def _emit(self) -> None:
        said = self._said.popleft() if self._said else SILENCE
        self._on_pair(said, self._heard.popleft() if self._heard else SILENCE)

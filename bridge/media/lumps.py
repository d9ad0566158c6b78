"""What the caller says, several frames at a time while there is little time left.

Whether somebody begins or has finished is told by the first frame of sound and by the silence
after the last, so the first goes at once and the silence in twos. In the midst of either 100 ms
say no more than their frames would.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from bridge.audio.frames import MODEL_FRAME, Pcm
from bridge.load import LOAD, Load
from bridge.media.verbatim import STEP

LOUD = 800
"""The peak of a frame with a voice in it, about -32 dBFS."""
PAIR, LUMP = 2, 5
PAUSE = 5  # frames: between words rather than within one
BEGUN = 15  # a detector has surely heard a voice after so many
ENDED = 50  # and that it is over

Told = tuple[Pcm, bytes | None]


class Rows(Protocol):
    """Where the frames of many streams wait."""

    def count(self, row: int, /) -> int: ...

    def take(self, row: int, /) -> tuple[Pcm, bytes]: ...


class Lumps:
    """Of one stream; `allowed` is asked before a frame is kept for others, and before several are
    told as one."""

    def __init__(self, allowed: Callable[[], bool], load: Load = LOAD) -> None:
        self.allowed = allowed
        self.elsewhere: tuple[Rows, int] | None = None
        """Where frames wait instead, and in which row."""
        self._load = load
        self._held: list[Told] = []
        self._quiet = ENDED  # frames since the last loud one
        self._voiced = BEGUN  # frames since the voice began

    def __len__(self) -> int:
        """Frames that wait."""
        if self._held or self.elsewhere is None:
            return len(self._held)
        rows, row = self.elsewhere
        return rows.count(row)

    def push(self, frame: Pcm, coded: bytes | None, *, loud: bool | None) -> Sequence[Told]:
        """What is to be told now, if anything. `coded`: the same as octets; `loud`: None if that
        is still to be found out."""
        if self._load.high:
            size = self._size(bool(frame.max() > LOUD) if loud is None else loud)
        elif self._held:
            size = 1
        else:
            return ((frame, coded),)
        self._held.append((frame, coded))
        number = len(self._held)
        if number < size and (number > 1 or self.allowed()):
            return ()
        return self.take()

    def _size(self, loud: bool) -> int:  # noqa: FBT001
        """How many frames may go together."""
        self._voiced += 1
        if loud:
            began = self._quiet >= PAUSE
            self._quiet = 0
            if began:
                self._voiced = 0
                return 1
        else:
            self._quiet += 1
        return PAIR if self._voiced < BEGUN or PAUSE <= self._quiet < ENDED else LUMP

    def take(self) -> Sequence[Told]:
        """What waits, as one if that is allowed."""
        held, self._held = self._held, []
        rest = self._taken_elsewhere()
        if not held:
            return rest
        if len(held) < 2 or not self.allowed():
            return [*held, *rest]
        octets = [coded for _, coded in held if coded is not None]
        frames = np.concatenate([frame for frame, _ in held])
        return [(frames, b"".join(octets) if len(octets) == len(held) else None), *rest]

    def _taken_elsewhere(self) -> Sequence[Told]:
        if self.elsewhere is None:
            return ()
        rows, row = self.elsewhere
        frames, octets = rows.take(row)
        if len(frames) <= MODEL_FRAME or self.allowed():
            return ((frames, octets),) if octets else ()
        return [
            (frames[at : at + MODEL_FRAME], octets[at // STEP : (at + MODEL_FRAME) // STEP])
            for at in range(0, len(frames), MODEL_FRAME)
        ]

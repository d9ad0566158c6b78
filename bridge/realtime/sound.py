"""What one content part sounds like, in the pieces it came in: they are kept, not copied."""

import numpy as np

from bridge.realtime.outputs import Pcm

NOTHING: Pcm = np.empty(0, np.int16)
MANY = 500
"""Pieces that each cost more than the samples of a tiny one."""


class Sound:
    __slots__ = ("_pieces", "_samples")

    def __init__(self) -> None:
        self._pieces: list[Pcm] = []
        self._samples = 0

    def __len__(self) -> int:
        """In samples."""
        return self._samples

    def add(self, pcm: Pcm) -> None:
        """Whoever gives `pcm` leaves it alone from now on."""
        if len(self._pieces) >= MANY:
            self._pieces = [self.pcm]
        self._pieces.append(pcm)
        self._samples += len(pcm)

    def cut(self, samples: int) -> int:
        """Keep so many at most. Returns how many are gone."""
        surplus = max(0, self._samples - samples)
        if surplus:
            kept = self.pcm[:samples].copy()
            self._pieces, self._samples = [kept], len(kept)
        return surplus

    @property
    def pcm(self) -> Pcm:
        """All of it."""
        return np.concatenate((NOTHING, *self._pieces))

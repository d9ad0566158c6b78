"""What callers say, gathered as `lumps` does, for streams that are heard together: a row each."""

import numpy as np
from numpy.typing import NDArray

from bridge.audio.frames import MODEL_FRAME, Pcm
from bridge.audio.g711 import Octets
from bridge.load import LOAD, Load
from bridge.media.inbound import G711_FRAME
from bridge.media.lumps import BEGUN, ENDED, LUMP, PAIR, PAUSE
from bridge.media.steady import Index

Flags = NDArray[np.bool_]


class LumpRows:
    """Of G.711. Rows are numbered by the caller."""

    def __init__(self, load: Load = LOAD) -> None:
        self._load = load
        self._some = False  # whether frames wait, as far as is known
        self._held = np.zeros(0, np.int64)  # frames that wait
        self._quiet = np.zeros(0, np.int64)  # frames since the last loud one
        self._voiced = np.zeros(0, np.int64)  # and since the voice began
        self._frames = np.zeros((0, LUMP, MODEL_FRAME), np.int16)
        self._octets = np.zeros((0, LUMP, G711_FRAME), np.uint8)

    def reserve(self, rows: int) -> None:
        """Room for so many."""
        more = rows - len(self._held)
        self._held, self._quiet, self._voiced = (
            np.concatenate((numbers, np.zeros(more, np.int64)))
            for numbers in (self._held, self._quiet, self._voiced)
        )
        frames = np.zeros((more, LUMP, MODEL_FRAME), np.int16)
        self._frames = np.concatenate((self._frames, frames))
        octets = np.zeros((more, LUMP, G711_FRAME), np.uint8)
        self._octets = np.concatenate((self._octets, octets))

    def reset(self, row: int) -> None:
        """Row `row` starts anew, after a long silence."""
        self._held[row] = 0
        self._quiet[row], self._voiced[row] = ENDED, BEGUN

    @property
    def wanted(self) -> bool:
        """Whether frames are to wait, or some do."""
        if self._some and not self._load.high:
            self._some = bool(self._held.any())
        return self._some or self._load.high

    def push(self, rows: Index, frames: Pcm, octets: Octets, loud: Flags) -> list[tuple[int, bool]]:
        """A frame of each row: at which places it is the first of a lump, or the last: True."""
        # Where telling a lump has failed it is still there: its last frame gives way.
        held = np.minimum(self._held[rows], LUMP - 1)
        self._frames[rows, held] = frames
        self._octets[rows, held] = octets
        held += 1
        self._held[rows] = held
        self._some = True
        whole = held >= (self._sizes(rows, loud) if self._load.high else 1)
        places = np.flatnonzero(whole | (held == 1))
        return list(zip(places.tolist(), whole[places].tolist(), strict=True))

    def _sizes(self, rows: Index, loud: Flags) -> NDArray[np.int64]:
        """How many frames may go together."""
        quiet = self._quiet[rows]
        began = loud & (quiet >= PAUSE)
        voiced = np.where(began, 0, self._voiced[rows] + 1)
        quiet = np.where(loud, 0, quiet + 1)
        self._quiet[rows] = quiet
        self._voiced[rows] = voiced
        paired = (voiced < BEGUN) | (quiet >= PAUSE) & (quiet < ENDED)
        return np.where(began, 1, np.where(paired, PAIR, LUMP))

    def count(self, row: int) -> int:
        """Frames that wait."""
        return int(self._held[row])

    def take(self, row: int) -> tuple[Pcm, bytes]:
        """What waits, end to end, and the same as octets."""
        count = int(self._held[row])
        self._held[row] = 0
        # Copied: the next lump is put in its place.
        return self._frames[row, :count].flatten(), self._octets[row, :count].tobytes()

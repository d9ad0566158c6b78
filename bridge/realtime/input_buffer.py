"""The input audio buffer: what was heard and not yet committed, on the clock of all audio."""

import numpy as np

from bridge.realtime.outputs import Pcm

SAMPLES_PER_MS = 24
CAP_MS = 15 * 60 * 1000
_WIDTH = 2  # bytes a sample


class InputBuffer:
    """Keeps all audio from a point on while `holding`, otherwise the newest `idle_ms` only.

    At the cap the beginning is kept and newer audio is dropped; the clock runs on.
    """

    def __init__(self, *, idle_ms: int, holding: bool) -> None:
        self.idle_ms = idle_ms
        self.holding = holding
        self._data = bytearray()
        self._first = 0  # index of the first sample kept
        self._open = 0  # index of the first sample that no commit has taken
        self._heard = 0

    @property
    def heard_ms(self) -> int:
        """All audio since the session began."""
        return self._heard // SAMPLES_PER_MS

    @property
    def pending_ms(self) -> int:
        """What a commit would take."""
        kept = self._first + len(self._data) // _WIDTH
        return max(0, kept - max(self._open, self._first)) // SAMPLES_PER_MS

    @property
    def full(self) -> bool:
        return self.holding and self.pending_ms >= CAP_MS

    def append(self, pcm: Pcm) -> None:
        self._heard += len(pcm)
        if self.holding and len(self._data) >= CAP_MS * SAMPLES_PER_MS * _WIDTH:
            return
        if self._first + len(self._data) // _WIDTH != self._heard - len(pcm):
            # Audio was dropped at the cap: what is left from before it is not adjacent.
            self._data.clear()
            self._first = self._heard - len(pcm)
        if len(pcm):
            # Without a copy on the way: minutes of sound may come in one event.
            self._data += np.ascontiguousarray(pcm).data.cast("B")
        if not self.holding:
            self._trim(self.idle_ms * SAMPLES_PER_MS * _WIDTH)

    def begin(self, audio_ms: int) -> int:
        """Speech began at `audio_ms`: hold from there. Returns the millisecond really kept."""
        kept_from = max(self._open, self._first)
        self._open = min(max(audio_ms * SAMPLES_PER_MS, kept_from), self._heard)
        self.holding = True
        return self._open // SAMPLES_PER_MS

    def take(self, end_ms: int | None = None) -> Pcm:
        """Samples not yet committed, up to `end_ms` of the clock; they are then committed."""
        end = self._heard if end_ms is None else min(end_ms * SAMPLES_PER_MS, self._heard)
        begin = max(self._open, self._first)
        self._open = max(begin, end)
        offset = (begin - self._first) * _WIDTH
        taken = bytes(self._data[offset : max(offset, (end - self._first) * _WIDTH)])
        self._drop(min((self._open - self._first) * _WIDTH, len(self._data)))
        return np.frombuffer(taken, np.int16)

    def clear(self) -> None:
        self._open = self._heard
        self._first = self._heard
        self._data.clear()

    def _trim(self, size: int) -> None:
        # Twice the size before a cut, so that most appends move nothing.
        if len(self._data) > 2 * size:
            self._drop(len(self._data) - size)

    def _drop(self, size: int) -> None:
        del self._data[:size]
        self._first += size // _WIDTH

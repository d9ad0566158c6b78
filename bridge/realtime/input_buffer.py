"""The input audio buffer: what was heard and not yet committed, on the clock of all audio."""

from collections import deque

import numpy as np

from bridge.realtime.outputs import Pcm

SAMPLES_PER_MS = 24
CAP_MS = 15 * 60 * 1000
UNTRIMMED = SAMPLES_PER_MS * 5 // 4
"""Samples kept for each idle millisecond before the oldest are looked at."""


class InputBuffer:
    """Keeps all audio from a point on while `holding`, otherwise the newest `idle_ms` only.

    At the cap the beginning is kept and newer audio is dropped; the clock runs on.
    """

    def __init__(self, *, idle_ms: int, holding: bool) -> None:
        self.idle_ms = idle_ms
        self.holding = holding
        self._chunks: deque[Pcm] = deque()
        self._kept = 0  # samples in them
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
        kept = self._first + self._kept
        return max(0, kept - max(self._open, self._first)) // SAMPLES_PER_MS

    @property
    def full(self) -> bool:
        return self.holding and self.pending_ms >= CAP_MS

    def append(self, pcm: Pcm) -> None:
        """`pcm` is kept, not copied: minutes of sound may come in one event."""
        size, before = len(pcm), self._heard
        self._heard = before + size
        if not size or (self.holding and self._kept >= CAP_MS * SAMPLES_PER_MS):
            return
        if self._first + self._kept != before:
            # Audio was dropped at the cap: what is left from before it is not adjacent.
            self._chunks.clear()
            self._first, self._kept = before, 0
        self._chunks.append(pcm)
        self._kept += size
        if not self.holding and self._kept > self.idle_ms * UNTRIMMED:
            self._trim(self.idle_ms * SAMPLES_PER_MS)

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
        kept = np.concatenate((np.empty(0, np.int16), *self._chunks))
        taken = kept[begin - self._first : max(begin, end) - self._first]
        rest = kept[min(self._open - self._first, self._kept) :].copy()
        self._chunks = deque((rest,) if len(rest) else ())
        self._first += self._kept - len(rest)
        self._kept = len(rest)
        return taken

    def clear(self) -> None:
        self._open = self._first = self._heard
        self._chunks.clear()
        self._kept = 0

    def _trim(self, size: int) -> None:
        """Up to twice the size is kept, so that little is copied."""
        while (surplus := self._kept - size) > 0:
            oldest = self._chunks[0]
            if len(oldest) <= surplus:
                self._chunks.popleft()
                surplus = len(oldest)
            elif len(oldest) > size:
                self._chunks[0] = oldest[surplus:].copy()
            else:
                return
            self._first += surplus
            self._kept -= surplus

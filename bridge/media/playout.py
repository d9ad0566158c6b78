"""Model audio not yet heard by the caller: who said it, how much of it was heard, what was cut.

Samples leave in the order they were written. Each key (the id of an assistant item) counts what
was written and what was read; a barge-in truncates at the second number, so it moves only when a
frame is really handed to the wire.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from bridge.audio.frames import MODEL_FRAME, Pcm, samples_to_ms

REMEMBERED_KEYS = 64  # ended keys kept to answer played_ms and to refuse their late deltas


@dataclass(frozen=True, slots=True)
class Cut:
    """A key that was cleared before all of it was heard."""

    key: str
    played_ms: int
    written_ms: int


@dataclass(slots=True)
class PlayoutStats:
    underruns: int = 0
    """Times the wire wanted a frame in the middle of a key and had none."""
    cuts: int = 0
    ignored_writes: int = 0
    """Writes to a key that was cleared or finished."""


class _State(Enum):
    OPEN = "open"
    FINISHED = "finished"
    HEARD = "heard"
    CUT = "cut"


@dataclass(slots=True)
class _Track:
    written: int = 0
    read: int = 0
    state: _State = _State.OPEN


_ENDED = (_State.HEARD, _State.CUT)


class Playout:
    """24 kHz mono, in key order. The key "" is anonymous: no callbacks, no cuts."""

    def __init__(self) -> None:
        self.on_started: Callable[[str], None] | None = None
        self.on_finished: Callable[[str], None] | None = None
        self.stats = PlayoutStats()
        self._queue: deque[tuple[str, Pcm | None]] = deque()  # None: the key ends here
        self._offset = 0  # samples of the first chunk already read
        self._queued = 0
        self._tracks: dict[str, _Track] = {}
        self._dry = False

    def write(self, key: str, pcm: Pcm) -> None:
        """`pcm` is kept, not copied: the caller leaves it alone from now on."""
        if not len(pcm):
            return
        if key:
            track = self._tracks.get(key)
            if track is None:
                track = self._open(key)
            elif track.state is not _State.OPEN:
                self.stats.ignored_writes += 1
                return
            track.written += len(pcm)
        self._queue.append((key, pcm))
        self._queued += len(pcm)

    def finish(self, key: str) -> None:
        """No more of `key` will come. A key never written has nothing to finish."""
        track = self._tracks.get(key)
        if track is not None and track.state is _State.OPEN:
            track.state = _State.FINISHED
            self._queue.append((key, None))

    def read(self, samples: int = MODEL_FRAME) -> Pcm | None:
        """The next `samples`, zeros after the end of the last key; None if nothing is to be said.

        A frame that an unfinished key cannot fill yet is held back whole: a late frame is one
        gap, half a frame followed by a late one is two.
        """
        if not self._queue:
            if self._tracks and not self._dry:
                self._note_dry()
            return None
        started: list[str] = []
        finished: list[str] = []
        frame = self._next(samples, started, finished)
        # Last, so that a callback may write or clear.
        for key in started:
            if self.on_started is not None:
                self.on_started(key)
        for key in finished:
            if self.on_finished is not None:
                self.on_finished(key)
        return frame

    def clear(self) -> list[Cut]:
        """Drop everything unread. Later writes of the keys cut are ignored."""
        cuts = []
        for key, track in self._tracks.items():
            unheard = track.state is _State.OPEN or track.read < track.written
            if track.state not in _ENDED and unheard:
                cuts.append(Cut(key, samples_to_ms(track.read), samples_to_ms(track.written)))
                track.state = _State.CUT
        # A key whose last sample was read still owes its on_finished.
        ends = [
            (key, None)
            for key, pcm in self._queue
            if pcm is None and self._tracks[key].state is _State.FINISHED
        ]
        self._queue = deque(ends)
        self._offset = self._queued = 0
        self.stats.cuts += len(cuts)
        return cuts

    def played_ms(self, key: str) -> int:
        """How much of `key` was handed to the wire; 0 for a key never seen."""
        track = self._tracks.get(key)
        return samples_to_ms(track.read) if track is not None else 0

    @property
    def buffered_ms(self) -> int:
        return samples_to_ms(self._queued)

    @property
    def idle(self) -> bool:
        """Nothing to say, and no key from which more is expected."""
        return not self._queue and not any(
            track.state not in _ENDED for track in self._tracks.values()
        )

    def _open(self, key: str) -> _Track:
        if len(self._tracks) >= REMEMBERED_KEYS:
            oldest = next((k for k, t in self._tracks.items() if t.state in _ENDED), None)
            if oldest is not None:
                del self._tracks[oldest]
        track = self._tracks[key] = _Track()
        return track

    def _note_dry(self) -> None:
        self._dry = True
        if any(track.state is _State.OPEN for track in self._tracks.values()):
            self.stats.underruns += 1

    def _must_wait(self, samples: int) -> bool:
        """Too little for a frame, and the key that comes last has not ended."""
        if self._queued >= samples:
            return False
        key, pcm = self._queue[-1]
        return pcm is not None and key != "" and self._tracks[key].state is _State.OPEN

    def _next(self, samples: int, started: list[str], finished: list[str]) -> Pcm | None:
        if self._must_wait(samples):
            if not self._dry:
                self._note_dry()
            return None
        parts: list[Pcm] = []
        wanted = samples
        while self._queue:
            key, pcm = self._queue[0]
            if pcm is None:
                self._queue.popleft()
                self._tracks[key].state = _State.HEARD
                finished.append(key)
                continue
            if not wanted:
                break
            part = pcm[self._offset : self._offset + wanted]
            parts.append(part)
            self._take(key, len(part), started)
            wanted -= len(part)
            self._offset += len(part)
            if self._offset == len(pcm):
                self._queue.popleft()
                self._offset = 0
        if not parts:
            return None
        self._dry = False
        if wanted:
            parts.append(np.zeros(wanted, np.int16))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _take(self, key: str, samples: int, started: list[str]) -> None:
        self._queued -= samples
        if key:
            track = self._tracks[key]
            if not track.read:
                started.append(key)
            track.read += samples

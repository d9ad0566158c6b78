"""Model audio not yet heard by the caller: who said it, how much of it was heard, what was cut.

Samples leave in the order they were written. Each key (the id of an assistant item) counts what
was written and what was read; a barge-in truncates at the second number, so it moves only when a
frame is really handed to the wire.

Speech that stops short, cut or for want of more, is not broken off: it is mirrored and faded, in
5 ms that count as nobody's. Speech that goes on is faded in, after waiting for a little more than
a frame if this has happened before: as much as the model's deltas lately came late.

What is looped back never pauses, so what a standstill left to say would be late for ever: a second
in which some of it was never needed ends by leaving that out.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from bridge.audio.frames import MODEL_FRAME, Pcm, samples_to_ms
from bridge.media.fades import NOTHING, clicks, faded, risen
from bridge.media.verbatim import STEP, Coded, Verbatim, steps

FADE = MODEL_FRAME // 4  # 5 ms
MAX_PREBUFFER = 5 * MODEL_FRAME
CALM_FRAMES = 500  # of speech without a gap, until less is waited for
MAX_STEPS = 50  # frames of a chunk that are cut at a time
LOOP_FRAMES = 50  # looked at before some of a loop is left out
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
        self.on_read: Callable[[Pcm], None] | None = None
        """Every frame of sound, as it leaves."""
        self.on_octets: Callable[[Coded], None] | None = None
        """Told, within `read`, of a frame that is G.711 as it was written."""
        self.paused = False
        """Nothing is read until this is taken back, or all is cleared."""
        self.stats = PlayoutStats()
        # Without samples: the key ends here.
        self._queue: deque[tuple[str, Pcm | None, Coded | None]] = deque()
        self._verbatim: Verbatim | None = None
        self._offset = 0  # samples of the first chunk already read
        self._steps: list[Pcm] = []  # what follows in it, frame by frame, the next one last
        self._coded_steps: list[Coded] = []  # and in octets, if they pass as they are
        self._stepped = 0  # of these, read and not counted yet
        self._queued = 0
        self._looped = 0  # of these, without a key
        self._spare = 0  # least that was left of them, in so many reads, between so many writes
        self._loop_reads = self._loop_writes = 0
        self._tracks: dict[str, _Track] = {}
        self._flowing = False  # the frame before was read from a key
        self._broken = False  # and after it something was missing
        self._last: Pcm = NOTHING  # the frame before, as long as nothing followed it
        self._prebuffer = MODEL_FRAME
        self._waited = 0
        self._calm = 0
        self._when_silent: Callable[[], None] | None = None

    def write(self, key: str, pcm: Pcm, coded: Coded | None = None) -> None:
        """`pcm` is kept, not copied: the caller leaves it alone from now on. `coded`: what it was
        decoded from, an octet for each three samples."""
        if not len(pcm):
            return
        if coded is not None and self._verbatim is None:
            self._end_steps()
            self._verbatim = Verbatim()
        if key:
            track = self._tracks.get(key)
            if track is None:
                track = self._open(key)
            elif track.state is not _State.OPEN:
                self.stats.ignored_writes += 1
                return
            track.written += len(pcm)
        else:
            self._end_steps()
            self._looped += len(pcm)
            self._loop_writes += 1
        self._queue.append((key, pcm, coded))
        self._queued += len(pcm)

    def finish(self, key: str) -> None:
        """No more of `key` will come. A key never written has nothing to finish."""
        track = self._tracks.get(key)
        if track is not None and track.state is _State.OPEN:
            track.state = _State.FINISHED
            self._queue.append((key, None, None))

    def read(self, samples: int = MODEL_FRAME) -> Pcm | None:
        """The next `samples`, zeros after the end of the last key; None if nothing is to be said.

        A frame that an unfinished key cannot fill yet is held back whole: a late frame is one
        gap, half a frame followed by a late one is two.
        """
        if self._steps and samples == MODEL_FRAME and not self.paused:
            frame = self._last = self._steps.pop()
            self._stepped += 1
            if self._coded_steps:
                self._pass_on(self._coded_steps.pop())
            if self.on_read is not None:
                self.on_read(frame)
            return frame
        self._end_steps()
        if self._when_silent is not None:
            return self._read(samples)
        # In the midst of silence, or of what a key says, which is nearly always, there is less to
        # look at.
        if not self._queue and not self._flowing and self._last is NOTHING:
            return None
        if not self._flowing or self.paused or self._looped or not self._queue:
            return self._read(samples)
        key, pcm, coded = self._queue[0]
        begin, end = self._offset, self._offset + samples
        if pcm is None or end >= len(pcm):
            return self._read(samples)
        track = self._tracks[key]
        passes = self._verbatim is not None and self.on_octets is not None
        if not track.read or (passes and (coded is None or begin % STEP)):
            return self._read(samples)
        track.read += samples
        self._queued -= samples
        self._offset = end
        if samples == MODEL_FRAME:
            self._steps = _steps(pcm, end)
            if passes and coded is not None:
                self._coded_steps = steps(coded, begin, 1 + len(self._steps))
                self._pass_on(self._coded_steps.pop())
        frame = pcm[begin:end]
        self._flow(frame)
        if self.on_read is not None:
            self.on_read(frame)
        return frame

    def _pass_on(self, coded: Coded) -> None:
        """A frame in the midst of what a key says."""
        if self._verbatim is not None and self.on_octets is not None:
            self._verbatim.before = coded
            self.on_octets(coded)

    def _end_steps(self) -> None:
        """What follows is looked at anew."""
        if self._steps or self._stepped:
            self._count()
            self._steps.clear()
            self._coded_steps.clear()

    def _count(self) -> None:
        """What was read in steps."""
        number, self._stepped = self._stepped, 0
        if number:
            key, _, _ = self._queue[0]
            self._tracks[key].read += number * MODEL_FRAME
            self._queued -= number * MODEL_FRAME
            self._offset += number * MODEL_FRAME
            self._grow_calm(number)

    def _read(self, samples: int) -> Pcm | None:
        started: list[str] = []
        finished: list[str] = []
        flows = self._queue and not self.paused
        verbatim, goes_on = self._verbatim, self._flowing
        if verbatim is not None:
            verbatim.begin(broken=self._broken)
        frame = self._next(samples, started, finished) if flows else None
        fading = frame is None
        frame = self._stop(samples) if frame is None else self._join(frame)
        if verbatim is not None and self.on_octets is not None:
            coded = verbatim.frame(samples, goes_on=goes_on)
            if coded is not None:
                self.on_octets(coded)
                frame = np.zeros(samples, np.int16) if frame is None else frame
        # Last, so that a callback may write or clear.
        if self._when_silent is not None and not (fading and frame is not None):
            then, self._when_silent = self._when_silent, None
            then()
        for key in started:
            if self.on_started is not None:
                self.on_started(key)
        for key in finished:
            if self.on_finished is not None:
                self.on_finished(key)
        if frame is not None and self.on_read is not None:
            self.on_read(frame)
        return frame

    def clear(self) -> list[Cut]:
        """Drop everything unread. Later writes of the keys cut are ignored."""
        self._end_steps()
        self.paused = False
        cuts = []
        for key, track in self._tracks.items():
            unheard = track.state is _State.OPEN or track.read < track.written
            if track.state not in _ENDED and unheard:
                cuts.append(Cut(key, samples_to_ms(track.read), samples_to_ms(track.written)))
                track.state = _State.CUT
        # A key whose last sample was read still owes its on_finished.
        ends = [
            (key, None, None)
            for key, pcm, _ in self._queue
            if pcm is None and self._tracks[key].state is _State.FINISHED
        ]
        self._queue = deque(ends)
        self._offset = self._queued = self._looped = 0
        self._flowing = self._broken = False
        self.stats.cuts += len(cuts)
        return cuts

    def when_silent(self, then: Callable[[], None]) -> None:
        """After `clear`: call `then` in the read whose packet is the last with any sound of what
        was said before, of its fade or in a filter's memory; at once if that has gone out."""
        self._end_steps()
        self._when_silent = None
        if len(self._last):
            self._when_silent = then
        else:
            then()

    def played_ms(self, key: str) -> int:
        """How much of `key` was handed to the wire; 0 for a key never seen."""
        self._count()
        track = self._tracks.get(key)
        return samples_to_ms(track.read) if track is not None else 0

    @property
    def buffered_ms(self) -> int:
        self._count()
        return samples_to_ms(self._queued)

    @property
    def prebuffer_ms(self) -> int:
        """Speech waited for before a key goes on or begins."""
        self._count()
        return samples_to_ms(self._prebuffer)

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

    def _must_wait(self, samples: int) -> bool:
        """Too little, and the key that comes last has not ended."""
        wanted = samples if self._flowing else max(samples, self._prebuffer)
        if self._queued >= wanted:
            return False
        key, pcm, _ = self._queue[-1]
        if pcm is None or key == "" or self._tracks[key].state is not _State.OPEN:
            return False
        if self._queued >= samples:
            # What a prebuffer takes to fill in real time is as long as it is waited for.
            self._waited += 1
        return self._queued < samples or self._waited * samples < self._prebuffer

    def _stop(self, samples: int) -> Pcm | None:
        """Nothing is to be said, or not yet."""
        if self._flowing:
            self._flowing = False
            self._broken = self.paused or any(
                track.state is _State.OPEN and track.read for track in self._tracks.values()
            )
            if self._broken and not self.paused:
                self.stats.underruns += 1
                self._prebuffer = min(self._prebuffer + MODEL_FRAME, MAX_PREBUFFER)
                self._calm = 0
        edge, self._last = self._last[-FADE:], NOTHING
        return faded(edge, samples) if clicks(edge) else None

    def _join(self, frame: Pcm) -> Pcm:
        if not self._flowing:
            edge = self._last[-FADE:]
            if (self._broken and clicks(frame[:1])) or clicks(edge):
                frame = risen(frame, edge, FADE)
            self._flowing, self._broken = True, False
            self._waited = 0
        self._flow(frame)
        return frame

    def _flow(self, frame: Pcm) -> None:
        self._grow_calm(1)
        self._last = frame

    def _grow_calm(self, frames: int) -> None:
        times, self._calm = divmod(self._calm + frames, CALM_FRAMES)
        if times:
            self._prebuffer = max(MODEL_FRAME, self._prebuffer - times * MODEL_FRAME)

    def _next(self, samples: int, started: list[str], finished: list[str]) -> Pcm | None:
        if self._must_wait(samples):
            return None
        if self._looped:
            self._keep_up(samples)
        parts: list[Pcm] = []
        wanted = samples
        while self._queue:
            key, pcm, coded = self._queue[0]
            if pcm is None:
                self._queue.popleft()
                self._tracks[key].state = _State.HEARD
                finished.append(key)
                continue
            if not wanted:
                break
            part = pcm[self._offset : self._offset + wanted]
            parts.append(part)
            if self._verbatim is not None:
                self._verbatim.take(coded, self._offset, len(part))
            self._take(key, len(part), started)
            wanted -= len(part)
            self._advance(len(part), len(pcm))
        if not parts:
            return None
        if wanted:
            parts.append(faded(parts[-1][-FADE:], wanted))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _keep_up(self, samples: int) -> None:
        left = max(0, self._looped - samples)
        self._spare = min(self._spare, left) if self._loop_reads else left
        self._loop_reads += 1
        if self._loop_reads < LOOP_FRAMES:
            return
        # Of what was written at once, a tone, nothing is late.
        surplus = self._spare if self._loop_writes >= LOOP_FRAMES // 2 else 0
        self._loop_reads = self._loop_writes = 0
        while surplus and self._queue[0][0] == "":
            pcm = self._queue[0][1]
            assert pcm is not None
            part = min(surplus, len(pcm) - self._offset)
            self._looped -= part
            self._queued -= part
            self._advance(part, len(pcm))
            surplus -= part
            self._flowing, self._broken = False, True  # What follows is faded in.

    def _advance(self, samples: int, size: int) -> None:
        """Within the first chunk, which has `size` samples."""
        self._offset += samples
        if self._offset == size:
            self._queue.popleft()
            self._offset = 0

    def _take(self, key: str, samples: int, started: list[str]) -> None:
        self._queued -= samples
        if not key:
            self._looped -= samples
        else:
            track = self._tracks[key]
            if not track.read:
                started.append(key)
            track.read += samples


def _steps(pcm: Pcm, begin: int) -> list[Pcm]:
    """Frames of `pcm` from `begin` on, the first one last. Not the last one of all: it may have to
    be joined to what follows."""
    number = min((len(pcm) - 1 - begin) // MODEL_FRAME, MAX_STEPS)
    if number < 1:
        return []
    return list(pcm[begin : begin + number * MODEL_FRAME].reshape(number, MODEL_FRAME)[::-1])

"""Tells the agent's own voice, come back from the far end, from somebody who speaks to it.

What was played is correlated with what is heard over the delays an echo may have. Speech that is a
copy of it, filtered and faded, is none of the caller's; a caller who really speaks over the agent
is louder than the echo and looks like nothing that was played. What comes out is a verdict on a
moment, not cleaner sound: that is what an echo canceller is for.
"""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from bridge.backends.base import MODEL_RATE, Pcm

Floats = NDArray[np.float32]

RATE = 8000  # a telephone has nothing above
STEP = MODEL_RATE // RATE
WINDOW = RATE * 160 // 1000
MAX_DELAY = RATE * 430 // 1000  # 250 of the far end, and what both jitter buffers hold
KEPT = 2 * RATE  # of either side: a busy machine judges late
SIZE = 8192  # of the transform: at least WINDOW + MAX_DELAY
COPY = 0.5
"""Correlation of the differences of samples above which what is heard is what was played: of the
samples themselves any two voices have more, by the few low harmonics that they mostly are."""
ALIKE = 0.33
"""Enough if it is seen twice at one delay, in different speech: a room blurs its echo."""
LIKELY = 0.2
"""Enough at the delay of an echo that is known, from what is no louder than it should be."""
SAME_DELAY = RATE * 3 // 1000  # the path of an echo does not move
NEAR_DELAY = RATE * 20 // 1000  # but of what the walls give back, now this is loudest, now that
MOVED_DELAY = RATE * 60 // 1000  # a jitter buffer that grows or shrinks
LOUDER = 2.0
"""6 dB: how much louder than its echo a caller is to be heard beside it."""
NO_LOUDER = 1.2
"""1.5 dB: a caller who speaks beside an echo that is known makes it more than this louder."""
LEAST_LOSS = 0.71
"""-3 dB: what comes back is fainter than it left."""
LEAST_ENERGY = 1e4 * WINDOW / 100  # some -50 dBFS over the window
LEAST_DIFFERENCES = LEAST_ENERGY / 10  # as much is left of speech as loud
RARE_GAIN = 0.5
"""-6 dB: an echo that has lost less is rare, and by chance a caller's first syllable may look so.
It is known once it was seen twice."""
NEWS = RATE * 250 // 1000
"""Of what was heard last: a voice that has just begun may be in it."""
PROOF = 2.0
"""Of the energy heard now, how much should have come back before for its lack to tell anything."""
MISSED = 0.25
"""-6 dB of what should have come back."""
PARTS = 16  # of the window: 10 ms each
ENOUGH = PARTS // 2
"""With fewer that sound, what is heard has only begun, and so little finds its like by chance."""


def _edged(sound: Floats) -> Floats:
    return np.diff(sound, prepend=sound[:1])


def _sounding(heard: Floats) -> int:
    """How many parts of a window of differences are not silence."""
    energies = np.square(heard.reshape(PARTS, -1)).sum(axis=1)
    return int(np.count_nonzero(energies >= LEAST_DIFFERENCES / PARTS))


def _around(delay: int, within: int) -> slice:
    return slice(max(0, delay - within), delay + within + 1)


class _Track:
    """The last two seconds of one direction, by position; made slow only where it is looked at."""

    def __init__(self) -> None:
        self.end = 0
        self._pieces: deque[tuple[int, Pcm]] = deque()

    def write(self, at: int, pcm: Pcm) -> None:
        """Samples that belong at `at`; a gap before them is silence."""
        self._pieces.append((at, pcm))
        self.end = at + len(pcm) // STEP
        while self._pieces[0][0] < self.end - KEPT:
            self._pieces.popleft()

    def read(self, begin: int, end: int) -> Floats:
        """Zeros where nothing is kept."""
        out: Floats = np.zeros(end - begin, np.float32)
        for at, pcm in self._pieces:
            size = len(pcm) // STEP
            low, high = max(begin, at), min(end, at + size)
            if low < high:
                wanted = pcm[(low - at) * STEP : (high - at) * STEP].astype(np.float32)
                out[low - begin : high - begin] = wanted.reshape(-1, STEP).mean(axis=1)
        return out


class EchoGate:
    """Positions outside are on the clock of all audio heard, inside samples at RATE."""

    def __init__(self) -> None:
        self._heard = _Track()
        self._played = _Track()
        self._gain = 0.0
        self._delay = 0
        """Of the echo path, as last observed."""
        self._sure = False
        """Whether it was there twice, in different speech."""
        self._sighting = (0, -KEPT)

    def hear(self, pcm: Pcm, end: int) -> None:
        """`end`: the position behind it, in samples at MODEL_RATE."""
        self._heard.write((end - len(pcm)) // STEP, pcm)

    def play(self, pcm: Pcm) -> None:
        """What leaves now, beside what was heard last."""
        now = max(0, self._heard.end - len(pcm) // STEP)
        ahead = self._played.end - now > RATE // 5
        self._played.write(now if ahead else max(now, self._played.end), pcm)

    def is_echo(self, end_ms: int) -> bool:
        """Whether the 160 ms heard before this position are the agent's own voice."""
        end = min(end_ms * RATE // 1000, self._heard.end)
        if end - WINDOW - MAX_DELAY >= self._played.end:
            return False
        heard = self._heard.read(end - WINDOW, end)
        faint = float(heard @ heard) < LEAST_ENERGY
        if faint and not self._sure:
            return False
        played = self._played.read(end - WINDOW - MAX_DELAY, end)
        heard, played = _edged(heard), _edged(played)
        energy = max(1.0, float(heard @ heard))
        squares = np.concatenate(([0.0], np.cumsum(played.astype(np.float64) ** 2)))
        # At the lag k the window begins k samples into `played`.
        powers = squares[WINDOW:] - squares[:-WINDOW]
        if powers.max() < LEAST_DIFFERENCES:
            return False
        spectrum = np.fft.rfft(played, SIZE) * np.conj(np.fft.rfft(heard, SIZE))
        products = np.fft.irfft(spectrum, SIZE)[: MAX_DELAY + 1]
        powers = np.maximum(powers, LEAST_DIFFERENCES / 100)
        likeness = np.abs(products) / np.sqrt(powers * energy)
        best = int(np.argmax(likeness))
        fainter = energy < LEAST_LOSS**2 * float(powers[best])
        copy = likeness[best] >= COPY and _sounding(heard) >= ENOUGH
        seen = fainter and likeness[best] >= ALIKE and self._seen_before(best, end)
        # What it is made louder by beside the straight path is echo too.
        gain = math.sqrt(energy / powers[best])
        known = self._sure and abs(best - self._delay) <= NEAR_DELAY
        alike = fainter and (copy or seen)
        if alike and (known or not self._was_missed(gain, energy, MAX_DELAY - best, end)):
            self._sure = seen or known
            # Between two words it is off, either way.
            self._gain = math.sqrt(gain * self._gain) if known else gain
            self._delay = best
            return True
        if self._sure and energy < NO_LOUDER**2 * self._expected(powers, MOVED_DELAY):
            return True
        near = _around(self._delay, NEAR_DELAY)
        expected = self._expected(powers, NEAR_DELAY)
        likely = LIKELY if self._sure or self._gain < RARE_GAIN else ALIKE
        return bool(likeness[near].max() >= likely and energy < LOUDER**2 * expected)

    def _expected(self, powers: NDArray[np.float64], within: int) -> float:
        """The energy of an echo as it was last, so much earlier or later at most."""
        return self._gain**2 * float(powers[_around(self._delay, within)].max())

    def _was_missed(self, gain: float, energy: float, lag: int, end: int) -> bool:
        """Whether an echo like this would have been heard of what was played before, and was not:
        then it is a caller's vowel, which on one note with the agent's looks the same."""
        played = _edged(self._played.read(end - KEPT, end - NEWS - lag))
        expected = gain**2 * float(played @ played)
        if expected < PROOF * energy:
            return False
        heard = _edged(self._heard.read(end - KEPT + lag, end - NEWS))
        return float(heard @ heard) < MISSED * expected

    def _seen_before(self, delay: int, end: int) -> bool:
        before, at = self._sighting
        if abs(delay - before) <= SAME_DELAY and WINDOW <= end - at <= KEPT:
            return True
        if end - at >= WINDOW:
            self._sighting = (delay, end)
        return False

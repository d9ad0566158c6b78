"""Packet loss concealment of waveforms, in the spirit of G.711 appendix I: what was lost sounds
like the last pitch periods before it.

Unlike the appendix nothing is delayed for the overlap at the start of a gap: the step there is
levelled out within a quarter of a period instead. A gap is synthesised whole when it opens.
"""

import numpy as np
from numpy.typing import NDArray

from bridge.audio.frames import Pcm

MIN_PITCH_S = 0.005  # 200 Hz; of a higher voice several periods are one
MAX_PITCH_S = 0.015
HISTORY_S = 0.05  # three periods, a quarter, and room
FULL_S = 0.01  # at the level of the speech before, then
GONE_S = 0.06  # fading to nothing
OVERLAP_S = 0.004  # more for each 10 ms of gap, where the speech comes back
MAX_OVERLAP_S = 0.01
COARSE_RATE = 8000

Floats = NDArray[np.float32]


def pitch(history: Floats, rate: int) -> int:
    """The lag in samples at which the end of `history` repeats itself best.

    `history` is at least HISTORY_S long. The search is coarse at 8 kHz, then fine.
    """
    step = rate // COARSE_RATE
    if step == 1:
        return _best_lag(history, int(MIN_PITCH_S * rate), int(MAX_PITCH_S * rate), rate)
    whole = len(history) - len(history) % step
    coarse = history[len(history) - whole :].reshape(-1, step).sum(axis=1)
    low, high = int(MIN_PITCH_S * COARSE_RATE), int(MAX_PITCH_S * COARSE_RATE)
    near = _best_lag(coarse, low, high, COARSE_RATE) * step
    return _best_lag(history, near - step, near + step, rate)


def _best_lag(history: Floats, low: int, high: int, rate: int) -> int:
    size = rate // 50
    template = history[-size:]
    searched = history[-size - high : len(history) - low]
    correlation = np.correlate(searched, template, "valid")
    energy = np.cumsum(np.concatenate((_ZERO, searched * searched)))
    energies = energy[size:] - energy[:-size]
    scores = correlation / np.sqrt(np.maximum(energies, 1.0))
    return high - int(scores.argmax())


_ZERO = np.zeros(1, np.float32)


class Concealment:
    """The gaps of one stream of 8, 16 or 24 kHz mono."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.history = int(HISTORY_S * rate)
        """Samples wanted where a gap opens."""
        self._gone = int(GONE_S * rate)
        self._longest = int(MAX_OVERLAP_S * rate)
        fading = self._gone - int(FULL_S * rate)
        self._gains = np.ones(self._gone, np.float32)
        self._gains[-fading:] = np.linspace(1, 0, fading, dtype=np.float32)
        self._wave: Floats = _NOTHING
        self._period = 0
        self._at = 0

    @property
    def active(self) -> bool:
        """A gap is open."""
        return self._at > 0

    @property
    def faded(self) -> bool:
        """What conceals an open gap is silence from now on."""
        return self._at >= self._gone

    def rest(self, samples: int) -> None:
        """As `conceal` once it has faded, for who has silence of his own."""
        self._at += samples

    def conceal(self, history: Pcm, samples: int) -> Pcm:
        """The next `samples` of a gap; `history`, what was heard before, matters as it opens."""
        if not self.active:
            self._open(history)
        part = self._take(samples)
        self._at += samples
        return part.astype(np.int16)

    def resume(self, pcm: Pcm) -> Pcm:
        """What came after the gap, its beginning blended with what the gap would go on with."""
        size = self._period // 4 + int(OVERLAP_S * 100 * self._at)
        size = min(size, self._longest, len(pcm))
        ramp = np.linspace(0, 1, size, endpoint=False, dtype=np.float32)
        blended = pcm.astype(np.float32)
        blended[:size] = blended[:size] * ramp + self._take(size) * (1 - ramp)
        self._at = 0
        return blended.astype(np.int16)

    def end(self) -> None:
        """Nothing comes back that would have to fit."""
        self._at = 0

    def _take(self, samples: int) -> Floats:
        part = self._wave[self._at : self._at + samples]
        if len(part) == samples:
            return part
        return np.concatenate((part, np.zeros(samples - len(part), np.float32)))

    def _open(self, history: Pcm) -> None:
        recent = np.zeros(self.history, np.float32)
        known = history[-self.history :]
        recent[self.history - len(known) :] = known
        period = self._period = pitch(recent, self.rate)
        quarter = period // 4
        ramp = np.linspace(0, 1, quarter, endpoint=False, dtype=np.float32)
        ten = self.rate // 100
        wave = np.empty(self._gone + quarter, np.float32)
        # One period for 10 ms, two for 10 ms, then three: repeated for longer, one would buzz.
        start = 0
        for periods, end in ((1, ten), (2, 2 * ten), (3, self._gone)):
            loop = recent[-periods * period :].copy()
            before = recent[-periods * period - quarter : -periods * period]
            loop[-quarter:] = loop[-quarter:] * (1 - ramp) + before * ramp
            part = np.resize(np.roll(loop, -(start % period)), end + quarter - start)
            if start:
                part[:quarter] = part[:quarter] * ramp + wave[start : start + quarter] * (1 - ramp)
            wave[start : end + quarter] = part
            start = end
        step = recent[-1] - recent[-period - 1]
        wave[:quarter] += step * (1 - ramp)
        np.clip(wave, -32768, 32767, out=wave)
        self._wave = wave[: self._gone] * self._gains


_NOTHING: Floats = np.empty(0, np.float32)

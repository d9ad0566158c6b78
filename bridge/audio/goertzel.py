"""Keys heard in the audio (ITU-T Q.23, Q.24), in that of all calls at once.

The sums that Goertzel's recursion makes for one frequency are made here for all of them as one
matrix product. A window of 22.5 ms every 10 ms: a Hann window keeps tones 1.5 % off their frequency
and tells the rows of the keypad apart, 70 Hz from each other.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bridge.audio.frames import Pcm, samples_per_frame
from bridge.audio.tones import DTMF_FREQUENCIES

WINDOW_S = 0.0225
HOPS_PER_FRAME = 2

MIN_POWER = 250.0**2
"""Of one tone; about -36 dBm0, below what telephones send and above the hiss of a line."""

PURITY = 0.75
"""Share of the window's power that the two tones must have: noise 10 dB below leaves 0.9. Voices
and music put more of theirs elsewhere, if only into overtones."""

FORWARD_TWIST = 10**0.6
"""High tone over low: 6 dB. Q.24 names 4 to 8."""
REVERSE_TWIST = 10**1.0
"""Low tone over high: 10 dB, for long lines dampen the high one."""

RIVAL = 10**-1.0
"""What the next tone of the same group may have: 10 dB less."""
OVERTONE = 10**-1.2
"""What the second harmonic of the high tone may have; that of a low one falls among the high."""

ASIDE = 0.04
"""A tone is nearer to its frequency than to this much below and above: 2 % off at most."""

MIN_WINDOWS = 3
"""In a row for a press: 42 ms from end to end, which a tone of 40 ms touches."""
MIN_GAP = 3
"""Windows without the key that end a press."""

KEYS = "123A456B789C*0#D"
_LOW = sorted({low for low, _ in DTMF_FREQUENCIES.values()})
_HIGH = sorted({high for _, high in DTMF_FREQUENCIES.values()})
_NONE = -1

Floats = NDArray[np.float32]


@lru_cache
def _analyser(rate: int) -> tuple[Floats, Floats]:
    """(samples, 56) cosines and sines under the window, scaled to give amplitude² / 2 once squared;
    and the window's square, scaled to give mean power."""
    size = round(rate * WINDOW_S)
    window = np.hanning(size + 2)[1:-1]
    hertz = np.array(
        [
            hz * factor
            for tones, factor in (
                (_LOW + _HIGH, 1),
                (_LOW + _HIGH, 1 - ASIDE),
                (_LOW + _HIGH, 1 + ASIDE),
                (_HIGH, 2),
            )
            for hz in tones
        ]
    )
    phases = 2 * np.pi * np.arange(size)[:, None] * hertz / rate
    waves = np.concatenate((np.cos(phases), np.sin(phases)), axis=1) * window[:, None]
    waves *= np.sqrt(2) / window.sum()
    return waves.astype(np.float32), (window**2 / (window**2).sum()).astype(np.float32)


class ToneDetector:
    """Any number of streams of 20 ms frames; a row of state each, numbered by the caller."""

    def __init__(self, rate: int = 8000) -> None:
        self.rate = rate
        self._frame = samples_per_frame(rate)
        self._hop = self._frame // HOPS_PER_FRAME
        self._size = round(rate * WINDOW_S)
        self._history = np.zeros((0, self._size - self._hop), np.float32)
        self._candidate = np.zeros(0, np.int8)  # the key of the last windows,
        self._run = np.zeros(0, np.int16)  # how many there were,
        self._pressed = np.zeros(0, np.int8)  # the key told of and not let go,
        self._gap = np.zeros(0, np.int16)  # and windows without it since

    def reset(self, row: int) -> None:
        """Row `row` starts anew, from silence."""
        self._reserve(row + 1)
        self._history[row] = 0
        self._candidate[row] = self._pressed[row] = _NONE
        self._run[row] = self._gap[row] = 0

    def process(self, rows: NDArray[np.intp], frames: Pcm) -> list[tuple[int, str]]:
        """frames[i], of 20 ms, is what comes next in row rows[i]. Gives (row, key) for each press,
        once, some 45 ms after it began."""
        if not len(rows):
            return []
        self._reserve(int(rows.max()) + 1)
        line = np.concatenate((self._history[rows], frames.astype(np.float32)), axis=1)
        self._history[rows] = line[:, self._frame :]
        found: list[tuple[int, str]] = []
        for hop in range(HOPS_PER_FRAME):
            keys = self._keys(line[:, hop * self._hop : hop * self._hop + self._size])
            if keys.max() != _NONE or self._pressed[rows].max() != _NONE:
                found += self._track(rows, keys)
            else:
                self._run[rows] = 0
                self._candidate[rows] = _NONE
        return found

    def _keys(self, windows: Floats) -> NDArray[np.int8]:
        """The key in each window, or -1."""
        waves, square = _analyser(self.rate)
        total = (windows * windows) @ square
        keys = np.full(len(windows), _NONE, np.int8)
        loud = np.flatnonzero(total >= 2 * MIN_POWER)
        if not len(loud):
            return keys
        parts = windows[loud] @ waves
        power = parts[:, :28] ** 2 + parts[:, 28:] ** 2
        groups = power[:, :8].reshape(-1, 2, 4)
        best = groups.argmax(axis=2)
        around = power[:, :24].reshape(-1, 3, 2, 4)
        around = np.take_along_axis(around, best[:, None, :, None], axis=3)[..., 0]
        tones = around[:, 0]
        rivals = np.sort(groups, axis=2)[:, :, 2]
        overtone = power[np.arange(len(loud)), 24 + best[:, 1]]
        low, high = tones[:, 0], tones[:, 1]
        good = (
            (tones >= MIN_POWER).all(axis=1)
            & (low + high >= PURITY * total[loud])
            & (high <= FORWARD_TWIST * low)
            & (low <= REVERSE_TWIST * high)
            & (tones[:, None] >= around[:, 1:]).all(axis=(1, 2))
            & (rivals <= RIVAL * tones).all(axis=1)
            & (overtone <= OVERTONE * high)
        )
        keys[loud[good]] = (best[good, 0] * 4 + best[good, 1]).astype(np.int8)
        return keys

    def _track(self, rows: NDArray[np.intp], keys: NDArray[np.int8]) -> list[tuple[int, str]]:
        heard = keys != _NONE
        same = heard & (keys == self._candidate[rows])
        run = np.where(same, self._run[rows] + 1, heard)
        self._run[rows] = run
        self._candidate[rows] = keys
        pressed = self._pressed[rows]
        gap = np.where(keys == pressed, 0, self._gap[rows] + 1)
        pressed = np.where(gap >= MIN_GAP, _NONE, pressed)
        new = (run >= MIN_WINDOWS) & (pressed == _NONE)
        self._pressed[rows] = np.where(new, keys, pressed)
        self._gap[rows] = np.where(new, 0, gap)
        return [(int(rows[index]), KEYS[keys[index]]) for index in np.flatnonzero(new)]

    def _reserve(self, rows: int) -> None:
        more = max(rows, 2 * len(self._history)) - len(self._history)
        if rows <= len(self._history):
            return
        self._history = np.concatenate(
            (self._history, np.zeros((more, self._history.shape[1]), np.float32))
        )
        none = np.full(more, _NONE, np.int8)
        self._candidate = np.concatenate((self._candidate, none))
        self._pressed = np.concatenate((self._pressed, none))
        self._run = np.concatenate((self._run, np.zeros(more, np.int16)))
        self._gap = np.concatenate((self._gap, np.zeros(more, np.int16)))

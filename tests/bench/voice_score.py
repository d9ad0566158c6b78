"""How near a recording is to what was said: PESQ (ITU P.862), and time that went or came."""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.frames import Pcm
from bridge.audio.resample import Resampler
from tests.bench.peers import ENVIRONMENTS

NARROW, WIDE = 8000, 16_000
WINDOW, HOP, REACH = NARROW * 4 // 10, NARROW // 10, NARROW // 4
MOVED = NARROW * 3 // 1000  # 3 ms: less is the codec's
ALIKE = 0.7
LONGEST_S = 16  # P.862 was made for 8 to 12 s

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """`jumps`: places where the delay changed by 3 ms and more."""

    pesq: float
    wide: bool
    jumps: int
    moved_ms: float
    """The greatest delay less the smallest."""


def has_pesq() -> bool:
    """Ours, or that of scripts/install-peers --all."""
    if importlib.util.find_spec("pesq") is None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        sys.path.append(str(ENVIRONMENTS / "pesq" / "lib" / version / "site-packages"))
    return importlib.util.find_spec("pesq") is not None


def at_rate(pcm: Pcm, rate: int, wanted: int) -> Pcm:
    if rate == wanted:
        return pcm
    # The tail pushes out what the filter holds.
    padded = np.concatenate((pcm, np.zeros(rate // 50, np.int16)))
    return Resampler(rate, wanted).process(padded)


def lag(said: Pcm, heard: Pcm) -> int:
    """Where `said` begins in `heard`, in samples; below 0 if its start is missing."""
    size = 1 << (len(said) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard.astype(float), size) * np.conj(
        np.fft.rfft(said.astype(float), size)
    )
    place = int(np.abs(np.fft.irfft(spectrum, size)).argmax())
    return place - size if place > len(heard) else place


def cut(heard: Pcm, start: int, length: int) -> Pcm:
    """`length` samples from `start`, silence where there are none."""
    padded = np.concatenate((np.zeros(max(0, -start), np.int16), heard[max(0, start) :]))
    return np.concatenate((padded, np.zeros(max(0, length - len(padded)), np.int16)))[:length]


def delays(said: Pcm, heard: Pcm, start: int) -> list[int]:
    """The local delay against `start`, in samples at 8 kHz, wherever something is said."""
    loud = float(np.sqrt(np.mean(said.astype(float) ** 2))) * 0.3
    found = []
    for at in range(0, len(said) - WINDOW, HOP):
        part = said[at : at + WINDOW].astype(float)
        low, high = at + start - REACH, at + start + WINDOW + REACH
        if np.sqrt(np.mean(part**2)) < loud or low < 0 or high > len(heard):
            continue
        around = heard[low:high].astype(float)
        energy = np.cumsum(np.concatenate(([0.0], around**2)))
        energies = (energy[WINDOW:] - energy[:-WINDOW]) * float(part @ part)
        likeness = np.correlate(around, part, "valid") / np.sqrt(energies + 1.0)
        best = int(likeness.argmax())
        if likeness[best] > ALIKE:
            found.append(best - REACH)
    return found


def score(said: Pcm, heard: Pcm, rate: int, *, narrow: bool) -> Score:
    """`said` at 48 kHz, `heard` at `rate`; `narrow`: it came at 8 kHz, whatever it is kept at.

    Raises ImportError where there is no pesq; ask `has_pesq` first.
    """
    pesq: Any = importlib.import_module("pesq")
    near, far = at_rate(said, 48_000, NARROW), at_rate(heard, rate, NARROW)
    start = lag(near, far)
    if narrow:
        told = pesq.pesq(NARROW, near, cut(far, start, len(near)), "nb")
    else:
        spoken, recorded = at_rate(said, 48_000, WIDE), at_rate(heard, rate, WIDE)
        told = pesq.pesq(WIDE, spoken, cut(recorded, 2 * start, len(spoken)), "wb")
    found = delays(near, far, start)
    jumps = sum(abs(b - a) >= MOVED for a, b in pairwise(found))
    moved = 1000 * (max(found) - min(found)) / NARROW if found else 0.0
    return Score(float(told), wide=not narrow, jumps=jumps, moved_ms=moved)

"""Two pieces of sound joined into a shorter one, without a click: the wave is cut where it repeats
itself."""

import numpy as np

from bridge.audio.frames import Pcm

OVERLAP_S = 0.005
TOLERANCE = 0.02  # of the correlation, which is 1 for the same wave


def join_shorter(first: Pcm, second: Pcm, rate: int) -> Pcm:
    """`first` and `second` end to end, less a stretch at the seam: at least OVERLAP_S and at most
    the length of `second`, whatever leaves the two sides of the cut most alike."""
    overlap = min(int(OVERLAP_S * rate), len(first), len(second) // 2)
    if overlap < 2:
        return np.concatenate((first, second[len(second) // 2 :]))
    end = first[-overlap:].astype(np.float32)
    wide = second.astype(np.float32)
    correlation = np.correlate(wide, end, "valid")
    energy = np.cumsum(np.concatenate((np.zeros(1, np.float32), wide * wide)))
    scores = correlation / np.sqrt(np.maximum(energy[overlap:] - energy[:-overlap], 1.0))
    # Of places about equally good, as there are in silence or a vowel, the last shortens most.
    at = int(np.flatnonzero(scores >= scores.max() - TOLERANCE)[-1])
    ramp = np.linspace(0, 1, overlap, endpoint=False, dtype=np.float32)
    seam = end * (1 - ramp) + wide[at : at + overlap] * ramp
    return np.concatenate((first[:-overlap], seam.astype(np.int16), second[at + overlap :]))

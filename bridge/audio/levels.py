"""How loud: root mean square and dBov (RFC 6464's unit, 0 is full scale, below is negative)."""

import math

import numpy as np

from bridge.audio.frames import Pcm

SILENCE_DBOV = -127.0  # the floor of RFC 6464 section 3


def rms(pcm: Pcm) -> float:
    """In sample units, 0 for no samples."""
    if not pcm.size:
        return 0.0
    wide = pcm.astype(np.float32).ravel()
    return math.sqrt(float(np.dot(wide, wide)) / wide.size)


def dbov(pcm: Pcm) -> float:
    """0 for a full-scale square wave, SILENCE_DBOV for digital silence."""
    level = rms(pcm)
    if level == 0.0:
        return SILENCE_DBOV
    return max(SILENCE_DBOV, 20 * math.log10(level / 32768))


def fade(pcm: Pcm, start: float, end: float) -> Pcm:
    """A copy with its gain going from `start` to `end` in a straight line."""
    gains = np.linspace(start, end, len(pcm), endpoint=False, dtype=np.float32)
    return (pcm * gains).astype(np.int16)

"""How loud a sound is."""

import math

import numpy as np

from bridge.audio.frames import Pcm


def rms(pcm: Pcm) -> float:
    """In sample units, 0 for no samples."""
    if not pcm.size:
        return 0.0
    wide = pcm.astype(np.float32).ravel()
    return math.sqrt(float(np.dot(wide, wide)) / wide.size)

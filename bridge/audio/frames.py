"""The shape contract of audio: int16 mono, 20 ms at a time, 24 kHz wherever a model hears it."""

import numpy as np
from numpy.typing import NDArray

FRAME_MS = 20
FRAMES_PER_SECOND = 1000 // FRAME_MS
MODEL_RATE = 24_000  # samples per second between the media plane and every model
MODEL_FRAME = MODEL_RATE // FRAMES_PER_SECOND

Pcm = NDArray[np.int16]
"""Mono samples, shape (samples,) or, as `frames`, (streams, samples)."""


def samples_per_frame(rate: int) -> int:
    """Samples of one 20 ms frame at `rate`; every rate used here divides evenly."""
    return rate * FRAME_MS // 1000


def samples_to_ms(samples: int, rate: int = MODEL_RATE) -> int:
    """Whole milliseconds, rounded down."""
    return samples * 1000 // rate

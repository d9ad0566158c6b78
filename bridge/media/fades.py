"""Edges of sound that is broken off or goes on: how it dies away, how it comes up."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from bridge.audio.frames import Pcm

AUDIBLE = 100  # a step of less is no click: -50 dBFS
NOTHING: Pcm = np.empty(0, np.int16)


def clicks(edge: Pcm) -> bool:
    """Whether nothing may follow its last sample at once."""
    return len(edge) > 0 and abs(int(edge[-1])) >= AUDIBLE


def faded(edge: Pcm, samples: int) -> Pcm:
    """So many samples, in which what `edge` ends with dies away."""
    tail = np.zeros(samples, np.int16)
    if clicks(edge):
        size = min(len(edge), samples)
        tail[:size] = edge[::-1][:size] * _falling(size)
    return tail


def risen(frame: Pcm, edge: Pcm, fade: int) -> Pcm:
    """`frame`, coming up in `fade` samples while `edge` dies away."""
    frame = frame.copy()
    fading = min(fade, len(frame))
    frame[:fading] = frame[:fading] * _rising(fade)[:fading]
    frame[:fading] += faded(edge, fading)
    return frame


@cache
def _falling(samples: int) -> NDArray[np.float32]:
    gains: NDArray[np.float32] = np.cos(np.linspace(0, np.pi / 2, samples, dtype=np.float32)) ** 2
    return gains


@cache
def _rising(samples: int) -> NDArray[np.float32]:
    gains: NDArray[np.float32] = (
        np.sin(np.linspace(0, np.pi / 2, samples, endpoint=False, dtype=np.float32)) ** 2
    )
    return gains

"""G.711: µ-law and A-law by table, 16-bit linear on one side, one octet a sample on the other.

ITU-T G.711 defines values of 14 bits (µ-law) and 13 bits (A-law); both are shifted up to 16.
The encoder takes the nearest value, ties away from zero as G.711's decision values have them.
"""

import numpy as np
from numpy.typing import NDArray

ULAW_SILENCE = 0xFF
ALAW_SILENCE = 0xD5

Octets = NDArray[np.uint8]
Samples = NDArray[np.int16]


def _ulaw_values() -> Samples:
    """G.711 table 2: eight segments of 16 steps, each twice as coarse; stored inverted."""
    code = ~np.arange(256, dtype=np.uint8)
    segment, step = (code >> 4) & 7, (code & 15).astype(np.int32)
    magnitude = ((2 * step + 33) << segment) - 33
    return (np.where(code & 0x80, -magnitude, magnitude) * 4).astype(np.int16)


def _alaw_values() -> Samples:
    """G.711 table 1: the first two segments are equally fine; even bits are stored inverted."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment, step = (code >> 4) & 7, (code & 15).astype(np.int32)
    coarse = (2 * step + 33) << np.maximum(segment, 1) - 1
    magnitude = np.where(segment == 0, 2 * step + 1, coarse)
    return (np.where(code & 0x80, magnitude, -magnitude) * 8).astype(np.int16)


def _inverse(values: Samples) -> Octets:
    """The octet of the nearest value for each of the 65536 samples, indexed as uint16."""
    # Of two octets with one value (µ-law has two zeros) the positive one is taken.
    order = np.lexsort((-np.arange(256), values))
    ordered, first = np.unique(values[order], return_index=True)
    codes = order[first].astype(np.uint8)
    middles = (ordered[1:].astype(np.int32) + ordered[:-1]) / 2
    samples = np.arange(-32768, 32768)
    below = np.searchsorted(middles, samples, side="left")
    above = np.searchsorted(middles, samples, side="right")
    return np.roll(codes[np.where(samples < 0, below, above)], -32768)


ULAW_VALUES = _ulaw_values()
ALAW_VALUES = _alaw_values()
_ULAW_CODES = _inverse(ULAW_VALUES)
_ALAW_CODES = _inverse(ALAW_VALUES)


def ulaw_decode(data: Octets) -> Samples:
    return ULAW_VALUES.take(data)


def ulaw_encode(samples: Samples) -> Octets:
    return _ULAW_CODES.take(samples.view(np.uint16))


def alaw_decode(data: Octets) -> Samples:
    return ALAW_VALUES.take(data)


def alaw_encode(samples: Samples) -> Octets:
    return _ALAW_CODES.take(samples.view(np.uint16))

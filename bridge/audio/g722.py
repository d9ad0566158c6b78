"""G.722 at 64 kbit/s: 16 kHz audio, an octet for two samples, by libg722 and its state per call.

PyAV's G.722 costs twice the time and starts two threads for each encoder.
"""

import numpy as np
from G722 import G722

from bridge.audio.frames import Pcm

SAMPLE_RATE = 16_000
BIT_RATE = 64_000
SAMPLES_PER_OCTET = 2


class G722Encoder:
    """One stream of 16 kHz mono."""

    def __init__(self) -> None:
        self._codec = G722(SAMPLE_RATE, BIT_RATE)

    def encode(self, pcm: Pcm) -> bytes:
        """An even number of samples: octets of half that number."""
        return bytes(self._codec.encode(np.ascontiguousarray(pcm, np.int16)))


class G722Decoder:
    """One stream of 16 kHz mono; any octets are audio."""

    def __init__(self) -> None:
        self._codec = G722(SAMPLE_RATE, BIT_RATE)

    def decode(self, octets: bytes) -> Pcm:
        return np.frombuffer(self._codec.decode(octets), np.int16) if octets else _NOTHING


_NOTHING: Pcm = np.empty(0, np.int16)

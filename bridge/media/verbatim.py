"""G.711 that leaves as it came: the octets of what a playout reads, faded where it stops.

Frames that are not wholly of such octets are nobody's here: the wire encodes their samples.
"""

import numpy as np

from bridge.audio.frames import MODEL_FRAME, MODEL_RATE
from bridge.audio.g711 import Octets, Samples, alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from bridge.media.fades import NOTHING, clicks, faded, risen

Coded = tuple[bytes, str]
"""Octets of G.711, and the law: "PCMU" or "PCMA"."""

STEP = MODEL_RATE // 8000
FADE = 40  # 5 ms

LAWS = {"PCMU": (ulaw_decode, ulaw_encode), "PCMA": (alaw_decode, alaw_encode)}


def steps(coded: Coded, begin: int, number: int) -> list[Coded]:
    """So many frames of `coded` from the model's sample `begin` on, the first one last."""
    octets, law = coded
    size = MODEL_FRAME // STEP
    first = begin // STEP
    return [
        (octets[at : at + size], law) for at in range(first + (number - 1) * size, first - 1, -size)
    ]


class Verbatim:
    """Of one playout: `begin`, then `take` for each piece of a frame, then `frame`."""

    before: Coded | None = None
    """The frame before, as long as nothing followed it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._law = "PCMU"
        self._whole = True
        self._broken = False

    def begin(self, *, broken: bool) -> None:
        """`broken`: sound stopped short before, and goes on now."""
        self._parts.clear()
        self._whole = True
        self._broken = broken

    def take(self, coded: Coded | None, offset: int, samples: int) -> None:
        """`samples` of the model's from `offset` on; their octets are in `coded`."""
        if coded is None or offset % STEP or (self._parts and coded[1] != self._law):
            self._whole = False
            return
        octets, self._law = coded
        self._parts.append(octets[offset // STEP : (offset + samples) // STEP])

    def frame(self, samples: int, *, goes_on: bool) -> Coded | None:
        """What stands for the next `samples`; None if it is not to be had in octets. `goes_on`:
        the frame before was sound as well."""
        before, self.before = self.before, None
        octets, edge = b"".join(self._parts), b""
        if before is not None:
            edge = before[0][-FADE:]
            self._law = self._law if octets else before[1]
        if not self._whole or not (octets or edge):
            return None
        size = samples // STEP
        if not octets:
            return self._end(edge, size) if clicks(self._decode(edge)) else None
        if not goes_on:
            octets = self._begin(octets, edge)
        if len(octets) < size:
            last = octets[-FADE:]
            return octets + self._end(last, size - len(octets))[0], self._law
        self.before = octets, self._law
        return self.before

    def _begin(self, octets: bytes, edge: bytes) -> bytes:
        pcm = self._decode(octets[:FADE])
        before = self._decode(edge)
        if not clicks(before) and not (self._broken and clicks(pcm[:1])):
            return octets
        return self._encode(risen(pcm, before, FADE)) + octets[FADE:]

    def _end(self, edge: bytes, size: int) -> Coded:
        return self._encode(faded(self._decode(edge), size)), self._law

    def _decode(self, octets: bytes) -> Samples:
        return LAWS[self._law][0](np.frombuffer(octets, np.uint8)) if octets else NOTHING

    def _encode(self, pcm: Samples) -> bytes:
        coded: Octets = LAWS[self._law][1](pcm)
        return coded.tobytes()

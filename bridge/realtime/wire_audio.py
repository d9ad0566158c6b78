"""Audio inside events: base64 of a session's format, to and from 24 kHz samples."""

import binascii
from typing import Protocol

import numpy as np
import pybase64

from bridge.realtime.errors import bad_audio
from bridge.realtime.outputs import Pcm


class WireAudio(Protocol):
    """One direction of one format: it may keep the state of a resampler."""

    def decode(self, data: bytes, /) -> Pcm: ...

    def encode(self, pcm: Pcm, /) -> bytes: ...


class RawPcm:
    """`audio/pcm`: little-endian 16-bit mono at 24 kHz."""

    def decode(self, data: bytes, /) -> Pcm:
        return np.frombuffer(data, "<i2").astype(np.int16, copy=False)

    def encode(self, pcm: Pcm, /) -> bytes:
        return pcm.astype("<i2", copy=False).tobytes()


def decode_audio(audio: str, param: str, name: str, codec: WireAudio) -> Pcm:
    """Raises RequestError if `audio` is not base64 of whole samples."""
    try:
        data = pybase64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError):
        raise bad_audio(f"bytes of '{name}'", param) from None
    if name == "audio/pcm" and len(data) % 2:
        raise bad_audio("16-bit samples", param)
    return codec.decode(data)

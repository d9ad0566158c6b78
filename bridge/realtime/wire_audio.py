"""Audio inside events: base64 of a session's format, to and from 24 kHz samples."""

import binascii
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import pybase64

from bridge.errors import RequestError
from bridge.realtime.errors import bad_audio
from bridge.realtime.outputs import Pcm
from bridge.realtime.session_config import SessionConfig

MAX_AUDIO = 15 * 1024 * 1024  # bytes at 24 kHz in one event: five and a half minutes
_BYTES_PER_BYTE = {"audio/pcm": 1, "audio/pcmu": 6, "audio/pcma": 6}
PIECE = 4 * 48_000  # bytes at 24 kHz, 4 s: what is done at once, while everybody waits


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


def decode_base64(audio: str, param: str, name: str) -> bytes:
    """Raises RequestError if `audio` is not base64 of whole samples."""
    most = MAX_AUDIO // _BYTES_PER_BYTE.get(name, 1)
    if len(audio) > -(-most // 3) * 4:
        raise bad_audio(f"audio of at most {most} bytes", param)
    try:
        data = pybase64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError):
        raise bad_audio(f"bytes of '{name}'", param) from None
    if name == "audio/pcm" and len(data) % 2:
        raise bad_audio("16-bit samples", param)
    return data


class Formats:
    """The codecs of one session. On a call nothing is encoded: the wire has a codec of its own.

    `make` gives a codec by name; without it only audio/pcm is heard.
    """

    def __init__(self, make: Callable[[str], WireAudio] | None, *, on_call: bool) -> None:
        self._make = make
        self._on_call = on_call
        self._input: tuple[str, WireAudio] | None = None

    def playable(self, config: SessionConfig) -> SessionConfig:
        """`config` itself; raises RequestError if its formats cannot be had."""
        if not self._on_call:
            for audio_format in (config.input_format, config.output_format):
                self._codec(audio_format["type"])
        return config

    def append(self, audio: str, config: SessionConfig) -> Iterator[Pcm]:
        """More of the one stream that all appends are, decoded piece by piece as it is taken.
        Raises RequestError at once."""
        name = config.input_format["type"]
        if self._input is None or self._input[0] != name:
            self._input = (name, self._codec(name))
        decode = self._input[1].decode
        data = decode_base64(audio, "audio", name)
        size = PIECE // _BYTES_PER_BYTE.get(name, 1)
        return (decode(data[begin : begin + size]) for begin in range(0, len(data), size))

    def decode(self, audio: str, param: str, config: SessionConfig) -> Pcm:
        """A recording in an item."""
        name = config.input_format["type"]
        return self._codec(name).decode(decode_base64(audio, param, name))

    def encoder(self, audio_format: Mapping[str, Any]) -> Callable[[Pcm], bytes] | None:
        return None if self._on_call else self._codec(audio_format["type"]).encode

    def _codec(self, name: str) -> WireAudio:
        if name == "audio/pcm":
            return RawPcm()
        if self._make is None:
            raise RequestError(f"Audio of type '{name}' is not available here.")
        return self._make(name)

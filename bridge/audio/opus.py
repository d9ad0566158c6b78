"""Opus (RFC 6716) by libopus itself: mono, at the model's rate, its state freed when done.

The library is the one PyAV's wheel brings along; a system libopus serves where there is none.
PyAV's own codec classes are not used: they start threads, force 48 kHz and cannot conceal losses.
"""

import ctypes
import ctypes.util
import importlib.util
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from bridge.audio.frames import MODEL_RATE, Pcm, samples_per_frame

CLOCK_RATE = 48_000  # of RTP timestamps, whatever is sent (RFC 7587 section 4.1)
MAX_PACKET = 1275  # octets, RFC 6716 section 3.4
MAX_DURATION_S = 0.12  # of one packet, RFC 6716 section 3.2.5

_APPLICATIONS = {"voip": 2048, "audio": 2049, "lowdelay": 2051}
_SET_BITRATE = 4002
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS = 4014
_RESET_STATE = 4028

# Frame duration by configuration number, in samples of the RTP clock (RFC 6716 table 2).
_SILK_FRAMES = (480, 960, 1920, 2880)
_HYBRID_FRAMES = (480, 960)
_CELT_FRAMES = (120, 240, 480, 960)
_FRAME = [
    *(_SILK_FRAMES * 3),
    *(_HYBRID_FRAMES * 2),
    *(_CELT_FRAMES * 4),
]


class OpusError(ValueError):
    """libopus refused a packet or a setting."""


def packet_duration(packet: bytes) -> int:
    """In samples of the 48 kHz RTP clock, from the first two octets; 0 if malformed."""
    if not packet:
        return 0
    frame = _FRAME[packet[0] >> 3]
    code = packet[0] & 3
    if code == 0:
        count = 1
    elif code < 3:
        count = 2
    else:
        count = packet[1] & 0x3F if len(packet) > 1 else 0
    duration = frame * count
    return duration if duration <= MAX_DURATION_S * CLOCK_RATE else 0


def _candidates() -> list[str]:
    found: list[str] = []
    spec = importlib.util.find_spec("av")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        for folder in (package.parent / "av.libs", package / ".dylibs"):
            found += sorted(str(path) for path in folder.glob("libopus[-.]*"))
    system = ctypes.util.find_library("opus")
    return [*found, system] if system else found


@lru_cache
def _library() -> ctypes.CDLL:
    """Raises OSError where there is no libopus at all."""
    candidates = _candidates()
    if not candidates:
        raise OSError("no libopus: neither in PyAV's wheel nor on the system")
    lib = ctypes.CDLL(candidates[0])
    pointer, number = ctypes.c_void_p, ctypes.c_int
    lib.opus_encoder_create.restype = lib.opus_decoder_create.restype = pointer
    lib.opus_encoder_create.argtypes = [ctypes.c_int32, number, number, ctypes.POINTER(number)]
    lib.opus_decoder_create.argtypes = [ctypes.c_int32, number, ctypes.POINTER(number)]
    lib.opus_encoder_destroy.argtypes = lib.opus_decoder_destroy.argtypes = [pointer]
    lib.opus_encoder_destroy.restype = lib.opus_decoder_destroy.restype = None
    # Variadic: what comes after the declared arguments carries its own type.
    lib.opus_encoder_ctl.argtypes = [pointer, number]
    lib.opus_encode.argtypes = [pointer, pointer, number, pointer, ctypes.c_int32]
    lib.opus_encode.restype = ctypes.c_int32
    lib.opus_decode.argtypes = [
        pointer,
        ctypes.c_char_p,
        ctypes.c_int32,
        pointer,
        number,
        number,
    ]
    lib.opus_decode.restype = number
    lib.opus_strerror.argtypes = [number]
    lib.opus_strerror.restype = ctypes.c_char_p
    return lib


def _check(result: int) -> int:
    if result < 0:
        raise OpusError(_library().opus_strerror(result).decode())
    return result


class OpusEncoder:
    """Mono. "lowdelay" is CELT alone: a third of the work of "voip" and 4 ms less delay; "voip"
    can repair losses by FEC at the other side, which CELT cannot."""

    def __init__(
        self,
        sample_rate: int = MODEL_RATE,
        *,
        bitrate: int = 32_000,
        complexity: int = 5,
        application: Literal["voip", "audio", "lowdelay"] = "lowdelay",
    ) -> None:
        self._lib = _library()
        error = ctypes.c_int()
        self._state: int | None = self._lib.opus_encoder_create(
            sample_rate, 1, _APPLICATIONS[application], ctypes.byref(error)
        )
        _check(error.value)
        self._free = weakref.finalize(self, self._lib.opus_encoder_destroy, self._state)
        self._packet = ctypes.create_string_buffer(MAX_PACKET)
        self._set(_SET_BITRATE, bitrate)
        self.work(complexity)

    def encode(self, frame: Pcm) -> bytes:
        """One frame of 2.5, 5, 10, 20, 40 or 60 ms. Raises OpusError."""
        if self._state is None:
            raise OpusError("encoder is closed")
        # To ask an array for its address takes longer than this copy.
        samples = frame.astype(np.int16, copy=False).tobytes()
        size = self._lib.opus_encode(self._state, samples, len(frame), self._packet, MAX_PACKET)
        return self._packet.raw[: _check(size)]

    def expect_loss(self, percent: int) -> None:
        """Add FEC worth that much loss; 0 for none. Heard only in "voip"."""
        self._set(_SET_INBAND_FEC, int(percent > 0))
        self._set(_SET_PACKET_LOSS, percent)

    def begin_anew(self) -> None:
        """As new, with all that was set."""
        _check(self._lib.opus_encoder_ctl(self._state, _RESET_STATE))

    def work(self, complexity: int) -> None:
        """0 to 10, from the next frame on."""
        self._set(_SET_COMPLEXITY, complexity)

    def close(self) -> None:
        self._free()
        self._state = None

    def _set(self, request: int, value: int) -> None:
        _check(self._lib.opus_encoder_ctl(self._state, request, ctypes.c_int32(value)))


class OpusDecoder:
    """Mono out, whatever comes in: libopus mixes stereo down and converts the rate itself."""

    def __init__(self, sample_rate: int = MODEL_RATE) -> None:
        self.sample_rate = sample_rate
        self._lib = _library()
        error = ctypes.c_int()
        self._state: int | None = self._lib.opus_decoder_create(sample_rate, 1, ctypes.byref(error))
        _check(error.value)
        self._free = weakref.finalize(self, self._lib.opus_decoder_destroy, self._state)
        self._pcm = np.empty(int(sample_rate * MAX_DURATION_S), np.int16)
        self._address = self._pcm.ctypes.data

    def decode(self, packet: bytes) -> Pcm:
        """All samples of the packet, 2.5 to 120 ms. Raises OpusError."""
        if not packet:
            raise OpusError("packet is empty")
        return self._decode(packet, len(self._pcm))

    def conceal(self, samples: int | None = None) -> Pcm:
        """What may have been in a lost packet: 20 ms, or as many samples, in steps of 2.5 ms up to
        120. Raises OpusError."""
        return self._decode(None, samples or samples_per_frame(self.sample_rate))

    def repair(self, following: bytes, samples: int | None = None) -> Pcm:
        """A lost packet from what the one behind it repeats (FEC); as conceal where that repeats
        nothing. Raises OpusError."""
        return self._decode(following, samples or samples_per_frame(self.sample_rate), fec=1)

    def close(self) -> None:
        self._free()
        self._state = None

    def _decode(self, packet: bytes | None, room: int, *, fec: int = 0) -> Pcm:
        if self._state is None:
            raise OpusError("decoder is closed")
        if room > len(self._pcm):
            # libopus fills as much as it is told there is.
            raise OpusError("more than 120 ms at once")
        size = len(packet) if packet is not None else 0
        count = self._lib.opus_decode(self._state, packet, size, self._address, room, fec)
        return self._pcm[: _check(count)].copy()

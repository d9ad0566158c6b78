"""From packets to whole frames, a class per kind of codec: jitter, loss and odd sizes end here."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from bridge.audio.codecs import G722, OPUS, PCMA, Codec
from bridge.audio.frames import MODEL_FRAME, MODEL_RATE, Pcm, samples_per_frame
from bridge.audio.g711 import (
    ALAW_SILENCE,
    ULAW_SILENCE,
    alaw_decode,
    alaw_encode,
    ulaw_decode,
    ulaw_encode,
)
from bridge.audio.g722 import SAMPLE_RATE as G722_RATE, SAMPLES_PER_OCTET, G722Decoder
from bridge.audio.levels import rms
from bridge.audio.opus import OpusDecoder, OpusError, packet_duration
from bridge.audio.resample import ResamplerBank
from bridge.media.jitter import JitterBuffer, Lost

G711_FRAME = 160  # octets, which are samples
G711_FADE = 480  # samples: a repetition is gone after 60 ms, as in G.711 appendix I
MAX_OCTETS = 1600  # 200 ms: nobody sends longer packets, and junk may be 64 KiB
QUIET_RMS = 200.0  # -44 dBFS: room noise on a telephone
OPUS_CONCEALED_FRAMES = 5  # libopus fades to nothing within 100 ms; after that zeros are cheaper


class G711Inbound:
    """Gives coded frames of 160 octets, so that the plane can decode all streams at once."""

    def __init__(self, codec: Codec) -> None:
        self._take_law(codec)
        self.jitter = JitterBuffer(codec.clock_rate, duration=_octets, quiet=self._is_quiet)
        self.concealed = 0
        self._rest = b""
        self._last = self.silence
        self._faded = G711_FADE  # samples of the current repetition already given

    def pull(self, now: float) -> list[bytes]:
        """The frames due by now: usually one."""
        frames: list[bytes] = []
        pop = self.jitter.pop
        while (item := pop(now)) is not None:
            if isinstance(item, bytes):
                octets = item
                self._faded = 0
                self._last = octets
            else:
                octets = self._conceal(item)
            if len(octets) == G711_FRAME and not self._rest:
                frames.append(octets)
            else:
                self._split(octets, frames)
        return frames

    def change(self, codec: Codec) -> Callable[[bytes], bytes]:
        """Read the other law from now on; what waits is recoded. Gives the function that does so,
        for packets of the old law that are still under way."""
        decode = self._decode
        self._take_law(codec)
        encode = self._encode

        def recode(octets: bytes) -> bytes:
            return encode(decode(np.frombuffer(octets, np.uint8))).tobytes()

        self.jitter.recode(recode)
        self._rest, self._last = recode(self._rest), recode(self._last)
        return recode

    def close(self) -> None:
        """Nothing to free."""

    def _take_law(self, codec: Codec) -> None:
        alaw = codec is PCMA
        self._decode = alaw_decode if alaw else ulaw_decode
        self._encode = alaw_encode if alaw else ulaw_encode
        self.silence = bytes([ALAW_SILENCE if alaw else ULAW_SILENCE]) * G711_FRAME

    def _split(self, octets: bytes, frames: list[bytes]) -> None:
        octets = self._rest + octets
        whole = len(octets) - len(octets) % G711_FRAME
        frames += (octets[at : at + G711_FRAME] for at in range(0, whole, G711_FRAME))
        self._rest = octets[whole:]

    def _conceal(self, lost: Lost) -> bytes:
        """The last frame again and again, fading out."""
        self.concealed += 1
        if lost.muted or self._faded >= G711_FADE:
            self._faded = G711_FADE
            return (self.silence * (lost.duration // G711_FRAME + 1))[: lost.duration]
        pattern = self._decode(np.frombuffer(self._last[-G711_FRAME:], np.uint8))
        positions = self._faded + np.arange(lost.duration)
        gains = np.maximum(0.0, 1.0 - positions / G711_FADE)
        repeated = pattern[positions % len(pattern)] * gains
        self._faded += lost.duration
        return self._encode(repeated.astype(np.int16)).tobytes()

    def _is_quiet(self, payload: bytes) -> bool:
        return rms(self._decode(np.frombuffer(payload, np.uint8))) < QUIET_RMS


def _octets(payload: bytes) -> int:
    return len(payload) if len(payload) <= MAX_OCTETS else 0


class SingleInbound(ABC):
    """Gives frames of 480 samples at 24 kHz, of a codec that has a state per call."""

    def __init__(self, jitter: JitterBuffer) -> None:
        self.jitter = jitter
        self.concealed = 0
        self.silence = np.zeros(MODEL_FRAME, np.int16)
        self._rest = np.empty(0, np.int16)

    def pull(self, now: float) -> list[Pcm]:
        """The frames due by now: usually one."""
        frames: list[Pcm] = []
        pop = self.jitter.pop
        while (item := pop(now)) is not None:
            pcm = self._sound(item) if isinstance(item, bytes) else self._conceal(item)
            if len(pcm) == MODEL_FRAME and not len(self._rest):
                frames.append(pcm)
            else:
                self._split(pcm, frames)
        return frames

    @abstractmethod
    def close(self) -> None:
        """Free the decoder."""

    @abstractmethod
    def _sound(self, packet: bytes) -> Pcm: ...

    @abstractmethod
    def _conceal(self, lost: Lost) -> Pcm: ...

    def _split(self, pcm: Pcm, frames: list[Pcm]) -> None:
        pcm = np.concatenate((self._rest, pcm))
        whole = len(pcm) - len(pcm) % MODEL_FRAME
        frames += (pcm[at : at + MODEL_FRAME] for at in range(0, whole, MODEL_FRAME))
        self._rest = pcm[whole:]


class OpusInbound(SingleInbound):
    """By libopus, which knows how to conceal."""

    def __init__(self) -> None:
        super().__init__(
            JitterBuffer(OPUS.clock_rate, duration=packet_duration, quiet=_is_opus_silence)
        )
        self._decoder = OpusDecoder(MODEL_RATE)
        self._conceal_left = 0

    def close(self) -> None:
        self._decoder.close()

    def _sound(self, packet: bytes) -> Pcm:
        try:
            pcm = self._decoder.decode(packet)
        except OpusError:
            return self._conceal(Lost(packet_duration(packet)))
        self._conceal_left = OPUS_CONCEALED_FRAMES
        return pcm

    def _conceal(self, lost: Lost) -> Pcm:
        self.concealed += 1
        samples = lost.duration * MODEL_RATE // OPUS.clock_rate
        # libopus conceals multiples of 2.5 ms only.
        if lost.muted or self._conceal_left <= 0 or samples % 60:
            return np.zeros(samples, np.int16)
        self._conceal_left -= 1
        return self._decoder.conceal(samples)


class G722Inbound(SingleInbound):
    """16 kHz to the model's 24 kHz."""

    def __init__(self) -> None:
        super().__init__(JitterBuffer(G722.clock_rate, duration=_octets, quiet=lambda _: False))
        self._decoder = G722Decoder()
        self._bank = ResamplerBank(G722_RATE, MODEL_RATE, capacity=1)
        self._row = np.zeros(1, np.intp)

    def close(self) -> None:
        """Nothing to free."""

    def _sound(self, packet: bytes) -> Pcm:
        return self._up(self._decoder.decode(packet))

    def _conceal(self, lost: Lost) -> Pcm:
        self.concealed += 1
        return self._up(np.zeros(lost.duration * SAMPLES_PER_OCTET, np.int16))

    def _up(self, pcm: Pcm) -> Pcm:
        return self._bank.process(self._row, pcm.reshape(1, -1)).reshape(-1)


def _is_opus_silence(packet: bytes) -> bool:
    """A frame without content: DTX, or CELT's own silence (RFC 6716 section 4.3)."""
    return len(packet) <= 3


Inbound = G711Inbound | SingleInbound


def inbound_for(codec: Codec) -> Inbound:
    """Raises ValueError for a codec that no packet can be read with."""
    if codec is OPUS:
        return OpusInbound()
    if codec is G722:
        return G722Inbound()
    if samples_per_frame(codec.clock_rate) == G711_FRAME:
        return G711Inbound(codec)
    raise ValueError(f"no way to read {codec.name}")

"""From packets to whole frames, a class per kind of codec: jitter, loss and odd sizes end here."""

from abc import ABC, abstractmethod
from collections import deque
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
from bridge.audio.plc import Concealment
from bridge.audio.resample import ResamplerBank
from bridge.audio.stretch import join_shorter
from bridge.media.jitter import JitterBuffer, Lost

NOTHING: Pcm = np.empty(0, np.int16)
G711_FRAME = 160  # octets, which are samples
G711_RATE = 8000
MAX_OCTETS = 1600  # 200 ms: nobody sends longer packets, and junk may be 64 KiB
QUIET_RMS = 200.0  # -44 dBFS: room noise on a telephone
REMEMBERED = 5  # packets, for what to conceal a loss with: 50 ms at the least
OPUS_CONCEALED = MODEL_RATE // 10  # libopus fades to nothing in this; then zeros are cheaper


class G711Inbound:
    """Gives coded frames of 160 octets, so that the plane can decode all streams at once."""

    def __init__(self, codec: Codec) -> None:
        self._take_law(codec)
        self.jitter = JitterBuffer(codec.clock_rate, duration=_octets, quiet=self._is_quiet)
        self.concealed = 0
        self._rest = b""
        self._recent: deque[bytes] = deque(maxlen=REMEMBERED)
        self._plc = Concealment(G711_RATE)

    def pull(self, now: float) -> list[bytes]:
        """The frames due by now: usually one."""
        frames: list[bytes] = []
        jitter = self.jitter
        jitter.advance(now)
        while (item := jitter.pop()) is not None:
            if isinstance(item, Lost):
                octets = self._conceal(item)
            elif self._plc.active or jitter.hurried:
                octets = self._mend(item)
            else:
                octets = item
            self._recent.append(octets)
            if self._rest and self._may_drop_rest(octets):
                self._rest = b""
            if len(octets) == G711_FRAME and not self._rest:
                frames.append(octets)
            else:
                self._split(octets, frames)
        return frames

    @property
    def steady(self) -> bool:
        """No gap is being mended and nothing is left over."""
        return not self._rest and not self._plc.active

    def went_on(self, recent: list[bytes]) -> None:
        """Others were given, the last of them these."""
        self._recent += recent

    def change(self, codec: Codec) -> Callable[[bytes], bytes]:
        """Read the other law from now on; what waits is recoded. Gives the function that does so,
        for packets of the old law that are still under way."""
        decode = self._decode
        self._take_law(codec)
        encode = self._encode

        def recode(octets: bytes) -> bytes:
            return encode(decode(np.frombuffer(octets, np.uint8))).tobytes()

        self.jitter.recode(recode)
        self.jitter.quiet = self._is_quiet
        self._rest = recode(self._rest)
        self._recent = deque(map(recode, self._recent), REMEMBERED)
        return recode

    def close(self) -> None:
        """Nothing to free."""

    def _take_law(self, codec: Codec) -> None:
        alaw = codec is PCMA
        self._decode = alaw_decode if alaw else ulaw_decode
        self._encode = alaw_encode if alaw else ulaw_encode
        self._is_quiet = _is_quiet_alaw if alaw else _is_quiet_ulaw
        self.silence = bytes([ALAW_SILENCE if alaw else ULAW_SILENCE]) * G711_FRAME

    def _may_drop_rest(self, octets: bytes) -> bool:
        """Of packets that are whole frames there is none but what a merge left over: delay."""
        quiet = self._is_quiet
        return not len(octets) % G711_FRAME and quiet(octets) and quiet(self._rest)

    def _split(self, octets: bytes, frames: list[bytes]) -> None:
        octets = self._rest + octets
        whole = len(octets) - len(octets) % G711_FRAME
        frames += (octets[at : at + G711_FRAME] for at in range(0, whole, G711_FRAME))
        self._rest = octets[whole:]

    def _conceal(self, lost: Lost) -> bytes:
        self.concealed += 1
        plc = self._plc
        if lost.muted or plc.faded:
            # After a standstill of ours there are thousands of such frames, and no time.
            if lost.muted:
                plc.end()
            else:
                plc.rest(lost.duration)
            return (self.silence * (lost.duration // G711_FRAME + 1))[: lost.duration]
        history = NOTHING if plc.active else self._history()
        return self._encode(plc.conceal(history, lost.duration)).tobytes()

    def _mend(self, octets: bytes) -> bytes:
        """The packet after a gap, or before one that is merged with it."""
        pcm = self._linear(octets)
        if self._plc.active:
            pcm = self._plc.resume(pcm)
        surplus = self.jitter.surplus() if self.jitter.hurried else None
        if surplus is not None:
            pcm = join_shorter(pcm, self._linear(surplus), G711_RATE)
        return self._encode(pcm).tobytes()

    def _history(self) -> Pcm:
        return self._linear(b"".join(self._recent)[-self._plc.history :])

    def _linear(self, octets: bytes) -> Pcm:
        return self._decode(np.frombuffer(octets, np.uint8))


# Functions, not methods: a jitter buffer that referred back to its owner would outlive the call.
def _is_quiet_ulaw(payload: bytes) -> bool:
    return rms(ulaw_decode(np.frombuffer(payload, np.uint8))) < QUIET_RMS


def _is_quiet_alaw(payload: bytes) -> bool:
    return rms(alaw_decode(np.frombuffer(payload, np.uint8))) < QUIET_RMS


def _octets(payload: bytes) -> int:
    return len(payload) if len(payload) <= MAX_OCTETS else 0


class SingleInbound(ABC):
    """Gives frames of 480 samples at 24 kHz, of a codec that has a state per call."""

    def __init__(self, jitter: JitterBuffer, rate: int) -> None:
        self.jitter = jitter
        self.concealed = 0
        self.silence = np.zeros(MODEL_FRAME, np.int16)
        self._rate = rate
        self._rest = np.empty(0, np.int16)

    def pull(self, now: float) -> list[Pcm]:
        """The frames due by now: usually one."""
        frames: list[Pcm] = []
        jitter = self.jitter
        jitter.advance(now)
        while (item := jitter.pop()) is not None:
            if isinstance(item, Lost):
                self.concealed += 1
                pcm = self._conceal(item)
            else:
                pcm = self._sound(item)
                surplus = jitter.surplus() if jitter.hurried else None
                if surplus is not None:
                    pcm = join_shorter(pcm, self._sound(surplus), self._rate)
            pcm = self._model_rate(pcm)
            if len(self._rest) and self._may_drop_rest(pcm):
                self._rest = self._rest[:0]
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

    @abstractmethod
    def _model_rate(self, pcm: Pcm) -> Pcm: ...

    def _may_drop_rest(self, pcm: Pcm) -> bool:
        """As for G.711."""
        whole = not len(pcm) % MODEL_FRAME
        return whole and rms(pcm) < QUIET_RMS and rms(self._rest) < QUIET_RMS

    def _split(self, pcm: Pcm, frames: list[Pcm]) -> None:
        pcm = np.concatenate((self._rest, pcm))
        whole = len(pcm) - len(pcm) % MODEL_FRAME
        frames += (pcm[at : at + MODEL_FRAME] for at in range(0, whole, MODEL_FRAME))
        self._rest = pcm[whole:]


class OpusInbound(SingleInbound):
    """By libopus, which knows how to conceal."""

    def __init__(self) -> None:
        jitter = JitterBuffer(OPUS.clock_rate, duration=packet_duration, quiet=_is_opus_silence)
        super().__init__(jitter, MODEL_RATE)
        self._decoder = OpusDecoder(MODEL_RATE)
        self._conceal_left = 0

    def close(self) -> None:
        self._decoder.close()

    def _sound(self, packet: bytes) -> Pcm:
        try:
            pcm = self._decoder.decode(packet)
        except OpusError:
            self.concealed += 1
            return self._made_up(packet_duration(packet) // 2)
        self._conceal_left = OPUS_CONCEALED
        return pcm

    def _conceal(self, lost: Lost) -> Pcm:
        samples = lost.duration * MODEL_RATE // OPUS.clock_rate
        if lost.muted:
            return np.zeros(samples, np.int16)
        following = self.jitter.following
        repeated = 0 if following is None else packet_duration(following) // 2
        if following is None or not 0 < repeated <= samples:
            return self._made_up(samples)
        # What a packet repeats is the one before it; what was lost earlier is gone.
        earlier = self._made_up(samples - repeated)
        try:
            return np.concatenate((earlier, self._decoder.repair(following, repeated)))
        except OpusError:
            return np.concatenate((earlier, self._made_up(repeated)))

    def _made_up(self, samples: int) -> Pcm:
        made = np.zeros(samples, np.int16)
        # libopus conceals multiples of 2.5 ms only.
        spoken = min(samples, self._conceal_left)
        if spoken > 0 and not samples % 60:
            self._conceal_left -= spoken
            made[:spoken] = self._decoder.conceal(spoken)
        return made

    def _model_rate(self, pcm: Pcm) -> Pcm:
        return pcm


class G722Inbound(SingleInbound):
    """Decoded and mended at 16 kHz, then brought to the model's 24 kHz."""

    def __init__(self) -> None:
        # Whether a packet is quiet could be told only by decoding it out of turn.
        jitter = JitterBuffer(G722.clock_rate, duration=_octets)
        super().__init__(jitter, G722_RATE)
        self._decoder = G722Decoder()
        self._plc = Concealment(G722_RATE)
        self._recent: deque[Pcm] = deque(maxlen=REMEMBERED)
        self._bank = ResamplerBank(G722_RATE, MODEL_RATE, capacity=1)
        self._row = np.zeros(1, np.intp)
        self._odd = np.empty(0, np.int16)

    def close(self) -> None:
        """Nothing to free."""

    def _sound(self, packet: bytes) -> Pcm:
        pcm = self._decoder.decode(packet)
        if self._plc.active:
            pcm = self._plc.resume(pcm)
        self._recent.append(pcm)
        return pcm

    def _conceal(self, lost: Lost) -> Pcm:
        samples = lost.duration * SAMPLES_PER_OCTET
        if lost.muted:
            self._plc.end()
            pcm = np.zeros(samples, np.int16)
        else:
            history = np.concatenate(self._recent) if self._recent else self._odd[:0]
            pcm = self._plc.conceal(history, samples)
        self._recent.append(pcm)
        return pcm

    def _model_rate(self, pcm: Pcm) -> Pcm:
        if len(self._odd) or len(pcm) % 2:
            pcm = np.concatenate((self._odd, pcm))
            whole = len(pcm) - len(pcm) % 2
            self._odd, pcm = pcm[whole:], pcm[:whole]
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

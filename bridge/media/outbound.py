"""From 20 ms of model audio to one payload, for codecs that keep a state per call."""

import numpy as np

from bridge.audio.codecs import G722, OPUS, Codec
from bridge.audio.frames import MODEL_FRAME, MODEL_RATE, Pcm, samples_per_frame
from bridge.audio.g722 import SAMPLE_RATE as G722_RATE, G722Encoder
from bridge.audio.opus import OpusEncoder
from bridge.audio.resample import ResamplerBank

LOSS_WORTH_FEC = 0.01  # of the packets, as the far end reports them
MAX_FEC_PERCENT = 25  # beyond, libopus spends more on repair than on speech


class OpusOutbound:
    """CELT alone, until the far end reports losses: from then on "voip", with FEC in each packet
    for the one before. `repairs`: the far end said that it uses FEC (RFC 7587 section 6.1)."""

    step = samples_per_frame(OPUS.clock_rate)

    def __init__(self, *, repairs: bool = False) -> None:
        self._encoder = OpusEncoder(MODEL_RATE)
        self._repairs = repairs
        self._percent = 0
        self._silence = self._encoder.encode(np.zeros(MODEL_FRAME, np.int16))

    def encode(self, frame: Pcm) -> bytes:
        return self._encoder.encode(frame)

    def rest(self) -> bytes:
        """20 ms of silence after some that was encoded. The encoder sleeps; when it wakes, silence
        is what it remembers."""
        return self._silence

    def expect_loss(self, fraction: float) -> None:
        """What the far end last reported, 0 to 1."""
        if not self._repairs or (fraction < LOSS_WORTH_FEC and not self._percent):
            return
        percent = min(MAX_FEC_PERCENT, max(1, round(fraction * 100)))
        if not self._percent:
            # libopus takes no other application once a frame is encoded.
            self._encoder.close()
            self._encoder = OpusEncoder(MODEL_RATE, application="voip")
        if percent != self._percent:
            self._percent = percent
            self._encoder.expect_loss(percent)

    def close(self) -> None:
        self._encoder.close()


class G722Outbound:
    """The model's 24 kHz to 16 kHz, then G.722."""

    step = samples_per_frame(G722.clock_rate)

    def __init__(self) -> None:
        self._bank = ResamplerBank(MODEL_RATE, G722_RATE, capacity=1)
        self._row = np.zeros(1, np.intp)
        self._encoder = G722Encoder()

    def encode(self, frame: Pcm) -> bytes:
        return self._encoder.encode(self._bank.process(self._row, frame.reshape(1, -1)).reshape(-1))

    def rest(self) -> bytes:
        """20 ms of silence after some that was encoded. Canned octets would part the predictors of
        the two sides, which is heard as noise."""
        return self._encoder.encode(_SILENCE_16K)

    def expect_loss(self, fraction: float) -> None:
        """Nothing that G.722 could do."""

    def close(self) -> None:
        """Nothing to free."""


_SILENCE_16K = np.zeros(samples_per_frame(G722_RATE), np.int16)

Outbound = OpusOutbound | G722Outbound


def outbound_for(codec: Codec, *, repairs: bool = False) -> Outbound:
    """Raises ValueError for a codec that needs none of this, or is not ours."""
    if codec is OPUS:
        return OpusOutbound(repairs=repairs)
    if codec is G722:
        return G722Outbound()
    raise ValueError(f"no way to write {codec.name} singly")

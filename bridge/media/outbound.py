"""From 20 ms of model audio to one payload, for codecs that keep a state per call."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bridge.audio.codecs import G722, OPUS, Codec
from bridge.audio.frames import MODEL_FRAME, MODEL_RATE, Pcm, samples_per_frame
from bridge.audio.g722 import SAMPLE_RATE as G722_RATE, G722Encoder
from bridge.audio.opus import OpusEncoder
from bridge.audio.resample import ResamplerBank
from bridge.media.effort import EFFORT

# Bit/s. Speech in CELT at less is heard to be coded: PESQ wb 3.4 at 32 000, 4.2 at 64 000, for
# a third of the work that SILK is, which needs half as much.
BITRATE = 64_000
CELT_BITRATE = 48_000  # below, SILK it is
MIN_BITRATE = 6000  # RFC 7587 section 6.1
CELT_COMPLEXITY, SILK_COMPLEXITY = 8, 6
# A half and a third of the work.
SPARING_CELT, SPARING_SILK = 2, 0
SETTLED_FRAMES = 15  # of silence, after which nothing is remembered but silence
LOSS_WORTH_FEC = 0.01  # of the packets, as the far end reports them
ASSUMED_PERCENT = 3  # lost, until it reports; libopus does the same for any up to 5
CALM_REPORTS = 5  # seconds that the far end knows of no loss before FEC is left out
MAX_FEC_PERCENT = 25  # beyond, libopus spends more on repair than on speech


@dataclass(frozen=True, slots=True)
class OpusTerms:
    """What the far end wants (RFC 7587 section 6.1). `repairs`: it mends losses by FEC; `bitrate`
    is the most that it takes."""

    repairs: bool = False
    bitrate: int = BITRATE


class OpusOutbound:
    """ "voip", with FEC in each packet for the one before, until the far end has reported for a
    while that it loses nothing: from the next pause on CELT alone, a third of the work. Once it
    loses something, "voip" for good. CELT from the start to those who do not mend by FEC."""

    step = samples_per_frame(OPUS.clock_rate)

    def __init__(self, terms: OpusTerms) -> None:
        self._bitrate = min(max(terms.bitrate, MIN_BITRATE), BITRATE)
        self._repairs = terms.repairs
        # At less FEC is paid for by what is heard without losses.
        self._guesses = terms.repairs and self._bitrate >= CELT_BITRATE
        self._silk = self._guesses or self._bitrate < CELT_BITRATE
        self._percent = 0
        self._calm = 0
        self._sparing = EFFORT.sparing
        self._encoder = self._new_encoder()
        if self._guesses:
            self._encoder.expect_loss(ASSUMED_PERCENT)
        self._rested = 0

    def encode(self, frame: Pcm) -> bytes:
        # Stops at the first sound; ndarray.any takes ten times as long to begin.
        if not frame.tobytes().strip(b"\0"):
            # A model that says its pauses, too, is one that rests in them.
            return self.rest()
        if self._silk and self._rested >= SETTLED_FRAMES:
            # The silence was CELT's, and the other side begins anew after that.
            self._encoder.begin_anew()
        self._rested = 0
        if self._sparing is not EFFORT.sparing:
            self._sparing = EFFORT.sparing
            self._encoder.work(self._complexity)
        return self._encoder.encode(frame)

    def rest(self) -> bytes:
        """20 ms of silence. What the two sides remember has to be the same when speech begins
        again, else it begins too loud or not at all."""
        if self._rested < SETTLED_FRAMES:
            self._rested += 1
            coded = self._encoder.encode(_QUIET)
            return coded if self._silk else _silence()
        if self._guesses and self._calm >= CALM_REPORTS:
            self._guesses = False
            self._renew(silk=False)
        return _silence()

    def expect_loss(self, fraction: float, *, told: bool) -> None:
        """What was last known of losses, 0 to 1, once a second; `told`: by the far end."""
        self._calm = self._calm + 1 if told and not fraction else 0
        if not self._repairs or (fraction < LOSS_WORTH_FEC and not self._percent):
            return
        self._guesses = False
        percent = min(MAX_FEC_PERCENT, max(1, round(fraction * 100)))
        if not self._silk:
            self._renew(silk=True)
        if percent != self._percent:
            self._percent = percent
            self._encoder.expect_loss(percent)

    def _renew(self, *, silk: bool) -> None:
        """libopus takes no other application once a frame is encoded."""
        self._encoder.close()
        self._silk = silk
        self._encoder = self._new_encoder()
        self._rested = 0

    def close(self) -> None:
        self._encoder.close()

    @property
    def _complexity(self) -> int:
        if self._sparing:
            return SPARING_SILK if self._silk else SPARING_CELT
        return SILK_COMPLEXITY if self._silk else CELT_COMPLEXITY

    def _new_encoder(self) -> OpusEncoder:
        return OpusEncoder(
            MODEL_RATE,
            bitrate=self._bitrate,
            complexity=self._complexity,
            application="voip" if self._silk else "lowdelay",
        )


_QUIET = np.zeros(MODEL_FRAME, np.int16)


@lru_cache
def _silence() -> bytes:
    """Of CELT, which has a way to say nothing at all."""
    encoder = OpusEncoder(MODEL_RATE)
    silence = encoder.encode(_QUIET)
    encoder.close()
    return silence


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

    def expect_loss(self, fraction: float, *, told: bool) -> None:
        """Nothing that G.722 could do."""

    def close(self) -> None:
        """Nothing to free."""


_SILENCE_16K = np.zeros(samples_per_frame(G722_RATE), np.int16)

Outbound = OpusOutbound | G722Outbound


def outbound_for(codec: Codec, terms: OpusTerms) -> Outbound:
    """Raises ValueError for a codec that needs none of this, or is not ours."""
    if codec is OPUS:
        return OpusOutbound(terms)
    if codec is G722:
        return G722Outbound()
    raise ValueError(f"no way to write {codec.name} singly")

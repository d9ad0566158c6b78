"""The codecs a call may be negotiated to, by the names SDP gives them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Codec:
    """`clock_rate` is that of RTP timestamps; `sample_rate` is what our side encodes and decodes.

    They differ for Opus: its RTP clock is always 48 kHz (RFC 7587 section 4.1), while libopus
    works at the model's 24 kHz and spares a resampler. And for G.722, whose clock of 8 kHz is an
    old mistake that all keep to (RFC 3551 section 4.5.2).
    """

    name: str
    clock_rate: int
    sample_rate: int
    channels: int
    static_payload_type: int | None


PCMU = Codec("PCMU", 8000, 8000, 1, 0)
PCMA = Codec("PCMA", 8000, 8000, 1, 8)
G722 = Codec("G722", 8000, 16_000, 1, 9)
OPUS = Codec("opus", 48_000, 24_000, 2, None)  # "opus/48000/2" whatever is sent, RFC 7587 section 7

_BY_NAME = {codec.name.lower(): codec for codec in (PCMU, PCMA, G722, OPUS)}


def by_name(name: str) -> Codec:
    """Encoding names are compared without case (RFC 8866 section 6.6).

    Raises:
        KeyError: not one of ours.
    """
    return _BY_NAME[name.lower()]

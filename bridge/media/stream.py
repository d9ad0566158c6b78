"""One call's row of the media plane: what arrives is put in order, what leaves is counted."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.audio.codecs import Codec
from bridge.audio.frames import Pcm
from bridge.media.playout import Playout


class Wire(Protocol):
    """Where packets go: a UDP socket, or SRTP over somebody else's. Never raises."""

    def send(self, data: bytes, /) -> None: ...

    def send_rtcp(self, data: bytes, /) -> None: ...


@dataclass(slots=True)
class StreamStats:
    """Times are on the clock of `now`; None until it happened."""

    packets_received: int = 0
    packets_sent: int = 0
    bad_packets: int = 0
    packets_lost: int = 0
    packets_late: int = 0
    duplicates: int = 0
    concealed_frames: int = 0
    jitter_ms: float = 0.0
    round_trip_ms: float | None = None
    remote_fraction_lost: float = 0.0
    first_received_at: float | None = None
    last_received_at: float | None = None


class AudioStream:
    """Audio of one call between its wire and its session.

    `on_frame` gets 24 kHz mono frames of 480 samples, 50 a second from the first packet on:
    what was lost is concealed, silence stands for what never came. `held` sends silence and
    hears silence; the playout stands still meanwhile.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        payload_type: int,
        wire: Wire,
        cname: str,
        telephone_event: int | None = None,
        telephone_event_rate: int = 8000,
        ssrc: int | None = None,
    ) -> None:
        self.codec = codec
        self.payload_type = payload_type
        self.wire = wire
        self.cname = cname
        self.telephone_event = telephone_event
        self.ssrc = secrets.randbits(32) if ssrc is None else ssrc
        self.playout = Playout()
        self.held = False
        self.on_frame: Callable[[Pcm], None] | None = None
        self.on_digit: Callable[[str], None] | None = None
        self.stats = StreamStats()
        self._telephone_event_rate = telephone_event_rate

    def receive_rtp(self, data: bytes, now: float) -> None:
        """One datagram. A bad one is counted."""

    def receive_rtcp(self, data: bytes, now: float) -> None:
        """One compound packet. A bad one is counted."""

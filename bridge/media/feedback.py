"""What the far end reports of the packets that it got from us."""

from collections.abc import Iterable

from bridge.rtp.rtcp import ReportBlock, ntp_timestamp


class Feedback:
    __slots__ = ("round_trip_ms", "told")

    def __init__(self) -> None:
        self.told: ReportBlock | None = None
        """The last of ours."""
        self.round_trip_ms: float | None = None

    def read(self, blocks: Iterable[ReportBlock], ssrc: int, now: float) -> None:
        """Those of `ssrc`, received at `now`."""
        for block in blocks:
            if block.ssrc != ssrc:
                continue
            self.told = block
            if block.last_sr:
                # RFC 3550 section 6.4.1: all three in 1/65536 s, modulo 2^32.
                middle = ntp_timestamp(now) >> 16
                trip = (middle - block.last_sr - block.delay_since_last_sr) & 0xFFFF_FFFF
                if trip < 0x8000_0000:
                    self.round_trip_ms = trip * 1000 / 65536

    @property
    def fraction_lost(self) -> float:
        """Lately; 0 to 1."""
        return 0.0 if self.told is None else self.told.fraction_lost / 256

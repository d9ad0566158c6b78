"""What can be told of a call's media, live and when it is over: loss, delay and what they cost."""

from dataclasses import dataclass
from typing import Any

from bridge.media.quality import estimated_mos
from bridge.media.stats import StreamStats
from bridge.media.stream import AudioStream

PACKET_MS = 20.0
FAR_END_BUFFER_MS = 40.0  # what phones mostly hold; they do not tell


@dataclass(frozen=True, slots=True)
class MediaReport:
    """Of one stream. `mos_received` is what the model hears, `mos_sent` what the caller does, by
    what its RTCP says; None before there is anything to go by."""

    codec: str
    stats: StreamStats

    @classmethod
    def of(cls, stream: AudioStream) -> "MediaReport":
        return cls(stream.codec.name, stream.stats)

    @property
    def loss_received(self) -> float:
        """Of what was sent to us, 0 to 1; what came too late to be heard is lost."""
        stats = self.stats
        in_time = stats.packets_received - stats.duplicates - stats.packets_late
        expected = in_time + stats.packets_lost
        return stats.packets_lost / expected if expected > 0 else 0.0

    @property
    def loss_sent(self) -> float | None:
        """As the far end has counted since the start; None if it never said."""
        stats = self.stats
        if stats.remote_packets_lost is None or not stats.packets_sent:
            return None
        return min(1.0, max(0, stats.remote_packets_lost) / stats.packets_sent)

    @property
    def mos_received(self) -> float | None:
        if not self.stats.packets_received:
            return None
        return estimated_mos(self.loss_received, self._way_ms + self.stats.delay_ms)

    @property
    def mos_sent(self) -> float | None:
        loss = self.loss_sent
        return None if loss is None else estimated_mos(loss, self._way_ms + FAR_END_BUFFER_MS)

    @property
    def _way_ms(self) -> float:
        return PACKET_MS + (self.stats.round_trip_ms or 0.0) / 2

    def as_dict(self) -> dict[str, Any]:
        """As JSON for the call's record. `received` is counted here, `sent` by the far end."""
        stats = self.stats
        loss_sent = self.loss_sent
        return {
            "codec": self.codec,
            "round_trip_ms": _rounded(stats.round_trip_ms),
            "received": {
                "packets": stats.packets_received,
                "lost": stats.packets_lost,
                "late": stats.packets_late,
                "duplicates": stats.duplicates,
                "dropped": stats.dropped,
                "flooded": stats.flooded,
                "bad": stats.bad_packets,
                "concealed": stats.concealed,
                "loss": round(self.loss_received, 4),
                "jitter_ms": _rounded(stats.jitter_ms),
                "delay_ms": _rounded(stats.delay_ms),
                "mos": self.mos_received,
            },
            "sent": {
                "packets": stats.packets_sent,
                "lost": stats.remote_packets_lost,
                "loss": None if loss_sent is None else round(loss_sent, 4),
                "jitter_ms": _rounded(stats.remote_jitter_ms),
                "mos": self.mos_sent,
            },
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)

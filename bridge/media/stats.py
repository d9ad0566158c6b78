"""What a stream has counted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Times are on the clock of `now`; None until it happened."""

    packets_received: int
    packets_sent: int
    bad_packets: int
    """Not RTP or RTCP, or of a payload type that was not negotiated."""
    packets_lost: int
    packets_late: int
    duplicates: int
    dropped: int
    """Thrown away to bring the delay down after an outage."""
    flooded: int
    """Beyond what one source may send."""
    restarts: int
    concealed: int
    """Gaps filled, mostly of one frame."""
    delay_ms: float
    jitter_ms: float
    round_trip_ms: float | None
    remote_fraction_lost: float
    remote_packets_lost: int | None
    """Of ours, as the far end counts; None before it said."""
    remote_jitter_ms: float | None
    first_received_at: float | None
    last_received_at: float | None

"""What the way of the caller's voice to the model adds to the wait for an answer."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from bridge.media.stream import AudioStream

# A packet waits for the next slot of the media clock, a slot of 5 ms at most.
MEAN_WAIT_MS = 2.5
REMEMBERED = 256  # changes of the delay


class Line:
    """The delay in front of the model, as it was when the caller last spoke.

    A gap on the network leaves one behind that words spoken before it never had.
    """

    def __init__(self) -> None:
        self._changes: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)
        self._turn_ended_at = 0.0

    def heard(self, now: float, stream: AudioStream) -> None:
        """A frame came of what it received."""
        received_at = now if stream.last_received_at is None else stream.last_received_at
        # All that waits came after it, and the last of that not just now.
        delay_ms = round(stream.inbound.jitter.delay_ms + max(0.0, now - received_at) * 1000)
        if not self._changes or self._changes[-1][1] != delay_ms:
            self._changes.append((now, delay_ms))

    def turn_ended(self, now: float) -> None:
        self._turn_ended_at = now

    def add_to(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A turn's times, which begin when the backend heard the last voice, from when it came."""
        spoken_at = self._turn_ended_at - record.get("endpointing_ms", 0.0) / 1000
        delay_ms = 0
        for at, then_ms in self._changes:
            if at > spoken_at:
                break
            delay_ms = then_ms
        line_ms = round(delay_ms + MEAN_WAIT_MS, 1)
        return {**record, "line_ms": line_ms, "total_ms": round(record["total_ms"] + line_ms, 1)}

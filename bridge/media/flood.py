"""A cap on what one source may send: more than twice what any codec needs is no speech."""

PACKETS_PER_S = 200.0  # twice 10 ms packets
BURST = 400.0  # 4 s of those, which a stall of ours or of the network brings at once


class RateCap:
    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._at = 0.0
        self._left = BURST

    def admits(self, now: float) -> bool:
        """One more packet."""
        left = min(BURST, self._left + (now - self._at) * PACKETS_PER_S)
        self._at = now
        if left < 1.0:
            self._left = left
            return False
        self._left = left - 1.0
        return True

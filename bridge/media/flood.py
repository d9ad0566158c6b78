"""A cap on what one source may send: more than twice what any codec needs is no speech."""

PACKETS_PER_S = 200.0  # twice 10 ms packets
BURST = 400.0  # 4 s of those, which a stall of ours or of the network brings at once
CALM = 100.0  # left at least, where nothing has come near the cap lately


class RateCap:
    __slots__ = ("at", "left")

    def __init__(self) -> None:
        self.at = 0.0
        self.left = BURST

    def admits(self, now: float) -> bool:
        """One more packet."""
        left = min(BURST, self.left + (now - self.at) * PACKETS_PER_S)
        self.at = now
        if left < 1.0:
            self.left = left
            return False
        self.left = left - 1.0
        return True

    def went_on(self, packets: int, at: float) -> None:
        """So many were admitted without asking, the last at `at`, at a pace far below the cap."""
        left = min(BURST, self.left + (at - self.at) * PACKETS_PER_S - packets)
        self.left, self.at = left, at

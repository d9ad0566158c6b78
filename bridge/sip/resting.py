"""Servers that asked to be left alone: a 503 with Retry-After (RFC 3261 section 21.5.4)."""

from bridge.sip.events import Flow

MAX_REST_S = 60.0
"""Longer than that nobody is believed: with one server for a trunk it would be out for hours."""

MAX_RESTING = 1024


class Resting:
    def __init__(self) -> None:
        self._until: dict[tuple[str, tuple[str, int]], float] = {}

    def rest(self, flow: Flow, seconds: float, now: float) -> None:
        """No new call goes there for so long."""
        self._until = {key: until for key, until in self._until.items() if until > now}
        if seconds > 0 and len(self._until) < MAX_RESTING:
            self._until[flow.transport, flow.remote] = now + min(seconds, MAX_REST_S)

    def left_s(self, flow: Flow, now: float) -> float:
        """How long it rests still; 0 for a server that may be asked."""
        return max(0.0, self._until.get((flow.transport, flow.remote), now) - now)

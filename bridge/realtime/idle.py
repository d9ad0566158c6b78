"""The silence after the last response: since when it lasts, and which audio it is made of."""

from bridge.realtime.session_config import SessionConfig


class Idle:
    """Runs from the end of what the caller hears of a response until somebody does something."""

    def __init__(self) -> None:
        self.from_ms = 0
        """Where on the clock of all audio the silence began."""
        self._since: float | None = None
        self._answered = False
        self._unheard_ms = 0

    def answered(self, unheard_ms: int) -> None:
        """A response is done; a client that plays it itself needs `unheard_ms` for that."""
        self._answered = True
        self._unheard_ms = unheard_ms

    def caller_spoke(self) -> None:
        self._answered = False
        self._since = None

    def restart(self) -> None:
        """The caller did something that is no turn."""
        self._since = None

    def update(self, now: float, heard_ms: int, *, busy: bool) -> None:
        if busy or not self._answered:
            self._since = None
        elif self._since is None:
            self._since = now + self._unheard_ms / 1000
            self.from_ms = heard_ms + self._unheard_ms
            self._unheard_ms = 0

    def due(self, config: SessionConfig) -> float | None:
        """When `idle_timeout_ms` of this session is over."""
        detection = config.turn_detection
        if self._since is None or detection is None or config.type != "realtime":
            return None
        timeout_ms = detection.idle_timeout_ms if detection.type == "server_vad" else None
        return None if timeout_ms is None else self._since + timeout_ms / 1000

"""Whether the model at the other end is still there, judged by what is due and does not come."""

from enum import Enum, auto

from bridge.backends.upstream.settings import UpstreamSettings

TICK_S = 0.1
"""How often `check` is called."""


class Due(Enum):
    NOTHING = auto()
    SIGN = auto()
    """It seems not to hear the caller, and may have its reasons."""
    SESSION = auto()
    """It is connected, and has not taken the session yet."""
    ANSWER = auto()
    """A turn has ended, and it has not begun to answer."""
    EVENT = auto()
    """It was asked for something, or has begun it."""
    SOUND = auto()
    """The caller hears the middle of a message, and the rest does not come."""


class Finding(Enum):
    FINE = auto()
    PROBE = auto()
    """Ask for a sign of life."""
    LATE = auto()
    """It may be alive, but a caller cannot be left waiting for longer."""
    GONE = auto()


class Pulse:
    def __init__(self, settings: UpstreamSettings, now: float) -> None:
        self._settings = settings
        self._since = now
        self._probed_at: float | None = None
        self._signed = False

    def event(self, now: float) -> None:
        """It said something of itself."""
        self._since = now
        self._probed_at = None
        self._signed = False

    def sign(self) -> None:
        """It answered a probe: it is there, whatever keeps it."""
        self._signed = True

    def silent_s(self, now: float) -> float:
        """How long it has said nothing that was due."""
        return now - self._since

    @property
    def probing(self) -> bool:
        return self._probed_at is not None and not self._signed

    def check(self, due: Due, now: float) -> Finding:
        if due is Due.NOTHING:
            self.event(now)
            return Finding.FINE
        if now - self._since > self._patience_s(due):
            return Finding.LATE
        half_s = self._settings.flow_timeout_s / 2
        if self._probed_at is None:
            if now - self._since <= half_s:
                return Finding.FINE
            self._probed_at = now
            return Finding.PROBE
        return Finding.GONE if self.probing and now - self._probed_at > half_s else Finding.FINE

    def _patience_s(self, due: Due) -> float:
        if due is Due.SIGN:
            return float("inf")
        settings = self._settings
        sooner = {
            Due.SESSION: settings.connect_timeout_s,
            # It is asked for once more before it is given up.
            Due.ANSWER: settings.stall_timeout_s / 2,
            Due.SOUND: settings.flow_timeout_s,
        }
        return min(settings.stall_timeout_s, sooner.get(due, settings.stall_timeout_s))

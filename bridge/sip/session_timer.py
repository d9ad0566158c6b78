"""Session timers (RFC 4028): who keeps a call alive, how often, and when it is given up."""

from typing import Protocol

from bridge.sip.events import EndCause
from bridge.sip.host import Host
from bridge.sip.message import Request, Response
from bridge.sip.timers import Timer

MIN_SE = 90  # seconds; RFC 4028 section 5
OPTION = "timer"


def expiry_delay(seconds: int) -> float:
    """When the side that waits for a refresh says BYE (section 10)."""
    return seconds - min(32.0, seconds / 3)


def supports(message: Request | Response) -> bool:
    return OPTION in message.supported or OPTION in message.require


class TimedCall(Protocol):
    def refresh(self, now: float) -> None: ...

    def leave(self, cause: EndCause, now: float) -> None: ...


class SessionTimer:
    """`seconds` is 0 while no interval is agreed; a 2xx to INVITE or UPDATE agrees on one."""

    def __init__(self, usage: TimedCall, host: Host) -> None:
        self.usage = usage
        self.host = host
        self.asked = 0
        self.min_se = MIN_SE
        self.seconds = 0
        self.we_refresh = False

    def propose(self, asked: int, min_se: int) -> None:
        """What the INVITE of a call of ours has asked for."""
        self.asked = asked
        self.min_se = max(min_se, MIN_SE)

    def answer(self, request: Request, now: float) -> list[tuple[str, str]]:
        """The headers of our 2xx (section 9)."""
        config = self.host.config
        asked = request.session_expires
        if OPTION not in config.supported or not (asked or config.session_expires):
            self.stop()
            return []
        if asked is not None:
            seconds, refresher = asked
            if not supports(request):
                refresher = "uas"
        elif supports(request):
            seconds, refresher = max(config.session_expires, request.min_se or MIN_SE), "uas"
        else:
            self.stop()
            return []
        refresher = refresher or "uac"
        self._start(seconds, now, we_refresh=refresher == "uas")
        lines = [("Session-Expires", f"{seconds};refresher={refresher}")]
        return [*lines, ("Require", OPTION)] if refresher == "uac" else lines

    def request_lines(self) -> list[tuple[str, str]]:
        """The headers of a re-INVITE or UPDATE of ours (section 7)."""
        if OPTION not in self.host.config.supported or not (self.seconds or self.asked):
            return []
        seconds = max(self.seconds or self.asked, self.min_se)
        refresher = ""
        if self.seconds:
            refresher = ";refresher=uac" if self.we_refresh else ";refresher=uas"
        return [("Session-Expires", f"{seconds}{refresher}"), *self.min_lines()]

    def min_lines(self) -> list[tuple[str, str]]:
        return [("Min-SE", str(self.min_se))] if self.min_se > MIN_SE else []

    def agreed(self, response: Response, now: float) -> None:
        """A 2xx to an INVITE or UPDATE of ours; without Session-Expires nothing expires."""
        agreed = response.session_expires
        if agreed is None or OPTION not in self.host.config.supported:
            self.stop()
        else:
            self._start(agreed[0], now, we_refresh=agreed[1] != "uas")

    def raised(self, response: Response) -> bool:
        """A 422 that names more than we asked for (section 7.4)."""
        if response.status != 422 or (response.min_se or 0) <= self.min_se:
            return False
        self.min_se = response.min_se or MIN_SE
        return True

    def stop(self) -> None:
        self.seconds = 0
        self.host.timers.stop_all(self)

    def timer_fired(self, timer: Timer, now: float) -> None:
        if timer is Timer.REFRESH:
            self.usage.refresh(now)
        else:
            self.usage.leave("expired", now)

    def _start(self, seconds: int, now: float, *, we_refresh: bool) -> None:
        # An interval below what the RFC allows would have us refresh without end.
        self.seconds = seconds = max(seconds, MIN_SE)
        self.we_refresh = we_refresh
        self.host.timers.stop_all(self)
        self.host.timers.start(self, Timer.EXPIRY, now + expiry_delay(seconds))
        if we_refresh:
            self.host.timers.start(self, Timer.REFRESH, now + seconds / 2)

"""Provisional responses that the caller must acknowledge (RFC 3262 section 3), one at a time."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.sip.message import Request, Response
from bridge.sip.server_transaction import InviteServerTransaction
from bridge.sip.timers import GIVE_UP, T1, Timer, TimerQueue

OPTION = "100rel"


@dataclass(eq=False, slots=True)
class ReliableResponses:
    """Sent again from T1, doubling, until the PRACK; the next one and the 2xx wait for it."""

    transaction: InviteServerTransaction
    timers: TimerQueue
    number: int
    """The RSeq of the next response."""
    failed: Callable[[float], None]
    """No PRACK came for 64*T1."""
    waiting: deque[Response] = field(default_factory=deque)
    """The first one is on the wire."""
    held: Callable[[float], None] | None = None
    """The 2xx."""
    interval: float = T1
    between: bool = False
    """A PRACK came, and is not answered yet."""

    def send(self, response: Response, now: float) -> None:
        headers = response.headers.added("Require", OPTION).added("RSeq", str(self.number))
        self.number += 1
        numbered = Response(response.status, response.reason, headers, response.body)
        self.waiting.append(numbered)
        if len(self.waiting) == 1 and not self.between:
            self._start(now)

    def hold(self, answer: Callable[[float], None], now: float) -> None:
        """`answer` is called when nothing waits for a PRACK any more."""
        if self.waiting or self.between:
            self.held = self.held or answer
        else:
            answer(now)

    def acknowledge(self, prack: Request) -> Response | None:
        """What the PRACK is for, to `proceed` from; None when nothing such waits: 481."""
        rack = prack.rack
        if not self.waiting or self.between or rack is None:
            return None
        first = self.waiting[0]
        if rack != (first.rseq, first.cseq.number, first.cseq.method):
            return None
        self.waiting.popleft()
        self.timers.stop_all(self)
        self.between = True
        return first

    def proceed(self, now: float) -> None:
        """After the PRACK is answered: the next response, or the 2xx."""
        self.between = False
        if self.waiting:
            self._start(now)
        elif self.held is not None:
            answer, self.held = self.held, None
            answer(now)

    def stop(self) -> None:
        self.waiting.clear()
        self.held = None
        self.timers.stop_all(self)

    def timer_fired(self, timer: Timer, now: float) -> None:
        if timer is Timer.NO_PRACK:
            self.failed(now)
            return
        self.transaction.respond(self.waiting[0], now)
        self.interval *= 2
        self.timers.start(self, Timer.RELIABLE, now + self.interval)

    def _start(self, now: float) -> None:
        self.interval = T1
        self.transaction.respond(self.waiting[0], now)
        self.timers.start(self, Timer.RELIABLE, now + T1)
        self.timers.start(self, Timer.NO_PRACK, now + GIVE_UP)

"""2xx to INVITE and their ACKs, end to end: ours repeated until the ACK, theirs ACKed each time."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.sip.events import Flow
from bridge.sip.message import Response
from bridge.sip.server_transaction import InviteServerTransaction
from bridge.sip.timers import GIVE_UP, T1, T2, Timer, TimerQueue


@dataclass(eq=False, slots=True)
class Unacknowledged:
    """A 2xx to INVITE, sent again from T1 to T2 until its ACK comes (section 13.3.1.4).

    On connections too: the 2xx may have crossed a lossy hop behind the proxy.
    """

    transaction: InviteServerTransaction
    response: Response
    timers: TimerQueue
    given_up: Callable[[float], None]
    carries_offer: bool
    interval: float = T1

    def start(self, now: float) -> None:
        self.transaction.respond(self.response, now)
        self.timers.start(self, Timer.SUCCESS, now + self.interval)
        self.timers.start(self, Timer.NO_ACK, now + GIVE_UP)

    def timer_fired(self, timer: Timer, now: float) -> None:
        if timer is Timer.NO_ACK:
            self.given_up(now)
            return
        self.transaction.respond(self.response, now)
        self.interval = min(2 * self.interval, T2)
        self.timers.start(self, Timer.SUCCESS, now + self.interval)

    def stop(self) -> None:
        self.timers.stop_all(self)


@dataclass(eq=False, slots=True)
class Acks:
    """What was sent for the 2xx to one INVITE of ours: one for each dialog a fork has made.

    It lives as long as its client transaction, so copies of a 2xx are met for timer M.
    """

    send: Callable[[Flow, bytes], None]
    sent: dict[str, tuple[Flow, bytes] | None] = field(default_factory=dict)
    """By remote tag; None while the answer that the ACK must carry is not known."""

    def is_copy(self, tag: str) -> bool:
        """A 2xx with this tag came before; it is ACKed as then."""
        if tag not in self.sent:
            return False
        if ack := self.sent[tag]:
            self.send(*ack)
        return True

"""An incoming call before its answer: what rings, and what is agreed on until then.

A reliable provisional response (RFC 3262) may bring our answer, or the offer of a call that came
without one; its PRACK brings the peer's answer, or a new offer. Once an offer and its answer have
passed that way, the session can change by UPDATE before anybody picks up (RFC 3311).
"""

from collections.abc import Callable
from typing import Protocol

from bridge.sip.body import session_description
from bridge.sip.events import EarlyAnswer, UsageId
from bridge.sip.host import Host
from bridge.sip.message import Response
from bridge.sip.offers import Offers
from bridge.sip.reliable import OPTION, ReliableResponses
from bridge.sip.server_transaction import InviteServerTransaction, ServerTransaction
from bridge.sip.timers import REFRESH_PROVISIONAL, Timer


class RingingCall(Protocol):
    id: UsageId
    offers: Offers
    local_description: bytes

    def provisional_response(self, status: int, body: bytes) -> Response: ...

    def accept(self, transaction: ServerTransaction, now: float) -> None: ...

    def refuse(self, transaction: ServerTransaction, status: int, now: float) -> None: ...

    def refuse_for_now(self, transaction: ServerTransaction, now: float) -> None: ...

    def not_acknowledged_early(self, now: float) -> None: ...


class Ringing:
    def __init__(self, call: RingingCall, host: Host, transaction: InviteServerTransaction) -> None:
        request = transaction.request
        self._call = call
        self._host = host
        self._transaction = transaction
        self._offered = session_description(request) is not None
        self._required = OPTION in request.require
        self._reliable: ReliableResponses | None = None
        if self._required or (OPTION in request.supported and not self._offered):
            number = host.rng.randrange(1, 2**31)
            self._reliable = ReliableResponses(
                transaction,
                host.timers,
                number,
                # Not the method itself, which would keep the call: it may be known weakly here.
                lambda now: call.not_acknowledged_early(now),
            )
        self._provisional: Response | None = None
        self._offer_out = False
        """Ours went out in a reliable response, and its answer has not come."""
        self._settled = False
        """An offer and its answer have passed, both reliably."""
        self._changed = False
        """The answer to the INVITE is not what holds any more."""

    def provisional(self, status: int, body: bytes, now: float) -> None:
        if self._reliable is not None and self._is_reliable(body):
            if not self._may_carry(body):
                body = b""
            if body and not self._offered:
                self._offer_out = True
            self._call.local_description = body or self._call.local_description
            self._reliable.send(self._call.provisional_response(status, body), now)
            return
        if self._required:
            # Without an offer to answer, the first reliable response would have to make one.
            return
        # Nobody could answer an offer in a response that may get lost.
        response = self._call.provisional_response(status, body if self._offered else b"")
        self._transaction.respond(response, now)
        self._provisional = response
        self._host.timers.start(self, Timer.PROVISIONAL, now + REFRESH_PROVISIONAL)

    def hold(self, answer: Callable[[bytes, float], None], body: bytes, now: float) -> None:
        """`answer` is called when nothing waits for a PRACK, or a PRACK for us, any more.

        What is agreed on already is not said again: the 2xx would seem to make a new offer.
        """
        if self._reliable is None:
            answer(body, now)
        else:
            self._reliable.hold(lambda then: answer(b"" if self._is_agreed else body, then), now)

    def acknowledged(self, transaction: ServerTransaction, now: float) -> None:
        """A PRACK."""
        reliable = self._reliable
        response = None if reliable is None else reliable.acknowledge(transaction.request)
        if reliable is None or response is None:
            self._call.refuse(transaction, 481, now)
            return
        body = session_description(transaction.request)
        if self._offered and response.body:
            self._settled = True
        if body is None:
            self._call.accept(transaction, now)
        elif self._offer_out:
            self._offer_out, self._settled = False, True
            self._call.accept(transaction, now)
            self._host.emit(EarlyAnswer(self._call.id, body))
        elif not self._settled:
            # A second offer before the answer to the first.
            self._call.refuse(transaction, 488, now)
        elif self._call.offers.theirs is not None:
            self._call.refuse_for_now(transaction, now)
        else:
            # What waits for the PRACK waits for the answer to its offer as well.
            self._call.offers.receive(transaction, "PRACK", now)
            return
        reliable.proceed(now)

    def offered(self, transaction: ServerTransaction, now: float) -> None:
        """An UPDATE with an offer (RFC 3311 section 5.2)."""
        if self._offer_out:
            self._call.refuse(transaction, 491, now)
        elif not self._settled:
            self._call.refuse_for_now(transaction, now)
        else:
            self._call.offers.receive(transaction, "UPDATE", now)

    def answered_offer(self, status: int, method: str, now: float) -> None:
        """The owner has answered what `acknowledged` or `offered` reported."""
        self._changed = self._changed or status < 300
        if method == "PRACK" and self._reliable is not None:
            self._reliable.proceed(now)

    def stop(self) -> None:
        self._host.timers.stop_all(self)
        if self._reliable is not None:
            self._reliable.stop()

    def timer_fired(self, timer: Timer, now: float) -> None:
        if self._provisional is not None:
            self._transaction.respond(self._provisional, now)
            self._host.timers.start(self, timer, now + REFRESH_PROVISIONAL)

    @property
    def _is_agreed(self) -> bool:
        return self._changed or (self._settled and not self._offered)

    def _is_reliable(self, body: bytes) -> bool:
        if self._offered:
            return self._required
        return bool(body) or (self._required and self._offer_was_made)

    @property
    def _offer_was_made(self) -> bool:
        return self._offer_out or self._settled

    def _may_carry(self, body: bytes) -> bool:
        """One offer, and no second answer once the session has changed."""
        return not self._changed if self._offered else not self._offer_was_made

"""Offers inside a dialog that is up: re-INVITE and UPDATE, both ways (RFC 3261 14, RFC 3311).

One offer at a time. Ours wait until theirs is done and until every 2xx is acknowledged; when
both ends begin at once, both are refused with 491 and try again after different times.
"""

import random
from collections import deque
from dataclasses import dataclass
from typing import Literal, Protocol

from bridge.sip.answers import Acks
from bridge.sip.auth import Credentials
from bridge.sip.body import session_description
from bridge.sip.challenge import Challenged
from bridge.sip.client_transaction import ClientTransaction
from bridge.sip.dialog import Dialog
from bridge.sip.events import EndCause, Reoffer, ReofferDone, UsageId
from bridge.sip.host import Host
from bridge.sip.message import Response
from bridge.sip.server_transaction import ServerTransaction
from bridge.sip.session_timer import SessionTimer
from bridge.sip.timers import GIVE_UP, Timer

Method = Literal["INVITE", "UPDATE"]

MAX_TRIES = 8
GONE = frozenset({408, 481})
NO_UPDATE = frozenset({405, 501})


class OfferingCall(Protocol):
    """The call that the offers are made in."""

    id: UsageId
    dialog: Dialog
    timer: SessionTimer
    credentials: Credentials | None
    calling: bool

    @property
    def may_offer(self) -> bool: ...

    @property
    def awaits_answer(self) -> bool: ...

    def offer_lines(self, method: Method) -> list[tuple[str, str]]: ...

    def refreshed_by(self, response: Response, now: float) -> None: ...

    def refresh_without_update(self, now: float) -> None: ...

    def leave(self, cause: EndCause, now: float) -> None: ...

    def refuse(self, transaction: ServerTransaction, status: int, now: float) -> None: ...

    def refuse_for_now(self, transaction: ServerTransaction, now: float) -> None: ...


def glare_delay(rng: random.Random, *, calling: bool) -> float:
    """Seconds to wait after a 491 (section 14.1), in steps of 10 ms.

    The side that made the Call-ID waits longer than the other ever does.
    """
    return rng.randint(210, 400) / 100 if calling else rng.randint(0, 200) / 100


@dataclass(eq=False, slots=True)
class OurOffer:
    """One re-INVITE or UPDATE, over all its tries."""

    offers: "Offers"
    method: Method
    body: bytes
    challenged: Challenged
    acks: Acks
    transaction: ClientTransaction | None = None
    tries: int = 0
    refresh: bool = False
    """For the session timer: the owner is not told."""

    def response_received(self, response: Response, now: float) -> None:
        if response.status < 200:
            return
        success = response.status < 300
        if success and self.method == "INVITE" and self.acks.is_copy(response.to_tag or ""):
            return
        self.offers.answered(self, response, now)

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None:
        self.offers.unanswered(self, cause, now)

    def timer_fired(self, timer: Timer, now: float) -> None:
        if self.transaction is not None:
            self.transaction.abandon(now)


class Offers:
    def __init__(self, usage: OfferingCall, host: Host) -> None:
        self.usage = usage
        self.dialog = usage.dialog
        """What is owed to an offer that crossed the end of the call outlives the call."""
        self.host = host
        self.theirs: ServerTransaction | None = None
        """Waits for the owner's answer."""
        self.waiting: deque[OurOffer] = deque()
        self.ours: OurOffer | None = None
        self.unanswered_2xx: tuple[OurOffer, Response] | None = None
        """It carried the offer, and the owner has not given the answer for the ACK."""
        self._glare = False

    # Ours

    def make(self, method: Method, body: bytes, now: float, *, refresh: bool = False) -> None:
        challenged = Challenged(self.usage.credentials, self.host.rng)
        offer = OurOffer(self, method, body, challenged, Acks(self.host.send), refresh=refresh)
        self.waiting.append(offer)
        self.proceed(now)

    @property
    def busy(self) -> bool:
        """An offer of either side is under way or about to be."""
        return bool(self.waiting or self.ours or self.theirs or self.unanswered_2xx)

    def proceed(self, now: float) -> None:
        """Send the next offer of ours if nothing stands in its way."""
        free = self.ours is None and self.theirs is None and self.unanswered_2xx is None
        if self.waiting and free and not self._glare and self.usage.may_offer:
            self.ours = self.waiting.popleft()
            self._send(self.ours, now)

    def answer(self, body: bytes, now: float) -> None:
        """The answer to an offer that came in a 2xx."""
        if self.unanswered_2xx is None:
            return
        (offer, response), self.unanswered_2xx = self.unanswered_2xx, None
        self._acknowledge(offer, response, body)
        self.proceed(now)

    def answered(self, offer: OurOffer, response: Response, now: float) -> None:
        """A final response to one try."""
        success = response.status < 300
        if offer is not self.ours:
            # The call is over; an INVITE that crossed its end is still owed the ACK.
            if success and offer.method == "INVITE":
                self._acknowledge(offer, response, b"")
            return
        if not success and self._try_again(offer, response, now):
            return
        self.ours = None
        if not success:
            self._refused(offer, response, now)
            return
        self.dialog.refresh_target(response)
        self.usage.refreshed_by(response, now)
        body = session_description(response) or b""
        if offer.method == "INVITE":
            if body and not offer.body:
                offer.acks.sent[response.to_tag or ""] = None
                self.unanswered_2xx = offer, response
            else:
                self._acknowledge(offer, response, b"")
        self._done(offer, response.status, body, now)

    def unanswered(
        self, offer: OurOffer, cause: Literal["timeout", "transport"], now: float
    ) -> None:
        if offer is self.ours:
            self.ours = None
            self.usage.leave(cause, now)

    def timer_fired(self, timer: Timer, now: float) -> None:
        self._glare = False
        self.proceed(now)

    # Theirs

    def receive(
        self,
        transaction: ServerTransaction,
        method: Literal["INVITE", "UPDATE", "PRACK"],
        now: float,
    ) -> None:
        """A re-INVITE, or an UPDATE with a body (section 14.2, RFC 3311 section 5.2)."""
        ours = self.ours is not None and (self.ours.method == "INVITE" or bool(self.ours.body))
        if self.theirs is not None:
            self.usage.refuse_for_now(transaction, now)
        elif ours or self.unanswered_2xx is not None or self.usage.awaits_answer:
            self.usage.refuse(transaction, 491, now)
        else:
            self.theirs = transaction
            offer = session_description(transaction.request) or b""
            self.host.emit(Reoffer(self.usage.id, offer, method))

    def take_theirs(self) -> ServerTransaction | None:
        theirs, self.theirs = self.theirs, None
        return theirs

    def end(self, now: float) -> None:
        """The call is over: nothing is sent any more, and what is under way may not stay."""
        self.waiting.clear()
        self.host.timers.stop_all(self)
        if self.unanswered_2xx is not None:
            self.answer(b"", now)
        offer, self.ours = self.ours, None
        if offer is not None and offer.transaction is not None:
            self.host.timers.start(offer, Timer.ABANDON, now + GIVE_UP)

    def _send(self, offer: OurOffer, now: float) -> None:
        offer.tries += 1
        usage = self.usage
        lines = [*usage.offer_lines(offer.method), *offer.challenged.lines]
        offer.transaction = self.host.send_request(
            self.dialog, offer.method, offer, now, lines, offer.body
        )

    def _try_again(self, offer: OurOffer, response: Response, now: float) -> bool:
        if offer.tries >= MAX_TRIES or offer.transaction is None:
            return False
        status = response.status
        delay = 0.0
        if status == 491:
            delay = glare_delay(self.host.rng, calling=self.usage.calling)
        elif status == 500 and response.retry_after is not None:
            delay = float(response.retry_after)
        elif not self.usage.timer.raised(response) and not offer.challenged.answer(
            offer.transaction.request, response
        ):
            return False
        self.ours = None
        self.waiting.appendleft(offer)
        if delay:
            self._glare = True
            self.host.timers.start(self, Timer.GLARE, now + delay)
        self.proceed(now)
        return True

    def _refused(self, offer: OurOffer, response: Response, now: float) -> None:
        if offer.refresh and offer.method == "UPDATE" and response.status in NO_UPDATE:
            self.usage.refresh_without_update(now)
        elif response.status in GONE:
            cause: EndCause = "timeout" if response.status == 408 else "gone"
            self.usage.leave(cause, now)
        else:
            self._done(offer, response.status, b"", now)

    def _done(self, offer: OurOffer, status: int, body: bytes, now: float) -> None:
        if not offer.refresh:
            self.host.emit(ReofferDone(self.usage.id, status, body))
        self.proceed(now)

    def _acknowledge(self, offer: OurOffer, response: Response, body: bytes) -> None:
        if offer.transaction is not None:
            ack = self.host.acknowledge(self.dialog, offer.transaction.request, body)
            offer.acks.sent[response.to_tag or ""] = ack

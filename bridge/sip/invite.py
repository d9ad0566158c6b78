"""The INVITE usage of a dialog, answering side: one call from its INVITE to its BYE.

`CALL` is the whole life of a call. What the owner hears ends when the call ends for it
(`CallEnded`, `CallCancelled`); LEAVING and ENDING are what is still owed to the peer then.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from bridge.errors import SipError
from bridge.sip.body import SDP, session_description
from bridge.sip.client_transaction import ClientUser
from bridge.sip.dialog import Dialog
from bridge.sip.events import (
    CallCancelled,
    CallConfirmed,
    CallEnded,
    EndCause,
    Event,
    Flow,
    InfoReceived,
    Reoffer,
    UsageId,
)
from bridge.sip.grammar import FORBIDDEN_IN_LINE
from bridge.sip.message import Request, Response, make_response
from bridge.sip.server_transaction import InviteServerTransaction, ServerTransaction
from bridge.sip.timers import GIVE_UP, REFRESH_PROVISIONAL, T1, T2, Timer, TimerQueue
from bridge.sip.transaction import is_reliable


class CallState(StrEnum):
    RINGING = "ringing"
    ANSWERED = "answered"
    CONFIRMED = "confirmed"
    LEAVING = "leaving"
    ENDING = "ending"
    ENDED = "ended"


class Step(StrEnum):
    ANSWER = "answer"
    REJECT = "reject"
    HANGUP = "hangup"
    CANCEL = "CANCEL"
    ACK = "ACK"
    BYE = "BYE"
    NO_ACK = "no ACK"
    FAREWELL = "our BYE is answered"
    LOST = "flow lost"


# RFC 3261 section 15: the callee must not send BYE before the ACK, hence LEAVING; the caller may
# send BYE at any time. CANCEL after the answer does nothing (section 9.2).
CALL: dict[CallState, dict[Step, CallState]] = {
    CallState.RINGING: {
        Step.ANSWER: CallState.ANSWERED,
        Step.REJECT: CallState.ENDED,
        Step.HANGUP: CallState.ENDED,
        Step.CANCEL: CallState.ENDED,
        Step.BYE: CallState.ENDED,
        Step.LOST: CallState.ENDED,
    },
    CallState.ANSWERED: {
        Step.ACK: CallState.CONFIRMED,
        Step.HANGUP: CallState.LEAVING,
        Step.BYE: CallState.ENDED,
        Step.NO_ACK: CallState.ENDING,
    },
    CallState.CONFIRMED: {
        Step.HANGUP: CallState.ENDING,
        Step.BYE: CallState.ENDED,
        Step.NO_ACK: CallState.ENDING,
    },
    CallState.LEAVING: {
        Step.ACK: CallState.ENDING,
        Step.BYE: CallState.ENDED,
        Step.NO_ACK: CallState.ENDING,
    },
    CallState.ENDING: {Step.FAREWELL: CallState.ENDED, Step.BYE: CallState.ENDED},
    CallState.ENDED: {},
}


class UsageHost(Protocol):
    """What a usage needs of its user agent."""

    @property
    def timers(self) -> TimerQueue: ...

    @property
    def rng(self) -> random.Random: ...

    def emit(self, event: Event) -> None: ...

    def capabilities(self, flow: Flow, request: Request) -> list[tuple[str, str]]:
        """Contact, Allow, Supported and Server of our 2xx."""
        ...

    def contact(self, flow: Flow, request: Request) -> tuple[str, str]: ...

    def send_request(
        self,
        dialog: Dialog,
        method: str,
        user: ClientUser,
        now: float,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None: ...

    def forget(self, usage: "InviteUsage") -> None: ...


@dataclass(eq=False, slots=True)
class Unacknowledged:
    """A 2xx to INVITE, sent again from T1 to T2 until its ACK comes (section 13.3.1.4).

    On connections too: the 2xx may have crossed a lossy hop behind the proxy.
    """

    usage: "InviteUsage"
    transaction: InviteServerTransaction
    response: Response
    carries_offer: bool
    interval: float = T1

    def start(self, now: float) -> None:
        self.transaction.respond(self.response, now)
        self.usage.host.timers.start(self, Timer.SUCCESS, now + self.interval)
        self.usage.host.timers.start(self, Timer.NO_ACK, now + GIVE_UP)

    def timer_fired(self, timer: Timer, now: float) -> None:
        if timer is Timer.NO_ACK:
            self.usage.not_acknowledged(now)
            return
        self.transaction.respond(self.response, now)
        self.interval = min(2 * self.interval, T2)
        self.usage.host.timers.start(self, Timer.SUCCESS, now + self.interval)

    def stop(self) -> None:
        self.usage.host.timers.stop_all(self)


class InviteUsage:
    def __init__(
        self,
        usage: UsageId,
        transaction: InviteServerTransaction,
        dialog: Dialog,
        host: UsageHost,
    ) -> None:
        self.id = usage
        self.dialog = dialog
        self.host = host
        self.state = CallState.RINGING
        self.transaction = transaction
        self._reason: str | None = None
        self._provisional: Response | None = None
        self._unacknowledged: dict[int, Unacknowledged] = {}
        self._reoffer: ServerTransaction | None = None

    # What the owner wants

    def provisional(self, status: int, body: bytes, now: float) -> None:
        if self.state is not CallState.RINGING:
            return
        request = self.transaction.request
        headers = [self.host.contact(self.dialog.flow, request)]
        response = self._response(request, status, headers, body)
        self.transaction.respond(response, now)
        self._provisional = response
        self.host.timers.start(self, Timer.PROVISIONAL, now + REFRESH_PROVISIONAL)

    def answer(self, body: bytes, now: float) -> None:
        if self.state is CallState.RINGING:
            self._accept_invite(self.transaction, body, now)
            self._go(Step.ANSWER)

    def reject(
        self, status: int, now: float, reason: str | None, headers: Iterable[tuple[str, str]]
    ) -> None:
        if self.state is CallState.RINGING:
            self._refuse(self.transaction, status, now, reason, headers)
            self._end(Step.REJECT, "rejected", now)

    def hangup(self, now: float, reason_header: str | None) -> None:
        """Before the answer: 480. Between 2xx and ACK: BYE follows the ACK.

        Raises SipError when `reason_header` cannot stand in a message.
        """
        if reason_header is not None and FORBIDDEN_IN_LINE.search(reason_header):
            raise SipError("line break or NUL in a header", status=500)
        self._reason = reason_header
        if self.state is CallState.RINGING:
            self._refuse(self.transaction, 480, now)
            self._end(Step.HANGUP, "hangup", now)
        elif self.state is CallState.CONFIRMED:
            self._leave(now)
            self._end(Step.HANGUP, "hangup", now)
        elif self.state is CallState.ANSWERED:
            self._end(Step.HANGUP, "hangup", now)

    def answer_reoffer(self, status: int, body: bytes, now: float) -> None:
        transaction, self._reoffer = self._reoffer, None
        if transaction is None:
            return
        if status >= 300:
            self._refuse(transaction, status, now)
            return
        # RFC 6141: the new target counts once the request that brought it is accepted.
        self.dialog.refresh_target(transaction.request)
        if isinstance(transaction, InviteServerTransaction):
            self._accept_invite(transaction, body, now)
        else:
            self._accept(transaction, now, body)

    # What the peer wants

    def receive(self, transaction: ServerTransaction, now: float) -> None:
        """A request of the dialog, other than ACK and CANCEL."""
        request = transaction.request
        if self.state in (CallState.ENDING, CallState.LEAVING) and request.method != "BYE":
            self._refuse(transaction, 481, now)
            return
        if not self.dialog.accept(request):
            self._refuse(transaction, 500, now)
            return
        self.dialog.reached_by(transaction.flow)
        match request.method:
            case "BYE":
                self._accept(transaction, now)
                self._end(Step.BYE, "bye", now)
            case "INVITE":
                self._reoffered(transaction, "INVITE", now)
            case "UPDATE" if request.body:
                self._reoffered(transaction, "UPDATE", now)
            case "UPDATE":
                self._refreshed(transaction, now)
            case "INFO":
                self._accept(transaction, now)
                self.host.emit(InfoReceived(self.id, request.content_type, request.body))
            case _:
                headers = self.host.capabilities(self.dialog.flow, request)
                transaction.respond(self._response(request, 200, headers), now)

    def acknowledge(self, request: Request, now: float) -> None:
        answered = self._unacknowledged.pop(request.cseq.number, None)
        if answered is None:
            return
        answered.stop()
        if self.state is CallState.LEAVING:
            self._leave(now)
            self._end(Step.ACK, "hangup", now)
            return
        if answered.transaction is self.transaction:
            self._go(Step.ACK)
        self.host.emit(CallConfirmed(self.id, session_description(request) or b""))

    def cancel(self, transaction: ServerTransaction, now: float) -> None:
        """A CANCEL found `transaction`; without effect once it is answered (section 9.2)."""
        if transaction is self._reoffer:
            self._reoffer = None
            self._refuse(transaction, 487, now)
        elif transaction is self.transaction and self.state is CallState.RINGING:
            self._refuse(transaction, 487, now)
            self._go(Step.CANCEL)
            self.host.emit(CallCancelled(self.id))

    def flow_failed(self, flow: Flow, now: float) -> None:
        """An unanswered caller whose connection is gone cannot be answered any more."""
        if self.dialog.flow == flow and is_reliable(flow):
            self.dialog.flow_lost = True
        if self.state is CallState.RINGING and self.transaction.flow == flow:
            self._end(Step.LOST, "transport", now)

    def not_acknowledged(self, now: float) -> None:
        self._leave(now)
        self._end(Step.NO_ACK, "no_ack", now)

    def timer_fired(self, timer: Timer, now: float) -> None:
        if self._provisional is not None:
            self.transaction.respond(self._provisional, now)
            self.host.timers.start(self, timer, now + REFRESH_PROVISIONAL)

    # Our BYE, as the user of its transaction

    def response_received(self, response: Response, now: float) -> None:
        if response.status >= 200:
            self._go(Step.FAREWELL)

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None:
        self._go(Step.FAREWELL)

    def _reoffered(
        self, transaction: ServerTransaction, method: Literal["INVITE", "UPDATE"], now: float
    ) -> None:
        # RFC 3261 section 14.2 and RFC 3311 section 5.2.
        if self._reoffer is not None or self.state is CallState.RINGING:
            self._refuse_for_now(transaction, now)
        elif any(answered.carries_offer for answered in self._unacknowledged.values()):
            self._refuse(transaction, 491, now)
        else:
            self._reoffer = transaction
            offer = session_description(transaction.request) or b""
            self.host.emit(Reoffer(self.id, offer, method))

    def _refreshed(self, transaction: ServerTransaction, now: float) -> None:
        """UPDATE without a body: a session refresh or a new Contact."""
        if self._reoffer is not None and self._reoffer.request.method == "UPDATE":
            self._refuse_for_now(transaction, now)
            return
        self.dialog.refresh_target(transaction.request)
        self._accept(transaction, now)

    def _accept_invite(self, transaction: InviteServerTransaction, body: bytes, now: float) -> None:
        request = transaction.request
        headers = self.host.capabilities(self.dialog.flow, request)
        response = self._response(request, 200, headers, body)
        carries_offer = bool(body) and session_description(request) is None
        answered = Unacknowledged(self, transaction, response, carries_offer)
        answered.start(now)
        self._unacknowledged[request.cseq.number] = answered

    def _accept(self, transaction: ServerTransaction, now: float, body: bytes = b"") -> None:
        request = transaction.request
        headers = [self.host.contact(self.dialog.flow, request)] if request.method != "BYE" else []
        transaction.respond(self._response(request, 200, headers, body), now)

    def _refuse(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        response = make_response(
            transaction.request,
            status,
            reason=reason,
            to_tag=self.dialog.local_tag,
            headers=headers,
        )
        transaction.respond(response, now)

    def _refuse_for_now(self, transaction: ServerTransaction, now: float) -> None:
        wait = str(self.host.rng.randint(0, 10))
        self._refuse(transaction, 500, now, headers=[("Retry-After", wait)])

    def _response(
        self,
        request: Request,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes = b"",
    ) -> Response:
        if body:
            headers = [*headers, ("Content-Type", SDP)]
        tag = self.dialog.local_tag
        return make_response(request, status, to_tag=tag, headers=headers, body=body)

    def _leave(self, now: float) -> None:
        headers = [("Reason", self._reason)] if self._reason else []
        self.host.send_request(self.dialog, "BYE", self, now, headers)

    def _end(self, step: Step, cause: EndCause, now: float) -> None:
        """Tell the owner, once: in LEAVING and ENDING it has heard already."""
        told = self.state in (CallState.LEAVING, CallState.ENDING)
        unanswered = self.state is CallState.RINGING
        self._go(step)
        if self.state is not CallState.LEAVING:
            self._settle(now, refuse_invite=unanswered and step is Step.BYE)
        if not told:
            self.host.emit(CallEnded(self.id, cause))

    def _settle(self, now: float, *, refuse_invite: bool) -> None:
        """Answer what still waits for an answer (section 15.1.2) and stop repeating ours."""
        if refuse_invite:
            self._refuse(self.transaction, 487, now)
        if self._reoffer is not None:
            self._refuse(self._reoffer, 487, now)
            self._reoffer = None
        for answered in self._unacknowledged.values():
            answered.stop()
        self._unacknowledged.clear()

    def _go(self, step: Step) -> None:
        state = CALL[self.state].get(step)
        if state is None or state is self.state:
            return
        self.state = state
        if state is not CallState.RINGING:
            self.host.timers.stop_all(self)
        if state is CallState.ENDED:
            self.host.forget(self)

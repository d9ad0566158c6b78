"""The INVITE usage of a dialog: one call, from its INVITE or its answer to its BYE.

`call_states.CALL` is the whole life of a call; one that we make begins at CONFIRMED, with its
answer. What the owner hears ends when the call ends for it (`CallEnded`, `CallCancelled`);
LEAVING and ENDING are what is still owed to the peer then.
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Protocol

from bridge.errors import SipError
from bridge.sip.answers import Unacknowledged
from bridge.sip.auth import Credentials
from bridge.sip.body import SDP, session_description
from bridge.sip.call_states import CALL, CallState, Step
from bridge.sip.dialog import Dialog
from bridge.sip.events import (
    CallCancelled,
    CallConfirmed,
    CallEnded,
    EndCause,
    Flow,
    InfoReceived,
    UsageId,
)
from bridge.sip.farewell import Farewell
from bridge.sip.grammar import FORBIDDEN_IN_LINE
from bridge.sip.message import Request, Response, make_response
from bridge.sip.offers import Method, Offers
from bridge.sip.outgoing_request import Unheeded
from bridge.sip.referral import Referral
from bridge.sip.ringing import Ringing
from bridge.sip.server_transaction import InviteServerTransaction, ServerTransaction
from bridge.sip.session_timer import SessionTimer
from bridge.sip.transaction import is_reliable
from bridge.sip.transfer import SubscriptionHost, Transfers


class UsageHost(SubscriptionHost, Protocol):
    def forget(self, usage: "InviteUsage") -> None:
        """The call is over, on the wire as well."""
        ...


class InviteUsage:
    """`transaction` is the INVITE of the peer; None for a call that we made."""

    def __init__(
        self,
        usage: UsageId,
        dialog: Dialog,
        host: UsageHost,
        *,
        transaction: InviteServerTransaction | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self.id = usage
        self.dialog = dialog
        self.host = host
        self.state = CallState.CONFIRMED if transaction is None else CallState.RINGING
        self.transaction = transaction
        self.calling = transaction is None
        self.credentials = credentials
        # Parts that referred back would keep each other: only a full collection would free them.
        me: InviteUsage = weakref.proxy(self)
        self.timer = SessionTimer(me, host)
        self.offers = Offers(me, host)
        self.local_description = b""
        """The last session description that we sent."""
        self.owed_ack: Callable[[bytes], None] | None = None
        """The 2xx to our INVITE carried the offer; takes the answer."""
        self.transfers = Transfers(me, host)
        self.takes_over: Callable[[float], None] | None = None
        """Ends the call whose place this one takes."""
        self._referral: Referral | None = None
        self._peer_allows: frozenset[str] = frozenset()
        self._no_update = False
        self._reason: str | None = None
        self._unacknowledged: dict[int, Unacknowledged] = {}
        self._ringing: Ringing | None = None
        if transaction is not None:
            self._learn(transaction.request)
            self._ringing = Ringing(me, host, transaction)

    # What the owner wants

    def provisional(self, status: int, body: bytes, now: float) -> None:
        if self._ringing is not None and self.state is CallState.RINGING:
            self._ringing.provisional(status, body, now)

    def answer(self, body: bytes, now: float) -> None:
        if self._ringing is not None and self.state is CallState.RINGING:
            self._ringing.hold(self._answer, body, now)

    def _answer(self, body: bytes, now: float) -> None:
        if self.transaction is not None and self.state is CallState.RINGING:
            self._accept_invite(self.transaction, body, now)
            self._go(Step.ANSWER)
            if self.takes_over is not None:
                self.takes_over(now)

    def reject(
        self, status: int, now: float, reason: str | None, headers: Iterable[tuple[str, str]]
    ) -> None:
        if self.transaction is not None and self.state is CallState.RINGING:
            self.refuse(self.transaction, status, now, reason, headers)
            self._end(Step.REJECT, "rejected", now)

    def hangup(self, now: float, reason_header: str | None) -> None:
        """Before the answer: 480. Between 2xx and ACK: BYE follows the ACK.

        Raises SipError when `reason_header` cannot stand in a message.
        """
        if reason_header is not None and FORBIDDEN_IN_LINE.search(reason_header):
            raise SipError("line break or NUL in a header", status=500)
        self._reason = reason_header
        self.leave("hangup", now)

    def leave(self, cause: EndCause, now: float) -> None:
        """End the call from this side, whatever has to be sent for it."""
        if self.state is CallState.RINGING and self.transaction is not None:
            self.refuse(self.transaction, 480, now)
        elif self.state is CallState.CONFIRMED:
            if self.transfers.first_tell(self._told):
                self._end(Step.HANGUP_LATER, cause, now)
                return
            self._bye(now)
        elif self.state is not CallState.ANSWERED:
            return
        self._end(Step.HANGUP, cause, now)

    def _told(self, now: float) -> None:
        """The outcome of a transfer was sent before our BYE."""
        if self.state is CallState.LEAVING and not self._unacknowledged:
            self._bye(now)
            self._end(Step.TOLD, "hangup", now)

    def dismiss(self, now: float) -> None:
        """End a call that nobody here wants; the owner is not told."""
        self._go(Step.HANGUP)
        self._bye(now)

    def offer(self, method: Method, body: bytes, now: float) -> None:
        if self.state in (CallState.ANSWERED, CallState.CONFIRMED):
            self.local_description = body or self.local_description
            self.offers.make(method, body, now)

    def info(self, content_type: str, body: bytes, now: float) -> None:
        if self.state is CallState.CONFIRMED:
            lines = [("Content-Type", content_type)]
            self.host.send_request(self.dialog, "INFO", Unheeded(), now, lines, body)

    def refer(self, headers: list[tuple[str, str]], now: float) -> None:
        if self.state is not CallState.CONFIRMED:
            return
        if self._referral is not None:
            self._referral.end()
        self._referral = Referral(self, self.host, headers, now)

    def give_answer(self, body: bytes, now: float) -> None:
        """The answer to an offer that came in a 2xx to our INVITE or re-INVITE."""
        self.local_description = body or self.local_description
        if self.owed_ack is not None:
            acknowledge, self.owed_ack = self.owed_ack, None
            acknowledge(body)
            self.offers.proceed(now)
        else:
            self.offers.answer(body, now)

    def answer_reoffer(self, status: int, body: bytes, now: float) -> None:
        transaction = self.offers.take_theirs()
        if transaction is None:
            return
        if status >= 300:
            self.refuse(transaction, status, now)
        else:
            # RFC 6141: the new target counts once the request that brought it is accepted.
            self.dialog.refresh_target(transaction.request)
            if isinstance(transaction, InviteServerTransaction):
                self._accept_invite(transaction, body, now)
            else:
                self._accept_update(transaction, now, body)
        if self._ringing is not None and self.state is CallState.RINGING:
            self._ringing.answered_offer(status, transaction.request.method, now)
        self.offers.proceed(now)

    # What the peer wants

    def receive(self, transaction: ServerTransaction, now: float) -> None:
        """A request of the dialog, other than ACK and CANCEL."""
        request = transaction.request
        if self.is_leaving and request.method != "BYE":
            self.refuse(transaction, 481, now)
            return
        if not self.dialog.accept(request):
            self.refuse(transaction, 500, now)
            return
        self.dialog.reached_by(transaction.flow)
        match request.method:
            case "BYE":
                self.accept(transaction, now)
                self._end(Step.BYE, "bye", now)
            case "INVITE" | "UPDATE":
                self._offered(transaction, now)
            case "INFO":
                self.accept(transaction, now)
                self.host.emit(InfoReceived(self.id, request.content_type, request.body))
            case "NOTIFY":
                self._notified(transaction, now)
            case "PRACK" if self._ringing is not None:
                self._ringing.acknowledged(transaction, now)
            case "PRACK":
                self.refuse(transaction, 481, now)
            case "REFER" if self.state is CallState.RINGING:
                self.refuse_for_now(transaction, now)
            case "REFER":
                self.transfers.receive(transaction, now)
            case _:
                headers = self.host.capabilities(self.dialog.flow, request)
                transaction.respond(self._response(request, 200, headers), now)

    def acknowledge(self, request: Request, now: float) -> None:
        answered = self._unacknowledged.pop(request.cseq.number, None)
        if answered is None:
            return
        answered.stop()
        if self.state is CallState.LEAVING:
            self._bye(now)
            self._end(Step.ACK, "hangup", now)
            return
        if answered.transaction is self.transaction:
            self._go(Step.ACK)
        self.host.emit(CallConfirmed(self.id, session_description(request) or b""))
        self.offers.proceed(now)

    def cancel(self, transaction: ServerTransaction, now: float) -> None:
        """A CANCEL found `transaction`; without effect once it is answered (section 9.2)."""
        if transaction is self.offers.theirs:
            self.offers.take_theirs()
            self.refuse(transaction, 487, now)
            self.offers.proceed(now)
        elif transaction is self.transaction and self.state is CallState.RINGING:
            self.refuse(transaction, 487, now)
            self._go(Step.CANCEL)
            self._settle(now, refuse_invite=False)
            self.host.emit(CallCancelled(self.id))

    def flow_failed(self, flow: Flow, now: float) -> None:
        """An unanswered caller whose connection is gone cannot be answered any more."""
        if self.dialog.flow == flow and is_reliable(flow):
            self.dialog.flow_lost = True
        if self.state is not CallState.RINGING or self.transaction is None:
            return
        if self.transaction.flow == flow:
            self._end(Step.LOST, "transport", now)

    # For what works inside this usage

    def dialog_of(self, request: Request) -> Dialog:
        return self.dialog

    @property
    def is_leaving(self) -> bool:
        """The call is over for its owner, though not on the wire."""
        return self.state in (CallState.LEAVING, CallState.ENDING)

    @property
    def may_offer(self) -> bool:
        confirmed = self.state is CallState.CONFIRMED
        return confirmed and not self._unacknowledged and self.owed_ack is None

    @property
    def awaits_answer(self) -> bool:
        """An offer of ours, or of theirs in a 2xx, waits for its answer."""
        ours = any(answered.carries_offer for answered in self._unacknowledged.values())
        return ours or self.owed_ack is not None

    def offer_lines(self, method: Method) -> list[tuple[str, str]]:
        """The headers of a re-INVITE or UPDATE of ours."""
        secure = self.dialog.remote_target.scheme == "sips"
        config = self.host.config
        return [
            ("Contact", self.host.contact_uri(self.dialog.flow, secure=secure)),
            ("Allow", ", ".join(config.allow)),
            ("Supported", ", ".join(config.supported)),
            *self.timer.request_lines(),
        ]

    def refreshed_by(self, response: Response, now: float) -> None:
        """A 2xx to an INVITE or UPDATE of ours."""
        self._learn(response)
        self.timer.agreed(response, now)

    def refresh(self, now: float) -> None:
        """Show that we are alive (RFC 4028 section 10)."""
        if "UPDATE" in self._peer_allows and not self._no_update:
            self.offers.make("UPDATE", b"", now, refresh=True)
        elif self.local_description:
            self.offers.make("INVITE", self.local_description, now, refresh=True)

    def refresh_without_update(self, now: float) -> None:
        """The peer lists UPDATE in Allow, and has refused it all the same."""
        self._no_update = True
        self.refresh(now)

    def not_acknowledged(self, now: float) -> None:
        self._bye(now)
        self._end(Step.NO_ACK, "no_ack", now)

    def refuse(
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

    def refuse_for_now(self, transaction: ServerTransaction, now: float) -> None:
        wait = str(self.host.rng.randint(0, 10))
        self.refuse(transaction, 500, now, headers=[("Retry-After", wait)])

    def farewell(self) -> None:
        """Our BYE is answered, or never will be."""
        self._go(Step.FAREWELL)

    def _offered(self, transaction: ServerTransaction, now: float) -> None:
        request = transaction.request
        self._learn(request)
        if too_short := self.host.config.too_short(request):
            self.refuse(transaction, 422, now, headers=too_short)
        elif request.method == "UPDATE" and not request.body:
            self._refreshed(transaction, now)
        elif self.state is CallState.RINGING and request.method == "INVITE":
            self.refuse_for_now(transaction, now)
        elif self.state is CallState.RINGING and self._ringing is not None:
            self._ringing.offered(transaction, now)
        else:
            method: Method = "INVITE" if request.method == "INVITE" else "UPDATE"
            self.offers.receive(transaction, method, now)

    def _notified(self, transaction: ServerTransaction, now: float) -> None:
        event = (transaction.request.headers.get("event") or "").partition(";")[0].strip().lower()
        if self._referral is None or event != "refer":
            self.refuse(transaction, 481 if event == "refer" else 489, now)
            return
        self.accept(transaction, now)
        self._referral.notified(transaction.request, now)

    def provisional_response(self, status: int, body: bytes) -> Response:
        assert self.transaction is not None
        request = self.transaction.request
        return self._response(request, status, [self.host.contact(self.dialog.flow, request)], body)

    def not_acknowledged_early(self, now: float) -> None:
        if self.transaction is not None and self.state is CallState.RINGING:
            self.refuse(self.transaction, 504, now)
            self._end(Step.REJECT, "no_prack", now)

    def _refreshed(self, transaction: ServerTransaction, now: float) -> None:
        """UPDATE without a body: a session refresh or a new Contact."""
        theirs = self.offers.theirs
        if theirs is not None and theirs.request.method == "UPDATE":
            self.refuse_for_now(transaction, now)
            return
        self.dialog.refresh_target(transaction.request)
        self._accept_update(transaction, now)

    def _accept_invite(self, transaction: InviteServerTransaction, body: bytes, now: float) -> None:
        request = transaction.request
        self.local_description = body or self.local_description
        headers = self.host.capabilities(self.dialog.flow, request)
        headers += self.timer.answer(request, now)
        response = self._response(request, 200, headers, body)
        carries_offer = bool(body) and session_description(request) is None
        answered = Unacknowledged(
            transaction, response, self.host.timers, self.not_acknowledged, carries_offer
        )
        answered.start(now)
        self._unacknowledged[request.cseq.number] = answered

    def _accept_update(self, transaction: ServerTransaction, now: float, body: bytes = b"") -> None:
        request = transaction.request
        self.local_description = body or self.local_description
        headers = [self.host.contact(self.dialog.flow, request)]
        if self.state is not CallState.RINGING:
            headers += self.timer.answer(request, now)
        transaction.respond(self._response(request, 200, headers, body), now)

    def accept(self, transaction: ServerTransaction, now: float) -> None:
        request = transaction.request
        headers = [self.host.contact(self.dialog.flow, request)] if request.method != "BYE" else []
        transaction.respond(self._response(request, 200, headers), now)

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

    def _learn(self, message: Request | Response) -> None:
        if message.allow:
            self._peer_allows = frozenset(message.allow)

    def _bye(self, now: float) -> None:
        if self.owed_ack is not None:
            self.give_answer(b"", now)
        self.offers.end(now)
        Farewell(self, self.host, [("Reason", self._reason)] if self._reason else []).send(now)

    def _end(self, step: Step, cause: EndCause, now: float) -> None:
        """Tell the owner, once: in LEAVING and ENDING it has heard already."""
        told = self.is_leaving
        unanswered = self.state is CallState.RINGING
        self._go(step)
        self.timer.stop()
        if self._referral is not None:
            self._referral.call_ended()
            self._referral = None
        self.transfers.end(now)
        if self.state is not CallState.LEAVING:
            self._settle(now, refuse_invite=unanswered and step is Step.BYE)
        if not told:
            self.host.emit(CallEnded(self.id, cause))

    def _settle(self, now: float, *, refuse_invite: bool) -> None:
        """Answer what still waits for an answer (section 15.1.2) and stop repeating ours."""
        if refuse_invite and self.transaction is not None:
            self.refuse(self.transaction, 487, now)
        if (theirs := self.offers.take_theirs()) is not None:
            self.refuse(theirs, 487, now)
        self.offers.end(now)
        for answered in self._unacknowledged.values():
            answered.stop()
        self._unacknowledged.clear()

    def _go(self, step: Step) -> None:
        state = CALL[self.state].get(step)
        if state is None or state is self.state:
            return
        self.state = state
        if self._ringing is not None:
            self._ringing.stop()
        if state is CallState.ENDED:
            self.host.forget(self)

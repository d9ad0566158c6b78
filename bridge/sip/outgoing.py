"""Calls that we make, from the INVITE to the first answer or the last refusal (RFC 3261 13.2).

An INVITE may be tried more than once: by the next flow after a 503, a timeout or a broken
connection (a 503 with Retry-After keeps calls from that server for a while), with credentials after
a challenge, with a longer interval after a 422. It may be answered more than once as well: proxies
fork. The first 2xx is the call, the others get their ACK and a BYE.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from bridge.errors import SipError
from bridge.sip import replaces
from bridge.sip.answers import Acks
from bridge.sip.auth import Credentials
from bridge.sip.body import SDP, session_description
from bridge.sip.challenge import Challenged
from bridge.sip.client_transaction import ClientTransaction, cancellation
from bridge.sip.dialog import MAX_FORWARDS, Dialog
from bridge.sip.early import EarlyDialog
from bridge.sip.events import (
    CallEnded,
    EndCause,
    Flow,
    OutgoingAnswered,
    OutgoingFailed,
    OutgoingProgress,
    UsageId,
)
from bridge.sip.grammar import Params
from bridge.sip.invite import InviteUsage, UsageHost
from bridge.sip.message import Headers, Request, Response, make_response
from bridge.sip.outgoing_request import Unheeded
from bridge.sip.reasons import REASONS
from bridge.sip.resting import Resting
from bridge.sip.server_transaction import ServerTransaction
from bridge.sip.timers import GIVE_UP, Timer
from bridge.sip.uri import NameAddr

MAX_INTERVALS = 2
"""How many 422 are heeded."""


class OutgoingState(StrEnum):
    CALLING = "calling"
    PROCEEDING = "proceeding"
    GIVEN_UP = "given up"
    CANCELLING = "cancelling"
    ANSWERED = "answered"
    ENDED = "ended"


class OutgoingStep(StrEnum):
    RETRY = "next try"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    HANGUP = "hangup"
    BYE = "BYE"


# RFC 3261 section 9.1: no CANCEL before a provisional response, hence GIVEN_UP. A 2xx that
# crosses the CANCEL makes a call, to be ended with BYE.
OUTGOING: dict[OutgoingState, dict[OutgoingStep, OutgoingState]] = {
    OutgoingState.CALLING: {
        OutgoingStep.RETRY: OutgoingState.CALLING,
        OutgoingStep.PROVISIONAL: OutgoingState.PROCEEDING,
        OutgoingStep.SUCCESS: OutgoingState.ANSWERED,
        OutgoingStep.FAILURE: OutgoingState.ENDED,
        OutgoingStep.HANGUP: OutgoingState.GIVEN_UP,
    },
    OutgoingState.PROCEEDING: {
        OutgoingStep.RETRY: OutgoingState.CALLING,
        OutgoingStep.PROVISIONAL: OutgoingState.PROCEEDING,
        OutgoingStep.SUCCESS: OutgoingState.ANSWERED,
        OutgoingStep.FAILURE: OutgoingState.ENDED,
        OutgoingStep.HANGUP: OutgoingState.CANCELLING,
        OutgoingStep.BYE: OutgoingState.CANCELLING,
    },
    OutgoingState.GIVEN_UP: {
        OutgoingStep.PROVISIONAL: OutgoingState.CANCELLING,
        OutgoingStep.SUCCESS: OutgoingState.ANSWERED,
        OutgoingStep.FAILURE: OutgoingState.ENDED,
    },
    OutgoingState.CANCELLING: {
        OutgoingStep.SUCCESS: OutgoingState.ANSWERED,
        OutgoingStep.FAILURE: OutgoingState.ENDED,
    },
    OutgoingState.ANSWERED: {OutgoingStep.SUCCESS: OutgoingState.ANSWERED},
    OutgoingState.ENDED: {},
}
LIVE = frozenset({OutgoingState.CALLING, OutgoingState.PROCEEDING})


@dataclass(frozen=True, slots=True)
class OutgoingInvite:
    """A call to make. Raises SipError from `UserAgent.invite` when it cannot be written."""

    uri: str
    flows: tuple[Flow, ...]
    """Tried in order: the next one after a 503, a timeout or a failure to send."""
    from_: str
    """A URI or name-addr without a tag, like `to`."""
    to: str
    headers: tuple[tuple[str, str], ...] = ()
    """Route among them, when the call goes through a proxy."""
    body: bytes = b""
    """Without one the callee makes the offer, and `acknowledge` brings our answer."""
    credentials: Credentials | None = None
    contact_user: str = ""
    replaces: str = ""
    """The dialog whose place it takes at the callee (RFC 3891), as a REFER has named it."""
    session_expires: int = 0
    """Seconds to propose (RFC 4028); 0: the callee may."""
    reliable: bool = True
    """Acknowledge provisional responses (RFC 3262) if the callee wants it and we make the offer."""


class OutgoingHost(UsageHost, Protocol):
    resting: Resting

    def joined(self, usage: InviteUsage) -> None:
        """A call of ours has a dialog that is up."""
        ...

    def early(self, call: "OutgoingCall", dialog: Dialog) -> None:
        """A phone rings for a call of ours."""
        ...

    def forget_early(self, dialog: Dialog) -> None: ...

    def forget_outgoing(self, call: "OutgoingCall") -> None:
        """The call has failed, or what it became is known by `joined`."""
        ...


class OutgoingCall:
    """As the user of its INVITE transactions it stays until the last of them is over."""

    def __init__(
        self, usage: UsageId, call: OutgoingInvite, host: OutgoingHost, now: float
    ) -> None:
        self.id = usage
        self.host = host
        self.state = OutgoingState.CALLING
        self.early: dict[str, EarlyDialog] = {}
        self.unheard_since: float | None = now
        """None once something came back by the flow in use."""
        self._call = call
        self._flows = list(call.flows)
        self.flow = self._flows.pop(0)
        self._tag = host.token()
        self._call_id = host.token()
        self._cseq = host.rng.randrange(1, 2**16)
        self._acks = Acks(host.send)
        self._challenged = Challenged(call.credentials, host.rng)
        self._min_se = 0
        self._intervals = 0
        self._transaction = self._send(now)

    # What the owner wants

    def leave(self, cause: EndCause, now: float) -> None:
        if self.state not in LIVE:
            return
        ringing = self.state is OutgoingState.PROCEEDING
        self._go(OutgoingStep.HANGUP)
        self.answer_reoffer(487, b"", now)
        self.host.emit(CallEnded(self.id, cause))
        if ringing:
            self._cancel(now)

    def dialog_of(self, request: Request) -> Dialog | None:
        """The early dialog that a request of the peer belongs to."""
        early = self.early.get(request.from_tag or "")
        return None if early is None else early.dialog

    def answer_reoffer(self, status: int, body: bytes, now: float) -> None:
        for early in self.early.values():
            early.answer(status, body, now)

    @property
    def is_leaving(self) -> bool:
        return self.state not in LIVE

    def untried(self, now: float) -> tuple[Flow, ...]:
        resting = self.host.resting
        return tuple(flow for flow in self._flows if not resting.left_s(flow, now))

    # What the peer wants

    def response_received(self, response: Response, now: float) -> None:
        self.unheard_since = None
        if response.status < 200:
            self._progress(response, now)
        elif response.status < 300:
            self._answered(response, now)
        else:
            self._refused(response, now)

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None:
        if self.state in LIVE and self._next_flow(now):
            return
        status = 408 if cause == "timeout" else 503
        self._fail(status, REASONS[status], Headers(), now)

    def receive(self, transaction: ServerTransaction, now: float) -> None:
        """A request in an early dialog."""
        early = self.early.get(transaction.request.from_tag or "")
        if early is None or not early.dialog.accept(transaction.request):
            status = 481 if early is None else 500
            transaction.respond(make_response(transaction.request, status), now)
            return
        if transaction.request.method == "UPDATE" and not self.is_leaving:
            early.updated(transaction, now, waiting=any(e.theirs for e in self.early.values()))
            return
        if transaction.request.method != "BYE":
            # The 2xx that must come first may have been overtaken.
            early.refuse_for_now(transaction, now)
            return
        transaction.respond(make_response(transaction.request, 200), now)
        self._forget_early(early, now)
        if self.state is OutgoingState.PROCEEDING and not self.early:
            self._go(OutgoingStep.BYE)
            self.host.emit(OutgoingFailed(self.id, 487, REASONS[487], Headers(), None))
            self._cancel(now)

    def timer_fired(self, timer: Timer, now: float) -> None:
        """No final answer came after the CANCEL (section 9.1)."""
        self._transaction.abandon(now)
        self._fail(408, REASONS[408], Headers(), now)

    def _progress(self, response: Response, now: float) -> None:
        if self.state is OutgoingState.GIVEN_UP:
            self._go(OutgoingStep.PROVISIONAL)
            self._cancel(now)
            return
        self._go(OutgoingStep.PROVISIONAL)
        if self.state not in LIVE or response.status == 100:
            return
        tag = response.to_tag or ""
        if tag and tag not in self.early and response.contact is not None:
            dialog = Dialog.from_response(self._transaction.request, response, self.flow)
            self.early[tag] = EarlyDialog(self.id, dialog, self.host)
            self.host.early(self, dialog)
        early = self.early.get(tag)
        offered = bool(self._transaction.request.body)
        if early is not None and not early.heard(response, now, offered=offered):
            return
        body = session_description(response)
        self.host.emit(OutgoingProgress(self.id, response.status, response.reason, body, tag))

    def _answered(self, response: Response, now: float) -> None:
        tag = response.to_tag or ""
        if self._acks.is_copy(tag):
            return
        request = self._transaction.request
        dialog = Dialog.from_response(request, response, self.flow)
        early = self.early.pop(tag, None)
        if early is not None:
            # The route set is that of the 2xx (section 13.2.2.4), the numbers go on.
            dialog.local_cseq = early.dialog.local_cseq
            dialog.remote_cseq = early.dialog.remote_cseq
        was = self.state
        self._go(OutgoingStep.SUCCESS)
        extra = was is OutgoingState.ANSWERED
        usage_id = self.host.new_usage_id() if extra else self.id
        usage = InviteUsage(usage_id, dialog, self.host, credentials=self._call.credentials)
        if early is not None:
            usage.offers.theirs = early.theirs
        self._release(now)
        self.host.joined(usage)
        if was not in LIVE:
            self._acks.sent[tag] = self.host.acknowledge(dialog, request)
            usage.dismiss(now)
            return
        usage.local_description = request.body
        usage.timer.propose(self._call.session_expires, self._min_se)
        usage.refreshed_by(response, now)
        body = session_description(response) or b""
        self._acks.sent[tag] = None
        if not body and early is not None and request.body:
            body = early.description
        if body and not request.body:
            usage.owed_ack = lambda answer: self._acknowledge(dialog, request, answer)
        else:
            self._acknowledge(dialog, request, b"")
        self.host.emit(OutgoingAnswered(self.id, body, response.headers))

    def _acknowledge(self, dialog: Dialog, request: Request, body: bytes) -> None:
        self._acks.sent[dialog.remote_tag] = self.host.acknowledge(dialog, request, body)

    def _refused(self, response: Response, now: float) -> None:
        if self.state in LIVE and self._try_again(response, now):
            return
        self._fail(response.status, response.reason, response.headers, now)

    def _try_again(self, response: Response, now: float) -> bool:
        if self._challenged.answer(self._transaction.request, response):
            self._retry(now)
            return True
        if response.status == 422 and (response.min_se or 0) > self._min_se:
            self._min_se = response.min_se or 0
            self._intervals += 1
            if self._intervals <= MAX_INTERVALS:
                self._retry(now)
                return True
        if response.status == 503:
            self.host.resting.rest(self.flow, response.retry_after or 0, now)
        # Who has begun to ring is not called a second time.
        return response.status == 503 and not self.early and self._next_flow(now)

    def _retry(self, now: float) -> None:
        """The same call again, changed: a new number (section 8.1.3.5)."""
        self._cseq += 1
        self._again(now)

    def _next_flow(self, now: float) -> bool:
        """The same request by another way (RFC 3263 section 4.3): only the branch is new."""
        untried = self.untried(now)
        if not untried:
            return False
        self.flow, *self._flows = untried
        self.unheard_since = now
        self._again(now)
        return True

    def _again(self, now: float) -> None:
        for early in list(self.early.values()):
            self._forget_early(early, now)
        self._go(OutgoingStep.RETRY)
        self._transaction = self._send(now)

    def _fail(self, status: int, reason: str, headers: Headers, now: float) -> None:
        told = self.state not in LIVE
        self._go(OutgoingStep.FAILURE)
        if self.state is not OutgoingState.ENDED:
            return
        self._release(now)
        if not told:
            self.host.emit(OutgoingFailed(self.id, status, reason, headers, q850_cause(headers)))

    def _release(self, now: float) -> None:
        self.host.timers.stop_all(self)
        self.host.forget_outgoing(self)
        # Kept: a phone of the fork may answer yet, and its numbers go on.
        for early in self.early.values():
            early.answer(481, b"", now)
            self.host.forget_early(early.dialog)

    def _forget_early(self, early: EarlyDialog, now: float) -> None:
        del self.early[early.dialog.remote_tag]
        early.answer(481, b"", now)
        self.host.forget_early(early.dialog)

    def _cancel(self, now: float) -> None:
        request = cancellation(self._transaction.request)
        self.host.start(request, self._transaction.flow, Unheeded(), now)
        self.host.timers.start(self, Timer.ABANDON, now + GIVE_UP)

    def _send(self, now: float) -> ClientTransaction:
        return self.host.start(self._request(), self.flow, self, now)

    def _request(self) -> Request:
        call, host = self._call, self.host
        secure = call.uri.lower().startswith("sips:")
        from_ = NameAddr.parse(call.from_)
        tagged = NameAddr(from_.uri, from_.display_name, from_.params.replaced("tag", self._tag))
        lines = [
            ("Via", host.via(self.flow)),
            MAX_FORWARDS,
            ("From", str(tagged)),
            ("To", str(NameAddr.parse(call.to))),
            ("Call-ID", self._call_id),
            ("CSeq", f"{self._cseq} INVITE"),
            ("Contact", host.contact_uri(self.flow, secure=secure, user=call.contact_user)),
            ("Allow", ", ".join(host.config.allow)),
            ("Supported", ", ".join(self._supported())),
            *self._interval_lines(),
            *self._challenged.lines,
            *self._replaces_lines(),
            *call.headers,
            ("User-Agent", host.config.user_agent),
        ]
        if call.body:
            lines.append(("Content-Type", SDP))
        return Request("INVITE", call.uri, Headers(lines), call.body)

    def _supported(self) -> tuple[str, ...]:
        # An offer in a reliable response would need its answer in the PRACK.
        reliable = self._call.reliable and bool(self._call.body)
        return tuple(tag for tag in self.host.config.supported if reliable or tag != "100rel")

    def _replaces_lines(self) -> list[tuple[str, str]]:
        # A callee who does not know the header would ring as for any call.
        if not self._call.replaces:
            return []
        return [("Replaces", self._call.replaces), ("Require", replaces.OPTION)]

    def _interval_lines(self) -> list[tuple[str, str]]:
        lines = []
        if seconds := max(self._call.session_expires, self._min_se):
            lines.append(("Session-Expires", str(seconds)))
        if self._min_se:
            lines.append(("Min-SE", str(self._min_se)))
        return lines

    def _go(self, step: OutgoingStep) -> None:
        self.state = OUTGOING[self.state].get(step, self.state)


def q850_cause(headers: Headers) -> int | None:
    """From `Reason: Q.850;cause=17;text="User busy"` (RFC 3326)."""
    for value in headers.values("reason"):
        protocol, _, params = value.partition(";")
        if protocol.strip().lower() != "q.850":
            continue
        try:
            cause = (Params.parse(params).get("cause") or "").strip()
        except SipError:
            continue
        if cause.isascii() and cause.isdigit() and len(cause) <= 3:
            return int(cause)
    return None

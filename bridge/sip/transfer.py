"""REFER to us: a peer asks that we call somebody else, and hears by NOTIFY how it goes (RFC 3515).

A REFER waits for the owner's answer. Accepted it makes a subscription, which outlives the call:
many phones say BYE right after the 202, and are owed the outcome all the same.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol

from bridge.errors import SipError
from bridge.sip.auth import Credentials
from bridge.sip.challenge import Challenged
from bridge.sip.client_transaction import ClientTransaction
from bridge.sip.dialog import Dialog
from bridge.sip.events import TransferRequested, UsageId
from bridge.sip.host import Host
from bridge.sip.message import Request, Response, make_response
from bridge.sip.reasons import REASONS
from bridge.sip.replaces import Replaces
from bridge.sip.server_transaction import ServerTransaction
from bridge.sip.timers import Timer
from bridge.sip.uri import NameAddr

NO_SUBSCRIPTION = "norefersub"
LONGEST = 180.0  # seconds that a subscription lasts
SIPFRAG = "message/sipfrag;version=2.0"


class ReferredCall(Protocol):
    id: UsageId
    dialog: Dialog
    credentials: Credentials | None

    def refuse(self, transaction: ServerTransaction, status: int, now: float) -> None: ...


class SubscriptionHost(Host, Protocol):
    def subscribed(self, subscription: "Subscription") -> None: ...

    def unsubscribed(self, subscription: "Subscription") -> None: ...


class Subscription:
    """NOTIFY, one at a time so that they cannot overtake each other; the latest news wait."""

    def __init__(self, call: ReferredCall, host: SubscriptionHost, event: str, now: float) -> None:
        self.usage = call.id
        self._dialog = call.dialog
        self._host = host
        self._event = event
        self._credentials = call.credentials
        self._challenged = Challenged(call.credentials, host.rng)
        self._ends_at = now + LONGEST
        self._news = (100, REASONS[100])
        self._end = ""
        """Why the subscription ends, once it does."""
        self._untold = False
        self._then: Callable[[float], None] | None = None
        self._transaction: ClientTransaction | None = None
        host.subscribed(self)
        host.timers.start(self, Timer.REFERRAL, self._ends_at)
        self._tell(now)

    @property
    def is_open(self) -> bool:
        """More news may come."""
        return not self._end

    def notify(self, status: int, reason: str, now: float, *, final: bool) -> None:
        if self._end:
            return
        self._news = (status, " ".join(reason.split()) or REASONS.get(status, "Unknown"))
        if final:
            self._finish("noresource")
        self._tell(now)

    def first_tell(self, then: Callable[[float], None]) -> bool:
        """Whether the outcome still waits for a NOTIFY to be answered; `then` follows it."""
        if not (self._end and self._untold):
            return False
        self._then = then
        return True

    def timer_fired(self, timer: Timer, now: float) -> None:
        self._finish("timeout")
        self._tell(now)

    def response_received(self, response: Response, now: float) -> None:
        if response.status < 200 or self._transaction is None:
            return
        if self._challenged.answer(self._transaction.request, response):
            self._send(now)
            return
        self._transaction = None
        if response.status >= 300:
            # RFC 6665 section 4.2.2: whoever refuses a NOTIFY is not subscribed any more.
            self._forget(now)
        elif self._untold:
            self._tell(now)
        elif self._end:
            self._forget(now)

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None:
        self._forget(now)

    def _finish(self, why: str) -> None:
        self._end = why
        self._host.timers.stop_all(self)

    def _tell(self, now: float) -> None:
        self._untold = self._transaction is not None
        if not self._untold:
            self._challenged = Challenged(self._credentials, self._host.rng)
            self._send(now)
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(now)

    def _send(self, now: float) -> None:
        left = max(0, round(self._ends_at - now))
        state = f"terminated;reason={self._end}" if self._end else f"active;expires={left}"
        status, reason = self._news
        lines = [
            ("Contact", self._host.contact_uri(self._dialog.flow)),
            ("Event", self._event),
            ("Subscription-State", state),
            ("Content-Type", SIPFRAG),
            *self._challenged.lines,
        ]
        body = f"SIP/2.0 {status} {reason}\r\n".encode("utf-8", "surrogateescape")
        self._transaction = self._host.send_request(self._dialog, "NOTIFY", self, now, lines, body)

    def _forget(self, now: float) -> None:
        self._end = self._end or "noresource"
        self._untold = False
        self._host.timers.stop_all(self)
        self._host.unsubscribed(self)
        self._go_on(now)


class Transfers:
    """The REFERs of one call: one at a time."""

    def __init__(self, call: ReferredCall, host: SubscriptionHost) -> None:
        self._call = call
        self._host = host
        self._waiting: ServerTransaction | None = None
        self._subscription: Subscription | None = None
        self._count = 0

    def receive(self, transaction: ServerTransaction, now: float) -> None:
        if self._waiting is not None or self._is_followed:
            self._call.refuse(transaction, 491, now)
            return
        try:
            event = requested(self._call.id, transaction.request)
        except SipError as error:
            self._call.refuse(transaction, error.status or 400, now)
            return
        self._waiting = transaction
        self._host.emit(event)

    def answer(self, status: int, now: float) -> None:
        transaction, self._waiting = self._waiting, None
        if transaction is None:
            return
        if status >= 300:
            self._call.refuse(transaction, status, now)
            return
        request = transaction.request
        headers = [self._host.contact(self._call.dialog.flow, request)]
        unfollowed = wants_no_news(request)
        if unfollowed:
            headers.append(("Refer-Sub", "false"))
        tag = self._call.dialog.local_tag
        transaction.respond(make_response(request, status, to_tag=tag, headers=headers), now)
        self._count += 1
        if not unfollowed:
            # The first may go without an id, and old phones know of none (section 2.4.6).
            event = "refer" if self._count == 1 else f"refer;id={request.cseq.number}"
            self._subscription = Subscription(self._call, self._host, event, now)

    def first_tell(self, then: Callable[[float], None]) -> bool:
        """Whether the peer is to hear the outcome of its transfer first; `then` is next."""
        return self._subscription is not None and self._subscription.first_tell(then)

    def end(self, now: float) -> None:
        """The call is over. What was accepted is told to its end."""
        if self._waiting is not None:
            self._call.refuse(self._waiting, 481, now)
            self._waiting = None

    @property
    def _is_followed(self) -> bool:
        return self._subscription is not None and self._subscription.is_open


def requested(usage: UsageId, request: Request) -> TransferRequested:
    """What a REFER asks for. Raises SipError: 400 for a bad one, 603 for what is no call."""
    if len(request.headers.values("refer-to")) != 1 or (target := request.refer_to) is None:
        raise SipError("Bad Refer-To", status=400)
    uri = target.uri
    if not uri.is_sip and uri.scheme != "tel":
        raise SipError("Unsupported URI Scheme", status=416)
    if (uri.params.get("method") or "INVITE").upper() != "INVITE":
        raise SipError("Decline", status=603)
    replaces = uri.header("replaces")
    if replaces is not None:
        replaces = str(Replaces.parse(replaces))
    referred_by = request.headers.get("referred-by")
    if referred_by is not None:
        referred_by = str(NameAddr.parse(referred_by))
    called = replace(uri, params=uri.params.without("method"), headers="", text="")
    return TransferRequested(usage, str(called), replaces, referred_by)


def wants_no_news(request: Request) -> bool:
    """RFC 4488 section 4."""
    return (request.headers.get("refer-sub") or "").partition(";")[0].strip().lower() == "false"

"""UserAgent: datagrams and `now` in, datagrams, events and one deadline out (RFC 3261).

After every call into it, send what `to_send` gives, take `events`, and come back with
`handle_timer` at `next_timer`. A call ends for its owner with exactly one CallEnded or
CallCancelled; commands on a call that is over do nothing, as the two may cross.

What is refused at once is refused without keeping anything (RFC 3261 section 8.2.7): copies of
such a request get the same answer with the same tag, made from the request and a secret.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from bridge.errors import SipError
from bridge.sip.client_transaction import (
    ClientKey,
    ClientTransaction,
    ClientUser,
    NonInviteClientTransaction,
    client_key,
)
from bridge.sip.dialog import Dialog, DialogId
from bridge.sip.events import Event, Flow, IncomingCall, UsageId
from bridge.sip.invite import InviteUsage
from bridge.sip.message import Request, Response, make_response, parse_message, stamp_source
from bridge.sip.server_transaction import (
    InviteServerTransaction,
    MergeKey,
    NonInviteServerTransaction,
    ServerKey,
    ServerTransaction,
    merge_key,
    reply_flow,
    server_key,
)
from bridge.sip.timers import TimerQueue
from bridge.sip.transaction import Transaction
from bridge.sip.uri import MAGIC_COOKIE, format_host_port
from bridge.sip.validation import BODY_TYPES, validate

ALLOW = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "UPDATE")


def admit_all(flow: Flow) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class AgentConfig:
    contacts: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Host and port to advertise for each transport; the flow's local address otherwise."""
    user_agent: str = "realtime-bridge"
    allow: tuple[str, ...] = ALLOW
    supported: tuple[str, ...] = ()
    """Option tags, for `Supported` and against `Require`."""
    admit: Callable[[Flow], bool] = admit_all
    """False: whatever comes by this flow is met with silence."""
    max_usages: int = 2000
    max_transactions: int = 20_000
    """Finished ones count for 32 s."""
    retry_after_s: int = 5


@dataclass(slots=True)
class AgentStats:
    not_admitted: int = 0
    malformed: int = 0
    refused: int = 0
    overloaded: int = 0
    stray: int = 0
    """Responses and ACKs that belong to nothing."""


@dataclass(frozen=True, slots=True)
class AgentCounts:
    """All zero when every call is over and its timers have run out."""

    usages: int
    server_transactions: int
    client_transactions: int
    merge_keys: int
    timers: int


class UserAgent:
    def __init__(self, config: AgentConfig, rng: random.Random) -> None:
        self.config = config
        self.rng = rng
        self.timers = TimerQueue()
        self.stats = AgentStats()
        self.draining = False
        self._secret = rng.randbytes(16)
        self._last_usage = 0
        self._usages: dict[UsageId, InviteUsage] = {}
        self._dialogs: dict[DialogId, InviteUsage] = {}
        self._servers: dict[ServerKey, ServerTransaction] = {}
        self._clients: dict[ClientKey, ClientTransaction] = {}
        self._merging: dict[MergeKey, ServerKey] = {}
        self._invites: dict[ServerKey, InviteUsage] = {}
        self._outbox: list[tuple[Flow, bytes]] = []
        self._events: list[Event] = []

    # The wire

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """One datagram, or one frame of a stream. Never raises, whatever the bytes."""
        if not self.config.admit(flow):
            self.stats.not_admitted += 1
            return
        request: Request | None = None
        try:
            message = parse_message(data)
            if isinstance(message, Response):
                self._receive_response(message, now)
            else:
                request = stamp_source(message, flow.remote)
                self._receive_request(request, flow, now)
        except SipError as error:
            self.stats.malformed += 1
            if request is not None and error.status is not None:
                self._refuse(request, flow, error.status, reason=error.message)

    def to_send(self) -> list[tuple[Flow, bytes]]:
        out, self._outbox = self._outbox, []
        return out

    def events(self) -> list[Event]:
        out, self._events = self._events, []
        return out

    def next_timer(self) -> float | None:
        return self.timers.next_deadline()

    def handle_timer(self, now: float) -> None:
        self.timers.fire(now)

    def flow_failed(self, flow: Flow, now: float) -> None:
        """The connection broke, or the network said that nobody is there."""
        for transaction in [*self._clients.values(), *self._servers.values()]:
            if transaction.flow == flow:
                transaction.transport_failed(now)
        for usage in list(self._usages.values()):
            usage.flow_failed(flow, now)

    def flow_in_use(self, flow: Flow) -> bool:
        """A call depends on this connection."""
        return any(usage.dialog.flow == flow for usage in self._usages.values())

    def drain(self) -> None:
        """No new calls: INVITE and OPTIONS get 503; calls that are up go on."""
        self.draining = True

    @property
    def counts(self) -> AgentCounts:
        return AgentCounts(
            usages=len(self._usages),
            server_transactions=len(self._servers),
            client_transactions=len(self._clients),
            merge_keys=len(self._merging),
            timers=len(self.timers),
        )

    def __len__(self) -> int:
        """Calls that are not over, on the wire included."""
        return len(self._usages)

    # Commands

    def provisional(self, usage: UsageId, status: int, now: float, *, body: bytes = b"") -> None:
        """101 to 199; with a body it is early media. Sent again every minute (13.3.1.1)."""
        if not 100 < status < 200:
            raise ValueError(status)
        if call := self._usages.get(usage):
            call.provisional(status, body, now)

    def answer(self, usage: UsageId, body: bytes, now: float) -> None:
        if call := self._usages.get(usage):
            call.answer(body, now)

    def reject(
        self,
        usage: UsageId,
        status: int,
        now: float,
        *,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        """300 to 699. Raises SipError when reason or headers cannot stand in a message."""
        if not 300 <= status < 700:
            raise ValueError(status)
        if call := self._usages.get(usage):
            call.reject(status, now, reason, headers)

    def hangup(self, usage: UsageId, now: float, *, reason_header: str | None = None) -> None:
        """`reason_header` is a value of RFC 3326: `Q.850;cause=16`."""
        if call := self._usages.get(usage):
            call.hangup(now, reason_header)

    def reinvite_answer(self, usage: UsageId, status: int, body: bytes, now: float) -> None:
        """Answers the last Reoffer: 200 with a body, or 300 to 699."""
        if not 200 <= status < 700:
            raise ValueError(status)
        if call := self._usages.get(usage):
            call.answer_reoffer(status, body, now)

    # For transactions and usages

    def send(self, flow: Flow, data: bytes) -> None:
        self._outbox.append((flow, data))

    def emit(self, event: Event) -> None:
        self._events.append(event)

    def terminated(self, transaction: Transaction) -> None:
        if isinstance(transaction, ClientTransaction):
            self._clients.pop(transaction.key, None)
        elif isinstance(transaction, ServerTransaction):
            self._servers.pop(transaction.key, None)
            self._invites.pop(transaction.key, None)
            merging = merge_key(transaction.request)
            if self._merging.get(merging) == transaction.key:
                del self._merging[merging]

    def forget(self, usage: InviteUsage) -> None:
        self._usages.pop(usage.id, None)
        self._dialogs.pop(usage.dialog.id, None)

    def contact(self, flow: Flow, request: Request) -> tuple[str, str]:
        host, port = self._advertised(flow)
        scheme = "sips" if request.uri.lower().startswith("sips:") else "sip"
        # TLS is implied by sips; `transport=tls` is deprecated there (RFC 3261 section 26.2.2).
        implied = flow.transport == "udp" or (scheme == "sips" and flow.transport == "tls")
        transport = "" if implied else f";transport={flow.transport}"
        return "Contact", f"<{scheme}:{format_host_port(host, port)}{transport}>"

    def capabilities(self, flow: Flow, request: Request) -> list[tuple[str, str]]:
        return [
            self.contact(flow, request),
            ("Allow", ", ".join(self.config.allow)),
            ("Accept", ", ".join(BODY_TYPES)),
            ("Supported", ", ".join(self.config.supported)),
            ("Server", self.config.user_agent),
        ]

    def send_request(
        self,
        dialog: Dialog,
        method: str,
        user: ClientUser,
        now: float,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        flow = dialog.next_hop()
        host, port = self._advertised(flow)
        sent_by = format_host_port(host, port)
        branch = f"{MAGIC_COOKIE}{self._token()}"
        via = f"SIP/2.0/{flow.transport.upper()} {sent_by};branch={branch};rport"
        lines = [*headers, ("User-Agent", self.config.user_agent)]
        request = dialog.request(method, via, headers=lines)
        transaction = NonInviteClientTransaction(request, flow, self, user, now)
        self._clients[transaction.key] = transaction

    # Requests and responses

    def _receive_response(self, response: Response, now: float) -> None:
        transaction = self._clients.get(client_key(response))
        if transaction is None:
            self.stats.stray += 1
        else:
            transaction.receive(response, now)

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        transaction = self._servers.get(server_key(request))
        if transaction is not None:
            if transaction.receive(request, now):
                self._acknowledge(request, now)
            return
        if request.method == "ACK":
            self._acknowledge(request, now)
            return
        if request.method == "INVITE" and request.to_tag is None and self._is_closed:
            # Before validation, which costs more than all the rest of a refusal.
            self.stats.overloaded += not self.draining
            self._refuse_for_now(request, flow)
            return
        rejection = validate(
            request,
            allow=self.config.allow,
            supported=self.config.supported,
        )
        if rejection is not None:
            status, reason, headers = rejection.status, rejection.reason, rejection.headers
            if request.method == "SUBSCRIBE" and status == 405:
                # There is no event package here: sounder than to say that nobody may subscribe.
                status, reason = 489, "Bad Event"
            self._refuse(request, flow, status, reason=reason, headers=headers)
        elif request.method == "CANCEL":
            self._cancel(request, flow, now)
        elif request.to_tag is not None:
            self._receive_in_dialog(request, flow, now)
        else:
            self._receive_new(request, flow, now)

    def _receive_new(self, request: Request, flow: Flow, now: float) -> None:
        if request.method == "INVITE":
            if merge_key(request) in self._merging:
                self._refuse(request, flow, 482)
            else:
                self._receive_call(request, flow, now)
        elif request.method != "OPTIONS":
            self._refuse(request, flow, 481)
        elif self.draining:
            self._refuse_for_now(request, flow)
        else:
            self._reply(request, flow, 200, headers=self.capabilities(flow, request))

    def _receive_call(self, request: Request, flow: Flow, now: float) -> None:
        cseq = self.rng.randrange(1, 2**16)
        dialog = Dialog.from_request(
            request, reply_flow(request, flow), local_tag=self._token(), cseq=cseq
        )
        transaction = InviteServerTransaction(request, flow, self, now)
        self._servers[transaction.key] = transaction
        transaction.respond(make_response(request, 100), now)
        self._last_usage += 1
        usage = InviteUsage(UsageId(self._last_usage), transaction, dialog, self)
        self._merging[merge_key(request)] = transaction.key
        self._invites[transaction.key] = usage
        self._usages[usage.id] = usage
        self._dialogs[dialog.id] = usage
        self.emit(IncomingCall(usage.id, request, flow))

    def _receive_in_dialog(self, request: Request, flow: Flow, now: float) -> None:
        usage = self._usage_of(request)
        if usage is None:
            self._refuse(request, flow, 481)
            return
        if self._is_full and request.method != "BYE":
            self.stats.overloaded += 1
            self._refuse_for_now(request, flow)
            return
        transaction: ServerTransaction
        if request.method == "INVITE":
            transaction = InviteServerTransaction(request, flow, self, now)
            transaction.respond(make_response(request, 100), now)
            self._invites[transaction.key] = usage
        else:
            transaction = NonInviteServerTransaction(request, flow, self, now)
        self._servers[transaction.key] = transaction
        usage.receive(transaction, now)

    def _cancel(self, request: Request, flow: Flow, now: float) -> None:
        key = server_key(request, "INVITE")
        invite = self._servers.get(key)
        if invite is None:
            self._refuse(request, flow, 481)
            return
        transaction = NonInviteServerTransaction(request, flow, self, now)
        self._servers[transaction.key] = transaction
        usage = self._invites[key]
        # The tag of the INVITE's own responses (RFC 3261 section 9.2).
        transaction.respond(make_response(request, 200, to_tag=usage.dialog.local_tag), now)
        usage.cancel(invite, now)

    def _acknowledge(self, request: Request, now: float) -> None:
        usage = self._usage_of(request)
        if usage is None:
            self.stats.stray += 1
        else:
            usage.acknowledge(request, now)

    def _usage_of(self, request: Request) -> InviteUsage | None:
        key = (request.sip_call_id, request.to_tag or "", request.from_tag or "")
        return self._dialogs.get(key)

    # Answers that keep no state

    def _refuse_for_now(self, request: Request, flow: Flow) -> None:
        wait = [("Retry-After", str(self.config.retry_after_s))]
        self._refuse(request, flow, 503, headers=wait)

    def _refuse(
        self,
        request: Request,
        flow: Flow,
        status: int,
        *,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.stats.refused += 1
        self._reply(request, flow, status, reason=reason, headers=headers)

    def _reply(
        self,
        request: Request,
        flow: Flow,
        status: int,
        *,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        if request.method == "ACK":
            return
        identity = repr(server_key(request)).encode("utf-8", "surrogateescape")
        tag = blake2b(identity, key=self._secret, digest_size=16).hexdigest()
        response = make_response(request, status, reason=reason, to_tag=tag, headers=headers)
        self.send(reply_flow(request, flow), bytes(response))

    @property
    def _is_closed(self) -> bool:
        """To new calls."""
        return self.draining or len(self._usages) >= self.config.max_usages or self._is_full

    @property
    def _is_full(self) -> bool:
        return len(self._servers) >= self.config.max_transactions

    def _advertised(self, flow: Flow) -> tuple[str, int]:
        return self.config.contacts.get(flow.transport, flow.local)

    def _token(self) -> str:
        return f"{self.rng.getrandbits(128):032x}"

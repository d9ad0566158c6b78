"""What lies under a UserAgent: its transactions, its timers, and all that it sends and reports."""

import random
from collections.abc import Iterable
from hashlib import blake2b

from bridge.sip.agent_config import AgentConfig, AgentStats
from bridge.sip.body import SDP
from bridge.sip.client_transaction import (
    CREDENTIALS,
    ClientKey,
    ClientTransaction,
    ClientUser,
    InviteClientTransaction,
    NonInviteClientTransaction,
)
from bridge.sip.dialog import Dialog
from bridge.sip.events import Event, Flow, UsageId
from bridge.sip.message import Rejection, Request, make_response
from bridge.sip.private import parse_address
from bridge.sip.reasons import REASONS
from bridge.sip.resting import Resting
from bridge.sip.server_transaction import (
    MergeKey,
    ServerKey,
    ServerTransaction,
    merge_key,
    reply_flow,
    server_key,
)
from bridge.sip.timers import TimerQueue
from bridge.sip.transaction import Transaction
from bridge.sip.uri import MAGIC_COOKIE, format_host_port
from bridge.sip.validation import BODY_TYPES

Lines = Iterable[tuple[str, str]]
Sent = tuple[Flow, bytes]


class AgentCore:
    def __init__(self, config: AgentConfig, rng: random.Random) -> None:
        self.config = config
        self.rng = rng
        self.timers = TimerQueue()
        self.stats = AgentStats()
        self.resting = Resting()
        self._secret = rng.randbytes(16)
        self._last_usage = 0
        self._servers: dict[ServerKey, ServerTransaction] = {}
        self._clients: dict[ClientKey, ClientTransaction] = {}
        self._merging: dict[MergeKey, ServerKey] = {}
        self._learned: dict[tuple[str, str], tuple[str, int]] = {}
        self._outbox: list[Sent] = []
        self._events: list[Event] = []

    def to_send(self) -> list[Sent]:
        out, self._outbox = self._outbox, []
        return out

    def events(self) -> list[Event]:
        out, self._events = self._events, []
        return out

    def next_timer(self) -> float | None:
        return self.timers.next_deadline()

    def handle_timer(self, now: float) -> None:
        self.timers.fire(now)

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
            merging = merge_key(transaction.request)
            if self._merging.get(merging) == transaction.key:
                del self._merging[merging]

    def new_usage_id(self) -> UsageId:
        self._last_usage += 1
        return UsageId(self._last_usage)

    def token(self) -> str:
        return f"{self.rng.getrandbits(128):032x}"

    def contact(self, flow: Flow, request: Request) -> tuple[str, str]:
        return "Contact", self.contact_uri(flow, secure=request.uri.lower().startswith("sips:"))

    def contact_uri(self, flow: Flow, *, secure: bool = False, user: str = "") -> str:
        host, port = self._advertised(flow)
        scheme = "sips" if secure else "sip"
        # TLS is implied by sips; `transport=tls` is deprecated there (RFC 3261 section 26.2.2).
        implied = flow.transport == "udp" or (secure and flow.transport == "tls")
        # RFC 7118 section 5.2.4: TLS below a WebSocket is no transport of its own in a URI.
        named = "ws" if flow.transport == "wss" else flow.transport
        transport = "" if implied else f";transport={named}"
        userinfo = f"{user}@" if user else ""
        return f"<{scheme}:{userinfo}{format_host_port(host, port)}{transport}>"

    def capabilities(self, flow: Flow, request: Request) -> list[tuple[str, str]]:
        return [
            self.contact(flow, request),
            ("Allow", ", ".join(self.config.allow)),
            ("Accept", ", ".join(BODY_TYPES)),
            ("Supported", ", ".join(self.config.supported)),
            ("Server", self.config.user_agent),
        ]

    # Requests of ours

    def via(self, flow: Flow) -> str:
        host, port = self._advertised(flow)
        sent_by = format_host_port(host, port)
        branch = f"{MAGIC_COOKIE}{self.token()}"
        # RFC 5923: requests of the peer may come back by the connection that we open.
        alias = ";alias" if flow.transport == "tls" else ""
        return f"SIP/2.0/{flow.transport.upper()} {sent_by};branch={branch};rport{alias}"

    def start(
        self, request: Request, flow: Flow, user: ClientUser, now: float
    ) -> ClientTransaction:
        """Raises SipError, before anything has changed, when the request cannot be written."""
        kind: type[ClientTransaction] = NonInviteClientTransaction
        if request.method == "INVITE":
            kind = InviteClientTransaction
        transaction = kind(request, flow, self, user, now)
        self._clients[transaction.key] = transaction
        return transaction

    def send_request(
        self,
        dialog: Dialog,
        method: str,
        user: ClientUser,
        now: float,
        headers: Lines = (),
        body: bytes = b"",
    ) -> ClientTransaction:
        """In a dialog; a body is SDP unless `headers` name its type."""
        flow = dialog.next_hop()
        lines = [*headers, ("User-Agent", self.config.user_agent)]
        if body and not any(name.lower() == "content-type" for name, _ in lines):
            lines.append(("Content-Type", SDP))
        request = dialog.request(method, self.via(flow), headers=lines, body=body)
        return self.start(request, flow, user, now)

    def acknowledge(self, dialog: Dialog, request: Request, body: bytes = b"") -> Sent:
        """The ACK for a 2xx to `request`, sent (RFC 3261 section 13.2.2.4): to repeat as it is."""
        flow = dialog.next_hop()
        lines = [item for item in request.headers if item[0].lower() in CREDENTIALS]
        if body:
            lines.append(("Content-Type", SDP))
        cseq = request.cseq.number
        ack = dialog.request("ACK", self.via(flow), cseq=cseq, headers=lines, body=body)
        sent = flow, bytes(ack)
        self.send(*sent)
        return sent

    # Answers that keep no state

    def _refuse_for_now(self, request: Request, flow: Flow, why: str = "") -> None:
        wait = (("Retry-After", str(self.config.retry_after_s)),)
        self._refuse(request, flow, 503, headers=wait, why=why)

    def _refuse(
        self,
        request: Request,
        flow: Flow,
        status: int,
        *,
        reason: str | None = None,
        headers: Lines = (),
        why: str = "",
    ) -> None:
        reason = reason or REASONS.get(status, "Unknown")
        self._turn_down(request, flow, Rejection(status, reason, tuple(headers), why))

    def _turn_down(self, request: Request, flow: Flow, rejection: Rejection) -> None:
        self.stats.refused += 1
        if request.method == "INVITE":
            self.config.refused(request, flow, rejection)
        self._reply(
            request, flow, rejection.status, reason=rejection.reason, headers=rejection.headers
        )

    def _reply(
        self,
        request: Request,
        flow: Flow,
        status: int,
        *,
        reason: str | None = None,
        headers: Lines = (),
    ) -> None:
        if request.method == "ACK":
            return
        identity = repr(server_key(request)).encode("utf-8", "surrogateescape")
        tag = blake2b(identity, key=self._secret, digest_size=16).hexdigest()
        response = make_response(request, status, reason=reason, to_tag=tag, headers=headers)
        self.send(reply_flow(request, flow), bytes(response))

    def learn(self, flow: Flow, seen: tuple[str, int | None]) -> None:
        """How whoever is at the other end of a flow sees us (RFC 3581): so we name ourselves to
        that host from now on. No port: the one we have advertised."""
        host, port = seen
        name, own = self.config.contacts.get(flow.transport, flow.local)
        try:
            address = str(parse_address(host))
        except ValueError:
            return
        if flow.transport != "udp" and address == name:
            # No NAT: the port of a connection is no place to call, while there is another.
            return
        self._learned[flow.transport, flow.remote[0]] = address, port or own

    def seen_at(self, flow: Flow) -> str:
        """Our address as `learn` was told it; empty if it was not."""
        learned = self._learned.get((flow.transport, flow.remote[0]))
        return "" if learned is None else learned[0]

    def _advertised(self, flow: Flow) -> tuple[str, int]:
        if learned := self._learned.get((flow.transport, flow.remote[0])):
            return learned
        return self.config.contacts.get(flow.transport, flow.local)

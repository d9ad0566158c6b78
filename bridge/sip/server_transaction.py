"""Server transactions: INVITE and non-INVITE, RFC 3261 section 17.2 as changed by RFC 6026."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from bridge.sip.events import Flow
from bridge.sip.message import Request, Response
from bridge.sip.timers import T2, Timer
from bridge.sip.transaction import (
    Action,
    Input,
    State,
    Table,
    Transaction,
    TransactionLayer,
    is_reliable,
    status_input,
)
from bridge.sip.uri import DEFAULT_PORT

ServerKey = tuple[str, ...]
MergeKey = tuple[str, str, int]

# RFC 6026 figure 5. Accepted is there to swallow copies of the INVITE after the 2xx, which
# would otherwise become a second call.
INVITE_SERVER: Table = {
    State.PROCEEDING: {
        Input.REQUEST: (State.PROCEEDING, (Action.RESEND,)),
        Input.PROVISIONAL: (State.PROCEEDING, (Action.SEND,)),
        Input.SUCCESS: (State.ACCEPTED, (Action.SEND,)),
        Input.FAILURE: (State.COMPLETED, (Action.SEND,)),
    },
    State.COMPLETED: {
        Input.REQUEST: (State.COMPLETED, (Action.RESEND,)),
        Input.ACK: (State.CONFIRMED, ()),
        Timer.G: (State.COMPLETED, (Action.RESEND,)),
        Timer.H: (State.TERMINATED, ()),
    },
    State.ACCEPTED: {
        Input.REQUEST: (State.ACCEPTED, ()),
        Input.ACK: (State.ACCEPTED, (Action.PASS,)),
        Input.SUCCESS: (State.ACCEPTED, (Action.SEND,)),
        Timer.L: (State.TERMINATED, ()),
    },
    State.CONFIRMED: {Timer.I: (State.TERMINATED, ())},
}

# RFC 3261 figure 8.
NON_INVITE_SERVER: Table = {
    State.TRYING: {
        Input.PROVISIONAL: (State.PROCEEDING, (Action.SEND,)),
        Input.SUCCESS: (State.COMPLETED, (Action.SEND,)),
        Input.FAILURE: (State.COMPLETED, (Action.SEND,)),
    },
    State.PROCEEDING: {
        Input.REQUEST: (State.PROCEEDING, (Action.RESEND,)),
        Input.PROVISIONAL: (State.PROCEEDING, (Action.SEND,)),
        Input.SUCCESS: (State.COMPLETED, (Action.SEND,)),
        Input.FAILURE: (State.COMPLETED, (Action.SEND,)),
        Input.TRANSPORT_ERROR: (State.TERMINATED, ()),
    },
    State.COMPLETED: {
        Input.REQUEST: (State.COMPLETED, (Action.RESEND,)),
        Timer.J: (State.TERMINATED, ()),
        Input.TRANSPORT_ERROR: (State.TERMINATED, ()),
    },
}


class ServerTransaction(Transaction):
    """Answers one request; copies of it get the last answer again."""

    initial: ClassVar[State]

    def __init__(self, request: Request, flow: Flow, layer: TransactionLayer, now: float) -> None:
        self.request = request
        self.key = server_key(request)
        self._data = b""
        super().__init__(layer, reply_flow(request, flow), self.initial, now)

    def receive(self, request: Request, now: float) -> bool:
        """A request with this key; True when it is an ACK that the user must see."""
        what = Input.ACK if request.method == "ACK" else Input.REQUEST
        return Action.PASS in self._walk(what, None, now)

    def respond(self, response: Response, now: float) -> None:
        """Ignored where the figure has no such arrow: a second final response, for one.

        Raises SipError, before anything has changed, when the response cannot be written.
        """
        what = status_input(response.status)
        if what in self.table.get(self.state, {}):
            self._data = bytes(response)
            self._walk(what, None, now)

    def _act(self, action: Action, message: Request | Response | None, now: float) -> None:
        if action in (Action.SEND, Action.RESEND) and self._data:
            self.layer.send(self.flow, self._data)


class InviteServerTransaction(ServerTransaction):
    table = INVITE_SERVER
    timers_in: ClassVar[Mapping[State, frozenset[Timer]]] = {
        State.COMPLETED: frozenset({Timer.G, Timer.H}),
        State.CONFIRMED: frozenset({Timer.I}),
        State.ACCEPTED: frozenset({Timer.L}),
    }
    initial = State.PROCEEDING

    def _next_interval(self, interval: float) -> float:
        return min(2 * interval, T2)


class NonInviteServerTransaction(ServerTransaction):
    table = NON_INVITE_SERVER
    timers_in: ClassVar[Mapping[State, frozenset[Timer]]] = {
        State.COMPLETED: frozenset({Timer.J}),
    }
    initial = State.TRYING


def server_key(request: Request, method: str | None = None) -> ServerKey:
    """What copies of a request, and the ACK for a failure, have in common (section 17.2.3).

    `method` looks for the transaction of another method: a CANCEL asks for "INVITE".
    """
    via = request.top_via
    method = method or request.method
    if method == "ACK":
        method = "INVITE"
    sent_by = via.sent_by.lower()
    if via.has_magic_cookie:
        return via.branch or "", sent_by, method
    # RFC 2543 peers: no unique branch. The To tag is left out, as an ACK has one and the INVITE
    # has none; the CSeq number tells requests of one dialog apart.
    headers = request.headers
    number = (headers.get("cseq") or "").partition(" ")[0]
    return (
        request.uri,
        headers.get("call-id") or "",
        headers.get("from") or "",
        number,
        sent_by,
        via.branch or "",
        method,
    )


def merge_key(request: Request) -> MergeKey:
    """The same for all copies of a request that came by different paths (section 8.2.2.2)."""
    return request.from_tag or "", request.sip_call_id, request.cseq.number


def reply_flow(request: Request, flow: Flow) -> Flow:
    """Where answers go: back by the connection, or by RFC 3261 section 18.2.2 and RFC 3581.

    `maddr` is not followed: it would let anybody aim our answers at a third party.
    """
    if is_reliable(flow):
        return flow
    via = request.top_via
    if via.wants_rport:
        return flow
    return replace(flow, remote=(flow.remote[0], via.port or DEFAULT_PORT["udp"]))

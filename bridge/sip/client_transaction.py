"""Client transactions: INVITE and non-INVITE, RFC 3261 section 17.1 as changed by RFC 6026."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

from bridge.sip.events import Flow
from bridge.sip.message import Headers, Request, Response
from bridge.sip.timers import T2, Timer
from bridge.sip.transaction import (
    Action,
    Input,
    State,
    Table,
    Transaction,
    TransactionLayer,
    status_input,
)

ClientKey = tuple[str, str]
CREDENTIALS = frozenset({"authorization", "proxy-authorization"})

_FINAL: Mapping[Input | Timer, tuple[State, tuple[Action, ...]]] = {
    Input.PROVISIONAL: (State.PROCEEDING, (Action.PASS,)),
    Input.SUCCESS: (State.ACCEPTED, (Action.PASS,)),
    Input.FAILURE: (State.COMPLETED, (Action.ACK, Action.PASS)),
}

# RFC 3261 figure 5, RFC 6026 figure 4. Timer B runs in Calling only: a phone may ring for
# minutes, and ending a call that rings is the caller's decision (CANCEL), not a timer's.
INVITE_CLIENT: Table = {
    State.CALLING: {
        **_FINAL,
        Timer.A: (State.CALLING, (Action.RESEND,)),
        Timer.B: (State.TERMINATED, (Action.TIMED_OUT,)),
        Input.TRANSPORT_ERROR: (State.TERMINATED, (Action.UNREACHABLE,)),
    },
    State.PROCEEDING: _FINAL,
    State.COMPLETED: {
        Input.FAILURE: (State.COMPLETED, (Action.ACK,)),
        Timer.D: (State.TERMINATED, ()),
        Input.TRANSPORT_ERROR: (State.TERMINATED, (Action.UNREACHABLE,)),
    },
    State.ACCEPTED: {
        Input.SUCCESS: (State.ACCEPTED, (Action.PASS,)),
        Timer.M: (State.TERMINATED, ()),
    },
}

_TRYING: Mapping[Input | Timer, tuple[State, tuple[Action, ...]]] = {
    Input.PROVISIONAL: (State.PROCEEDING, (Action.PASS,)),
    Input.SUCCESS: (State.COMPLETED, (Action.PASS,)),
    Input.FAILURE: (State.COMPLETED, (Action.PASS,)),
    Timer.F: (State.TERMINATED, (Action.TIMED_OUT,)),
    Input.TRANSPORT_ERROR: (State.TERMINATED, (Action.UNREACHABLE,)),
}

# RFC 3261 figure 6.
NON_INVITE_CLIENT: Table = {
    State.TRYING: {**_TRYING, Timer.E: (State.TRYING, (Action.RESEND,))},
    State.PROCEEDING: {**_TRYING, Timer.E: (State.PROCEEDING, (Action.RESEND,))},
    State.COMPLETED: {Timer.K: (State.TERMINATED, ())},
}


class ClientUser(Protocol):
    """Who sent the request."""

    def response_received(self, response: Response, now: float) -> None: ...

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None: ...


class ClientTransaction(Transaction):
    """Sends `request` when made. `user` hears of each response once, of 2xx to INVITE each time."""

    initial: ClassVar[State]

    def __init__(
        self,
        request: Request,
        flow: Flow,
        layer: TransactionLayer,
        user: ClientUser,
        now: float,
    ) -> None:
        self.request = request
        self.user = user
        self.key = client_key(request)
        self._data = bytes(request)
        super().__init__(layer, flow, self.initial, now)
        layer.send(flow, self._data)

    def receive(self, response: Response, now: float) -> None:
        self._walk(status_input(response.status), response, now)

    def abandon(self, now: float) -> None:
        """Nobody waits for the answer any more, and none may come."""
        if self.state in (State.CALLING, State.TRYING, State.PROCEEDING):
            self.state = State.TERMINATED
            self.layer.timers.stop_all(self)
            self._terminated()

    def _terminated(self) -> None:
        super()._terminated()
        # It may hold on to its transaction, and each would keep the other.
        del self.user

    def _act(self, action: Action, message: Request | Response | None, now: float) -> None:
        match action:
            case Action.RESEND:
                self.layer.send(self.flow, self._data)
            case Action.PASS if isinstance(message, Response):
                self.user.response_received(message, now)
            case Action.ACK if isinstance(message, Response):
                self.layer.send(self.flow, bytes(acknowledge_failure(self.request, message)))
            case Action.TIMED_OUT:
                self.user.request_failed("timeout", now)
            case Action.UNREACHABLE:
                self.user.request_failed("transport", now)
            case _:
                raise AssertionError(action)


class InviteClientTransaction(ClientTransaction):
    table = INVITE_CLIENT
    timers_in: ClassVar[Mapping[State, frozenset[Timer]]] = {
        State.CALLING: frozenset({Timer.A, Timer.B}),
        State.COMPLETED: frozenset({Timer.D}),
        State.ACCEPTED: frozenset({Timer.M}),
    }
    initial = State.CALLING


class NonInviteClientTransaction(ClientTransaction):
    table = NON_INVITE_CLIENT
    timers_in: ClassVar[Mapping[State, frozenset[Timer]]] = {
        State.TRYING: frozenset({Timer.E, Timer.F}),
        State.PROCEEDING: frozenset({Timer.E, Timer.F}),
        State.COMPLETED: frozenset({Timer.K}),
    }
    initial = State.TRYING

    def _next_interval(self, interval: float) -> float:
        return T2 if self.state is State.PROCEEDING else min(2 * interval, T2)


def client_key(message: Request | Response) -> ClientKey:
    """RFC 3261 section 17.1.3: the branch of the top Via and the method of CSeq."""
    return message.top_via.branch or "", message.cseq.method


def acknowledge_failure(request: Request, response: Response) -> Request:
    """The ACK for a 300-699 (RFC 3261 section 17.1.1.3); one for a 2xx is the dialog's."""
    headers = [
        ("Via", str(request.top_via)),
        ("Max-Forwards", "70"),
        *(("Route", value) for value in request.headers.get_all("route")),
        ("From", str(request.from_)),
        ("To", str(response.to)),
        ("Call-ID", request.sip_call_id),
        ("CSeq", f"{request.cseq.number} ACK"),
    ]
    return Request("ACK", request.uri, Headers(headers))


def cancellation(request: Request) -> Request:
    """The CANCEL for an INVITE of ours (RFC 3261 section 9.1)."""
    headers = [
        ("Via", str(request.top_via)),
        ("Max-Forwards", "70"),
        *(("Route", value) for value in request.headers.get_all("route")),
        ("From", str(request.from_)),
        ("To", str(request.to)),
        ("Call-ID", request.sip_call_id),
        ("CSeq", f"{request.cseq.number} CANCEL"),
    ]
    return Request("CANCEL", request.uri, Headers(headers))

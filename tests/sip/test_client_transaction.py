from typing import Literal

import pytest

from bridge.sip.client_transaction import (
    INVITE_CLIENT,
    NON_INVITE_CLIENT,
    ClientTransaction,
    InviteClientTransaction,
    NonInviteClientTransaction,
)
from bridge.sip.events import Flow
from bridge.sip.message import Response, make_response, parse_message
from bridge.sip.timers import Timer, TimerQueue
from bridge.sip.transaction import Action, Input, State, Table, Transaction
from tests.sip.playbook import TCP, UDP, caller_request, line

Arrow = tuple[str, str, str, str]

# Drawn from the figures: state, what happens, what is done, next state.
FIGURE_INVITE = """
Calling     A               resend                            Calling
Calling     B               tell the user: timeout            Terminated
Calling     transport error tell the user: transport error    Terminated
Calling     1xx             to the user                       Proceeding
Calling     2xx             to the user                       Accepted
Calling     300-699         send ACK, to the user             Completed
Proceeding  1xx             to the user                       Proceeding
Proceeding  2xx             to the user                       Accepted
Proceeding  300-699         send ACK, to the user             Completed
Completed   300-699         send ACK                          Completed
Completed   transport error tell the user: transport error    Terminated
Completed   D               -                                 Terminated
Accepted    2xx             to the user                       Accepted
Accepted    M               -                                 Terminated
"""

FIGURE_NON_INVITE = """
Trying      E               resend                            Trying
Trying      F               tell the user: timeout            Terminated
Trying      transport error tell the user: transport error    Terminated
Trying      1xx             to the user                       Proceeding
Trying      2xx             to the user                       Completed
Trying      300-699         to the user                       Completed
Proceeding  E               resend                            Proceeding
Proceeding  F               tell the user: timeout            Terminated
Proceeding  transport error tell the user: transport error    Terminated
Proceeding  1xx             to the user                       Proceeding
Proceeding  2xx             to the user                       Completed
Proceeding  300-699         to the user                       Completed
Completed   K               -                                 Terminated
"""


def arrows(figure: str) -> set[Arrow]:
    rows = [row for row in figure.splitlines() if row]
    return {
        (row[:12].strip(), row[12:28].strip(), row[28:62].strip(), row[62:].strip()) for row in rows
    }


def drawn(table: Table) -> set[Arrow]:
    return {
        (state.value, what.value, ", ".join(actions) or "-", after.value)
        for state, inputs in table.items()
        for what, (after, actions) in inputs.items()
    }


class Layer:
    def __init__(self) -> None:
        self.timers = TimerQueue()
        self.sent: list[tuple[float, str]] = []
        self.raw: list[bytes] = []
        self.over: list[Transaction] = []
        self.heard: list[int | str] = []
        self.now = 0.0

    def send(self, flow: Flow, data: bytes) -> None:
        self.raw.append(data)
        self.sent.append((self.now, line(parse_message(data))))

    def terminated(self, transaction: Transaction) -> None:
        self.over.append(transaction)

    def response_received(self, response: Response, now: float) -> None:
        self.heard.append(response.status)

    def request_failed(self, cause: Literal["timeout", "transport"], now: float) -> None:
        self.heard.append(cause)

    def run(self, until: float) -> None:
        while (due := self.timers.next_deadline()) is not None and due <= until:
            self.now = due
            self.timers.fire(due)
        self.now = until

    def times(self) -> list[float]:
        return [at for at, _ in self.sent]


def invite(layer: Layer, flow: Flow = UDP) -> InviteClientTransaction:
    request = caller_request(headers=[("Route", "<sip:p;lr>")])
    return InviteClientTransaction(request, flow, layer, layer, 0.0)


def options(layer: Layer, flow: Flow = UDP) -> NonInviteClientTransaction:
    return NonInviteClientTransaction(caller_request("OPTIONS"), flow, layer, layer, 0.0)


def answer(transaction: ClientTransaction, status: int, layer: Layer) -> None:
    transaction.receive(make_response(transaction.request, status, to_tag="t"), layer.now)


def test_tables_are_the_figures() -> None:
    assert drawn(INVITE_CLIENT) == arrows(FIGURE_INVITE)
    assert drawn(NON_INVITE_CLIENT) == arrows(FIGURE_NON_INVITE)


def test_invite_to_nobody() -> None:
    layer = Layer()
    transaction = invite(layer)
    layer.run(60)
    assert layer.times() == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert layer.heard == ["timeout"]
    assert layer.over == [transaction]
    assert len(layer.timers) == 0


def test_invite_on_a_connection_is_sent_once() -> None:
    layer = Layer()
    invite(layer, TCP)
    layer.run(60)
    assert layer.times() == [0]
    assert layer.heard == ["timeout"]


def test_ringing_for_three_minutes_is_fine() -> None:
    layer = Layer()
    transaction = invite(layer)
    answer(transaction, 180, layer)
    layer.run(180)
    answer(transaction, 180, layer)
    answer(transaction, 200, layer)
    assert layer.heard == [180, 180, 200]
    assert layer.times() == [0]
    # Copies of the 2xx go up to the dialog, which acknowledges each.
    layer.run(190)
    answer(transaction, 200, layer)
    answer(transaction, 180, layer)
    assert layer.heard == [180, 180, 200, 200]
    layer.run(213)
    assert layer.over == [transaction]


def test_failure_is_acknowledged_each_time() -> None:
    layer = Layer()
    transaction = invite(layer)
    answer(transaction, 486, layer)
    answer(transaction, 486, layer)
    assert layer.heard == [486]
    assert [name for _, name in layer.sent] == ["INVITE", "ACK", "ACK"]
    ack, request = parse_message(layer.raw[1]), transaction.request
    assert ack.top_via == request.top_via
    assert ack.to_tag == "t"
    assert str(ack.cseq) == "1 ACK"
    assert ack.headers.get("route") == "<sip:p;lr>"
    layer.run(31.9)
    assert layer.over == []
    layer.run(32)
    assert layer.over == [transaction]


def test_failure_on_a_connection_ends_at_once() -> None:
    layer = Layer()
    transaction = invite(layer, TCP)
    answer(transaction, 486, layer)
    layer.run(0)
    assert layer.over == [transaction]


def test_request_to_nobody() -> None:
    layer = Layer()
    options(layer)
    layer.run(60)
    assert layer.times() == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert layer.heard == ["timeout"]


def test_request_goes_on_slowly_after_a_provisional() -> None:
    layer = Layer()
    transaction = options(layer)
    answer(transaction, 100, layer)
    layer.run(13)
    assert layer.times() == [0, 0.5, 4.5, 8.5, 12.5]
    answer(transaction, 200, layer)
    answer(transaction, 200, layer)
    layer.run(17.9)
    assert layer.over == []
    layer.run(18)
    assert layer.over == [transaction]
    assert layer.heard == [100, 200]


def test_request_on_a_connection() -> None:
    layer = Layer()
    transaction = options(layer, TCP)
    answer(transaction, 404, layer)
    layer.run(0)
    assert layer.over == [transaction]
    assert layer.times() == [0]


@pytest.mark.parametrize("make", [invite, options])
def test_transport_error(make: type[ClientTransaction]) -> None:
    layer = Layer()
    transaction = make(layer)  # type: ignore[call-arg, arg-type]
    transaction.transport_failed(0.1)
    assert layer.heard == ["transport"]
    assert layer.over == [transaction]
    assert len(layer.timers) == 0


def test_states_without_arrows_ignore() -> None:
    assert State.TERMINATED not in INVITE_CLIENT
    layer = Layer()
    transaction = options(layer)
    answer(transaction, 200, layer)
    transaction.timer_fired(Timer.E, 0)
    transaction.transport_failed(0)
    assert transaction.state is State.COMPLETED
    assert Input.PROVISIONAL not in NON_INVITE_CLIENT[State.COMPLETED]
    with pytest.raises(AssertionError):
        transaction._act(Action.SEND, None, 0)

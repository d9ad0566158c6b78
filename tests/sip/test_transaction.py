from collections.abc import Mapping
from typing import ClassVar

import pytest

from bridge.sip.events import Flow
from bridge.sip.message import Request, Response
from bridge.sip.timers import Timer
from bridge.sip.transaction import (
    DURATION,
    LINGER,
    RETRANSMIT,
    Action,
    Input,
    State,
    Table,
    Transaction,
    is_reliable,
    status_input,
)
from tests.sip.playbook import TCP, UDP
from tests.sip.test_client_transaction import Layer


class Lamp(Transaction):
    """Two states with timers of their own."""

    table: ClassVar[Table] = {
        State.TRYING: {
            Timer.E: (State.TRYING, ()),
            Input.SUCCESS: (State.ACCEPTED, ()),
            Input.FAILURE: (State.TRYING, (Action.ACK, Action.PASS)),
        },
        State.ACCEPTED: {Timer.L: (State.TERMINATED, ())},
    }
    timers_in: ClassVar[Mapping[State, frozenset[Timer]]] = {
        State.TRYING: frozenset({Timer.E, Timer.F}),
        State.ACCEPTED: frozenset({Timer.L}),
    }

    def __init__(self, layer: Layer, flow: Flow, state: State, now: float) -> None:
        self.acted: list[tuple[Action, float]] = []
        super().__init__(layer, flow, state, now)

    def _act(self, action: Action, message: Request | Response | None, now: float) -> None:
        self.acted.append((action, now))


def test_entering_a_state_starts_its_timers_and_stops_the_others() -> None:
    layer = Layer()
    lamp = Lamp(layer, UDP, State.TRYING, 0.0)
    assert layer.timers.next_deadline() == 0.5
    lamp._walk(Input.SUCCESS, None, 0.0)
    assert layer.timers.next_deadline() == 32.0
    layer.run(32.0)
    assert lamp.state is State.TERMINATED
    assert layer.over == [lamp]
    assert len(layer.timers) == 0


def test_timers_of_copies_set_themselves_again_at_twice_the_time() -> None:
    layer = Layer()
    Lamp(layer, UDP, State.TRYING, 0.0)
    deadlines = []
    for _ in range(4):
        deadline = layer.timers.next_deadline() or 0.0
        deadlines.append(deadline)
        layer.run(deadline)
    assert deadlines == [0.5, 1.5, 3.5, 7.5]


def test_input_without_an_arrow_changes_nothing() -> None:
    layer = Layer()
    lamp = Lamp(layer, TCP, State.TRYING, 0.0)
    assert layer.timers.next_deadline() == 32.0
    lamp.transport_failed(0.0)
    assert lamp.state is State.TRYING


def test_actions_are_carried_out_in_the_order_of_the_table() -> None:
    lamp = Lamp(Layer(), UDP, State.TRYING, 0.0)
    lamp._walk(Input.FAILURE, None, 3.0)
    assert lamp.acted == [(Action.ACK, 3.0), (Action.PASS, 3.0)]


def test_a_machine_without_actions_is_none() -> None:
    class Dark(Transaction):
        table = Lamp.table
        timers_in = Lamp.timers_in

    with pytest.raises(TypeError, match="_act"):
        Dark(Layer(), UDP, State.TRYING, 0.0)  # type: ignore[abstract]


def test_durations_of_the_rfc() -> None:
    t1, t4 = 0.5, 5.0
    for timer in (Timer.A, Timer.E, Timer.G):
        assert DURATION[timer] == t1
    for timer in (Timer.B, Timer.D, Timer.F, Timer.H, Timer.J, Timer.L, Timer.M):
        assert DURATION[timer] == 64 * t1
    for timer in (Timer.I, Timer.K):
        assert DURATION[timer] == t4
    assert frozenset({Timer.A, Timer.E, Timer.G}) == RETRANSMIT
    assert frozenset({Timer.D, Timer.I, Timer.J, Timer.K}) == LINGER


def test_status_classes() -> None:
    classes = [status_input(status) for status in (100, 199, 200, 299, 300, 699)]
    assert classes == [Input.PROVISIONAL] * 2 + [Input.SUCCESS] * 2 + [Input.FAILURE] * 2
    assert not is_reliable(UDP)
    assert is_reliable(TCP)

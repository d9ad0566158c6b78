"""What the four transaction machines share: how a table is walked and its timers are kept.

A machine is `{state: {input: (next state, actions)}}`. An input without an entry changes
nothing, as in the figures of RFC 3261 and RFC 6026. `timers_in` names the timers that run in a
state: entering it starts them, leaving for a state without them stops them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Protocol

from bridge.sip.events import Flow
from bridge.sip.message import Request, Response
from bridge.sip.timers import GIVE_UP, T1, T4, TIMER_D, Timer, TimerQueue


class State(StrEnum):
    CALLING = "Calling"
    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    COMPLETED = "Completed"
    CONFIRMED = "Confirmed"
    ACCEPTED = "Accepted"
    TERMINATED = "Terminated"


class Input(StrEnum):
    """Besides the timers; from the peer for a client, from the user for a server."""

    REQUEST = "request"
    ACK = "ACK"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    TRANSPORT_ERROR = "transport error"


class Action(StrEnum):
    SEND = "send"
    RESEND = "resend"
    ACK = "send ACK"
    PASS = "to the user"
    TIMED_OUT = "tell the user: timeout"
    UNREACHABLE = "tell the user: transport error"


Step = tuple[State, tuple[Action, ...]]
Table = Mapping[State, Mapping[Input | Timer, Step]]

DURATION = {
    Timer.A: T1,
    Timer.B: GIVE_UP,
    Timer.D: TIMER_D,
    Timer.E: T1,
    Timer.F: GIVE_UP,
    Timer.G: T1,
    Timer.H: GIVE_UP,
    Timer.I: T4,
    Timer.J: GIVE_UP,
    Timer.K: T4,
    Timer.L: GIVE_UP,
    Timer.M: GIVE_UP,
}
RETRANSMIT = frozenset({Timer.A, Timer.E, Timer.G})
LINGER = frozenset({Timer.D, Timer.I, Timer.J, Timer.K})
"""They wait for late copies, which a connection does not deliver: zero there."""


class TransactionLayer(Protocol):
    @property
    def timers(self) -> TimerQueue: ...

    def send(self, flow: Flow, data: bytes) -> None: ...

    def terminated(self, transaction: "Transaction") -> None:
        """The transaction is over and may be forgotten."""
        ...


def is_reliable(flow: Flow) -> bool:
    return flow.transport != "udp"


def status_input(status: int) -> Input:
    if status < 200:
        return Input.PROVISIONAL
    return Input.SUCCESS if status < 300 else Input.FAILURE


class Transaction(ABC):
    """One machine at work; subclasses bring the table and carry out its actions."""

    table: ClassVar[Table]
    timers_in: ClassVar[Mapping[State, frozenset[Timer]]]

    def __init__(self, layer: TransactionLayer, flow: Flow, state: State, now: float) -> None:
        self.layer = layer
        self.flow = flow
        self.state = state
        self._interval = T1
        self._start_timers(frozenset(), now)

    def timer_fired(self, timer: Timer, now: float) -> None:
        self._walk(timer, None, now)

    def transport_failed(self, now: float) -> None:
        """The flow cannot carry what was sent by it."""
        self._walk(Input.TRANSPORT_ERROR, None, now)

    def _walk(
        self, what: Input | Timer, message: Request | Response | None, now: float
    ) -> tuple[Action, ...]:
        step = self.table.get(self.state, {}).get(what)
        if step is None:
            return ()
        before = self.timers_in.get(self.state, frozenset())
        moved = step[0] is not self.state
        self.state = step[0]
        if moved:
            self._start_timers(before, now)
        for action in step[1]:
            self._act(action, message, now)
        if isinstance(what, Timer) and what in RETRANSMIT:
            self._interval = self._next_interval(self._interval)
            self.layer.timers.start(self, what, now + self._interval)
        if self.state is State.TERMINATED:
            self._terminated()
        return step[1]

    def _terminated(self) -> None:
        self.layer.terminated(self)

    @abstractmethod
    def _act(self, action: Action, message: Request | Response | None, now: float) -> None:
        """Do what the table says. `message` came in, or is to go out; None for a timer."""

    def _next_interval(self, interval: float) -> float:
        return 2 * interval

    def _start_timers(self, running: frozenset[Timer], now: float) -> None:
        wanted = self.timers_in.get(self.state, frozenset())
        for timer in running - wanted:
            self.layer.timers.stop(self, timer)
        reliable = is_reliable(self.flow)
        for timer in wanted - running:
            if reliable and timer in RETRANSMIT:
                continue
            delay = 0.0 if reliable and timer in LINGER else DURATION[timer]
            self.layer.timers.start(self, timer, now + delay)

"""Two user agents, the line between them and one virtual clock, for calls that go as told."""

import random
from collections.abc import Callable
from typing import TypeVar

from bridge.sip.agent import AgentConfig, UserAgent
from bridge.sip.events import (
    CallConfirmed,
    CallEnded,
    Event,
    Flow,
    IncomingCall,
    OutgoingAnswered,
    UsageId,
)
from bridge.sip.message import Request, parse_message
from bridge.sip.outgoing import OutgoingInvite
from tests.sip.caller import Network
from tests.sip.playbook import ANSWER, OFFER
from tests.sip.simulation import HOSTS, run

E = TypeVar("E")


class Side:
    def __init__(self, config: AgentConfig, host: str, peer: str, seed: int) -> None:
        self.config = config
        self.rng = random.Random(seed)
        self.agent = UserAgent(config, self.rng)
        self.flow = Flow("udp", (host, 5060), (peer, 5060))
        self.events: list[Event] = []
        self.usage = UsageId(0)

    def take(self) -> None:
        self.events += self.agent.events()

    def heard(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def restart(self) -> None:
        """As one that knows of no call."""
        self.agent = UserAgent(self.config, self.rng)

    @property
    def is_up(self) -> bool:
        return self.usage != UsageId(0) and not self.heard(CallEnded)


class Line(Network):
    """Loses nothing but what `cut` names, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))
        self.carried: list[tuple[float, bytes]] = []
        self.cut: Callable[[bytes], bool] = lambda data: False

    def carry(self, deliver: Callable[[bytes], None], data: bytes) -> None:
        self.carried.append((self.now, data))
        if not self.cut(data):
            super().carry(deliver, data)

    def requests(self, *methods: str) -> list[tuple[float, Request]]:
        """When they were sent, copies included."""
        parsed = [(at, parse_message(data)) for at, data in self.carried]
        return [(at, m) for at, m in parsed if isinstance(m, Request) and m.method in methods]


class Pair:
    """`caller` dials `callee`, who answers when told to."""

    def __init__(self, calling: AgentConfig, called: AgentConfig) -> None:
        self.line = Line()
        self.caller = Side(calling, HOSTS[0], HOSTS[1], 1)
        self.callee = Side(called, HOSTS[1], HOSTS[0], 2)

    @property
    def now(self) -> float:
        return self.line.now

    def wait(self, seconds: float) -> None:
        run(self.line, (self.caller, self.callee), self.now + seconds)

    def call(self, *, session_expires: int = 0) -> None:
        """Until both sides have it up."""
        remote = self.caller.flow.remote[0]
        invite = OutgoingInvite(
            f"sip:bob@{remote}",
            (self.caller.flow,),
            f"<sip:alice@{self.caller.flow.local[0]}>",
            f"<sip:bob@{remote}>",
            body=OFFER,
            session_expires=session_expires,
        )
        self.do(lambda: self._dial(invite))
        (call,) = self.callee.heard(IncomingCall)
        agent = self.callee.agent
        self.callee.usage = call.usage
        self.do(lambda: agent.provisional(call.usage, 180, self.now))
        self.do(lambda: agent.answer(call.usage, ANSWER, self.now))
        assert self.caller.heard(OutgoingAnswered)
        assert self.callee.heard(CallConfirmed)

    def do(self, act: Callable[[], None], *, wait: float = 1.0) -> None:
        """Now, and what comes of it."""
        self.line.at(self.now, act)
        self.wait(wait)

    def assert_nothing_left(self) -> None:
        for side in (self.caller, self.callee):
            counts = side.agent.counts
            assert not any(getattr(counts, name) for name in counts.__slots__), counts

    def _dial(self, invite: OutgoingInvite) -> None:
        self.caller.usage = self.caller.agent.invite(invite, self.now)

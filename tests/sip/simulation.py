"""Two user agents, a network that loses, doubles and reorders, and owners who decide at random."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from bridge.sip.agent import AgentConfig, UserAgent
from bridge.sip.events import (
    CallCancelled,
    CallConfirmed,
    CallEnded,
    Event,
    Flow,
    IncomingCall,
    OutgoingAnswered,
    OutgoingFailed,
    ReferProgress,
    Reoffer,
    ReofferDone,
    TransferRequested,
    UsageId,
)
from bridge.sip.outgoing import OutgoingInvite
from tests.sip.caller import Network
from tests.sip.playbook import ANSWER, OFFER

HOSTS = ("192.0.2.1", "198.51.100.7")
SETTLED = 200.0
"""Seconds by which every random act is over, and every retransmission with it."""
LEFT_OVER = 66.0
"""64*T1 for the last request and as much for its copies at the other end."""


@dataclass(eq=False)
class Call:
    """One call as one end sees it."""

    end: "End"
    usage: UsageId
    over: bool = False
    up: bool = False
    offers: int = 0
    done: int = 0
    transfers: int = 0
    outcomes: int = 0
    ends: list[Event] = field(default_factory=list)


class End:
    """A user agent with an owner who answers, rejects, offers and hangs up as the dice say."""

    def __init__(self, world: "World", host: str, peer: str, seed: int) -> None:
        self.world = world
        self.rng = world.rng
        config = AgentConfig(session_expires=world.rng.choice((0, 90)), transfers=True)
        self.agent = UserAgent(config, random.Random(seed))
        self.flow = Flow("udp", (host, 5060), (peer, 5060))
        self.calls: dict[UsageId, Call] = {}

    def dial(self, name: str) -> None:
        body = OFFER if self.rng.random() < 0.8 else b""
        call = OutgoingInvite(
            f"sip:{name}@{self.flow.remote[0]}",
            (self.flow,),
            f"<sip:{name}@{self.flow.local[0]}>",
            f"<sip:{name}@{self.flow.remote[0]}>",
            headers=(("X-Name", name), *self.rng.choice(((), (("Require", "100rel"),)))),
            body=body,
            session_expires=self.rng.choice((0, 90)),
        )
        usage = self.agent.invite(call, self.world.now)
        self._new(usage, name)
        if self.rng.random() < 0.4:
            self._later(15, lambda: self.agent.hangup(usage, self.world.now))

    def take(self) -> None:
        for event in self.agent.events():
            self._hear(event)

    def _hear(self, event: Event) -> None:
        agent, now = self.agent, self.world.now
        match event:
            case IncomingCall(usage, request):
                self._new(usage, request.headers.get("x-name") or "")
                self._decide(usage, offered=bool(request.body))
            case OutgoingAnswered(usage, body):
                self.calls[usage].up = True
                self._plan(usage)
                if body == OFFER:
                    self._later(2, lambda: agent.acknowledge_offer(usage, ANSWER, self.world.now))
            case CallConfirmed(usage):
                if not self.calls[usage].up:
                    self.calls[usage].up = True
                    self._plan(usage)
            case Reoffer(usage, body):
                status = self.rng.choice((200, 200, 488))
                reply = b"" if status != 200 else ANSWER if body else OFFER
                self._later(1, lambda: agent.reinvite_answer(usage, status, reply, self.world.now))
            case ReofferDone(usage, _, body):
                self.calls[usage].done += 1
                if body == OFFER:
                    agent.acknowledge_offer(usage, ANSWER, now)
            case TransferRequested(usage):
                self._follow(usage)
            case ReferProgress(usage, _, _, final):
                assert not self.calls[usage].over
                self.calls[usage].outcomes += final
            case CallEnded(usage) | CallCancelled(usage) | OutgoingFailed(usage):
                call = self.calls[usage]
                call.over, call.up = True, False
                call.ends.append(event)
            case _:
                pass

    def _new(self, usage: UsageId, name: str) -> None:
        assert usage not in self.calls
        call = self.calls[usage] = Call(self, usage)
        self.world.named.setdefault(name, []).append(call)

    def _decide(self, usage: UsageId, *, offered: bool) -> None:
        agent, world, rng = self.agent, self.world, self.rng
        rings = rng.random() * 8
        body = ANSWER if offered else OFFER
        self._later(rings, lambda: agent.provisional(usage, 180, world.now))
        self._later(rings, lambda: agent.provisional(usage, 183, world.now, body=body))
        if rng.random() < 0.75:
            world.network.at(world.now + rings, lambda: agent.answer(usage, body, world.now))
        elif rng.random() < 0.5:
            world.network.at(world.now + rings, lambda: agent.reject(usage, 486, world.now))
        else:
            world.network.at(world.now + rings, lambda: agent.hangup(usage, world.now))
        if rng.random() < 0.3:
            self._later(15, lambda: agent.hangup(usage, world.now))

    def _plan(self, usage: UsageId) -> None:
        agent, world, call = self.agent, self.world, self.calls[usage]

        def reoffer() -> None:
            if call.up:
                call.offers += 1
                agent.reoffer(usage, self.rng.choice((OFFER, OFFER, b"")), world.now)

        def update() -> None:
            if call.up:
                call.offers += 1
                agent.update(usage, self.rng.choice((OFFER, b"")), world.now)

        def refer() -> None:
            if call.up:
                call.transfers += 1
                agent.refer(usage, "sip:third@203.0.113.1", world.now)

        if self.rng.random() < 0.3:
            self._later(10, refer)
        for act, chance in ((reoffer, 0.5), (reoffer, 0.3), (update, 0.3)):
            if self.rng.random() < chance:
                self._later(self.rng.choice((1, 10)), act)
        if self.rng.random() < 0.5:
            self._later(self.rng.choice((1, 20, 100)), lambda: agent.hangup(usage, world.now))

    def _follow(self, usage: UsageId) -> None:
        """Answer a transfer, and tell how it goes; the call may end meanwhile."""
        agent, world, rng = self.agent, self.world, self.rng
        status, outcome = rng.choice((202, 202, 603)), rng.choice((200, 486))

        def tell(news: int) -> None:
            agent.notify_refer(usage, news, "", world.now, final=news >= 200)

        def answer() -> None:
            agent.refer_answer(usage, status, world.now)
            self._later(3, lambda: tell(180))
            if rng.random() < 0.9:
                world.network.at(world.now + 4, lambda: tell(outcome))

        self._later(2, answer)

    def _later(self, most: float, act: Callable[[], None]) -> None:
        self.world.network.at(self.world.now + self.rng.random() * most, act)


class Talker(Protocol):
    """One of two ends of a network."""

    @property
    def agent(self) -> UserAgent: ...
    @property
    def flow(self) -> Flow: ...
    def take(self) -> None:
        """Hear the events of the agent."""


def run(network: Network, ends: tuple[Talker, Talker], until: float) -> None:
    """Let time pass: timers fire, and what they and the network bring is delivered."""

    def deliver(end: Talker) -> Callable[[bytes], None]:
        return lambda data: end.agent.receive(data, end.flow, network.now)

    while True:
        dues = [network.next(), *(end.agent.next_timer() for end in ends)]
        due = min((at for at in dues if at is not None), default=until)
        if due >= until:
            network.now = until
            return
        network.step(due)
        for end, other in (ends, ends[::-1]):
            end.agent.handle_timer(due)
            end.take()
            for flow, data in end.agent.to_send():
                assert flow == end.flow, flow
                network.carry(deliver(other), data)


class World:
    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        delay = rng.choice((0.02, 0.3, 1.5))
        self.network = Network(rng, loss=rng.random() * 0.2, dup=rng.random() * 0.2, delay=delay)
        self.named: dict[str, list[Call]] = {}
        self.ends = (
            End(self, HOSTS[0], HOSTS[1], 2 * seed),
            End(self, HOSTS[1], HOSTS[0], 2 * seed + 1),
        )
        for number in range(rng.randint(1, 3)):
            end = rng.choice(self.ends)
            self.network.at(rng.random() * 5, partial(end.dial, f"call{number}"))

    @property
    def now(self) -> float:
        return self.network.now

    def run(self, until: float) -> None:
        run(self.network, self.ends, until)

    def hang_up_everything(self) -> None:
        for end in self.ends:
            for call in end.calls.values():
                end.agent.hangup(call.usage, self.now)


def play(seed: int) -> World:
    """One scenario from the first INVITE until nothing is left; raises AssertionError."""
    world = World(seed)
    world.run(SETTLED)
    for calls in world.named.values():
        assert len(calls) <= 2, (seed, "one INVITE, several calls")
        up = [call.up for call in calls]
        assert up in ([True, True], [False, False], [False]), (seed, up)
        for call in calls:
            assert len(call.ends) == call.over, (seed, call.ends)
            assert call.outcomes <= call.transfers, (seed, "a transfer that ended twice")
            assert call.up or call.outcomes == call.transfers, (seed, "a transfer without an end")
            assert call.up != call.over, (seed, "neither up nor over")
            causes = {event.cause for event in call.ends if isinstance(event, CallEnded)}
            # 15 s for a refresh of 90 s are not always enough on such a network.
            assert causes <= {"hangup", "bye", "rejected", "gone", "expired"}, (seed, causes)
            assert not call.up or call.done == call.offers, (seed, "an offer was forgotten")
    for end in world.ends:
        assert len(end.agent) == sum(call.up for call in end.calls.values()), seed
    world.hang_up_everything()
    world.run(SETTLED + LEFT_OVER)
    for end in world.ends:
        counts = end.agent.counts
        assert not any(getattr(counts, name) for name in counts.__slots__), (seed, counts)
        for call in end.calls.values():
            assert len(call.ends) == 1, (seed, call.ends)
    return world

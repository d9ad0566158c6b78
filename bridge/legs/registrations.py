"""Registrations: keeps the registrars of the trunks that want it told where we are."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from bridge import metrics
from bridge.errors import BridgeError, SipError
from bridge.sip.agent import UserAgent
from bridge.sip.events import Flow, RequestDone, RequestId
from bridge.sip.message import Request
from bridge.sip.register import (
    Closed,
    Output,
    Registered,
    Registration,
    RegistrationConfig,
    RegistrationFailed,
    SendKeepAlive,
    SendRegister,
    State,
)
from bridge.sip.uri import NameAddr, SipUri
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

FAREWELL_S = 2.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """A REGISTER on its way, and the flows to try when it finds nobody; or a ping of ours."""

    trunk: str
    request: Request | None
    untried: tuple[Flow, ...] = ()


class Registrations:
    """One for each of `wanted`, which are by the name of their trunk.

    `flows` resolves a URI, raising BridgeError; `kick` puts on the wire what the agent has to say.
    """

    def __init__(
        self,
        wanted: Mapping[str, RegistrationConfig],
        *,
        agent: UserAgent,
        flows: Callable[[SipUri], Awaitable[tuple[Flow, ...]]],
        kick: Callable[[], None],
        rng: random.Random,
    ) -> None:
        """Raises SipError for an address of record that is none."""
        self._registrations = {name: Registration(each, rng) for name, each in wanted.items()}
        self._agent = agent
        self._flows = flows
        self._kick = kick
        self._asked: dict[RequestId, _Asked] = {}
        self._latest: dict[str, Flow] = {}
        self._routes: dict[str, tuple[str, ...]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = TaskOwner("registrations")
        self._farewell = asyncio.Event()

    def states(self) -> Mapping[str, State]:
        return {name: each.state for name, each in self._registrations.items()}

    def service_route(self, trunk: str) -> tuple[str, ...]:
        """By which proxies the registrar wants our requests to come (RFC 3608)."""
        return self._routes.get(trunk, ())

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for registration in self._registrations.values():
            registration.start(self._loop.time())
        self._pump()

    def flow_in_use(self, flow: Flow) -> bool:
        """Calls come by this connection, so it must not be closed for being idle."""
        return flow in self._latest.values()

    async def close(self) -> None:
        """Take back what is registered, two seconds at most."""
        if not self._registrations:
            return
        for registration in self._registrations.values():
            registration.close(self._loop.time())
        self._pump()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._farewell.wait()
        except TimeoutError:
            log.warning("registrar did not answer the farewell")
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.close()

    def done(self, event: RequestDone) -> None:
        asked = self._asked.pop(event.request, None)
        if asked is None:
            return
        registration, now = self._registrations[asked.trunk], self._loop.time()
        if asked.request is None:
            if event.response is None:
                registration.flow_lost(now)
        elif event.response is not None:
            registration.receive(event.response, now)
        elif asked.untried:
            self._ask(asked.trunk, asked.request, asked.untried)
        else:
            registration.no_answer(asked.request, now)
        self._pump()

    def _pump(self) -> None:
        for trunk, registration in self._registrations.items():
            for output in registration.take():
                self._act(trunk, output)
            for state in State:
                series = metrics.registrations.labels(trunk, state.value)
                series.set(registration.state is state)
        if all(each.state is State.CLOSED for each in self._registrations.values()):
            self._farewell.set()
        self._arm()

    def _act(self, trunk: str, output: Output) -> None:
        match output:
            case SendRegister(target, request):
                self._tasks.spawn(self._send(trunk, target, request), name=trunk)
            case SendKeepAlive(target):
                if flow := self._latest.get(trunk):
                    # Any answer proves that the way is open.
                    sent = self._agent.request("OPTIONS", target, flow, self._loop.time())
                    self._asked[sent] = _Asked(trunk, None)
                    self._kick()
            case Registered(target, expires_s, service_route, _, public_address, refreshed):
                self._routes[trunk] = tuple(filter(_is_loose, service_route))
                self._learn(trunk, public_address)
                fields = {"trunk": trunk, "registrar": target, "expires_s": expires_s}
                log.log(logging.DEBUG if refreshed else logging.INFO, "registered", extra=fields)
            case RegistrationFailed(target, status, reason, retry_at):
                self._routes.pop(trunk, None)
                retry_s = None if retry_at is None else round(retry_at - self._loop.time(), 1)
                fields = {"trunk": trunk, "registrar": target, "status": status, "why": reason}
                log.warning("registration failed", extra={**fields, "retry_s": retry_s})
            case Closed():
                log.info("registration ended", extra={"trunk": trunk})

    def _learn(self, trunk: str, seen: tuple[str, int | None] | None) -> None:
        """Behind a NAT we are where the registrar sees us, for it and what is there besides."""
        flow = self._latest.get(trunk)
        if flow is not None and seen is not None and self._registrations[trunk].config.learns:
            self._agent.learn(flow, seen)

    async def _send(self, trunk: str, target: str, request: Request) -> None:
        try:
            flows = await self._flows(SipUri.parse(target))
            self._ask(trunk, request, flows)
        except BridgeError as error:
            log.warning("registrar not found", extra={"trunk": trunk, "why": error.message})
            self._registrations[trunk].no_answer(request, self._loop.time())
            self._pump()

    def _ask(self, trunk: str, request: Request, flows: tuple[Flow, ...]) -> None:
        flow, *untried = flows
        # The registration keeps challenges itself, over all of its refreshes.
        sent = self._agent.request(
            "REGISTER", request.uri, flow, self._loop.time(), headers=request.headers.items()
        )
        self._asked[sent] = _Asked(trunk, request, tuple(untried))
        self._latest[trunk] = flow
        self._kick()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending = [each.next_timer() for each in self._registrations.values()]
        due = min((when for when in pending if when is not None), default=None)
        if due is not None:
            self._timer = self._loop.call_at(due, self._timer_due, due)

    def _timer_due(self, due: float) -> None:
        self._timer = None
        for registration in self._registrations.values():
            # The loop may be early by its clock's resolution.
            registration.handle_timer(max(due, self._loop.time()))
        self._pump()


def _is_loose(route: str) -> bool:
    try:
        return NameAddr.parse(route).uri.loose_routing
    except SipError:
        return False

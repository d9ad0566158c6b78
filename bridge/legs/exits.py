"""Where calls of ours leave: whom an order means, how that is reached, and the INVITE."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.errors import NotFoundError, OverloadedError, RequestError, SipError
from bridge.legs.sip_leg import LegTerms, SipLeg
from bridge.sip.agent import UserAgent
from bridge.sip.auth import Credentials
from bridge.sip.events import Flow, UsageId
from bridge.sip.outgoing import OutgoingInvite
from bridge.sip.private import is_private_host
from bridge.sip.registrar import Registrar
from bridge.sip.transport import SECURE
from bridge.sip.uri import NameAddr, SipUri

SESSION_EXPIRES_S = 1800  # RFC 4028 section 4's recommendation, and what carriers ask for


@dataclass(frozen=True, slots=True)
class Goal:
    """Somebody to call, if those before did not take the call."""

    uri: SipUri
    own: bool = True
    """The trunk's own: passwords and routes of the trunk are for nobody else."""
    public_only: bool = False
    """Its name may not lead into a private network."""
    backup: bool = False
    """Only for when nobody could be asked; a refusal is one everywhere."""


@dataclass(frozen=True, slots=True)
class DialOrder:
    """A call to make. `caller` is the user part of From; empty shows our host alone."""

    target: SipUri
    caller: str
    terms: LegTerms
    headers: tuple[tuple[str, str], ...] = ()
    credentials: Credentials | None = None
    replaces: str = ""
    """The dialog whose place the call takes over there (RFC 3891)."""
    registered: bool = False
    """To a phone that registered with us, by the way it came."""
    own: bool = True
    """As for a Goal, like `public_only`."""
    public_only: bool = False
    backups: tuple[SipUri, ...] = ()
    """Called in turn when those before answer 503 or the like, or nothing in `failover_s`."""
    failover_s: float = 4.0
    max_redirects: int = 0

    @property
    def goals(self) -> tuple[Goal, ...]:
        first = Goal(self.target, own=self.own, public_only=self.public_only)
        return (first, *(Goal(uri, backup=True) for uri in self.backups))


@dataclass(frozen=True, slots=True)
class Way:
    """The Request-URI, the flows to try one after another, and the Route."""

    uri: SipUri
    flows: tuple[Flow, ...]
    routes: tuple[str, ...] = ()
    own: bool = True

    @property
    def is_secure(self) -> bool:
        return self.flows[0].transport in SECURE


class Routing(Protocol):
    """What a registration has learned."""

    def service_route(self, trunk: str) -> tuple[str, ...]: ...


class Exits:
    """`flows` resolves a URI, best way first, raising OverloadedError when there is none."""

    def __init__(
        self,
        agent: UserAgent,
        *,
        host: str,
        registrar: Registrar | None,
        routing: Routing,
        flows: Callable[[SipUri], Awaitable[tuple[Flow, ...]]],
        now: Callable[[], float],
    ) -> None:
        """`host` is what From says."""
        self.agent = agent
        self.now = now
        self._host = host
        self._registrar = registrar
        self._routing = routing
        self._flows = flows

    async def first(self, order: DialOrder) -> tuple[tuple[Way, ...], Sequence[Goal]]:
        """Whom to call at once, side by side, and who is left for later. Raises BridgeError."""
        if order.registered:
            return self._phones(order.target), ()
        goal, *later = order.goals
        while True:
            try:
                return (await self.way(goal, order),), later
            except OverloadedError:
                if not later:
                    raise
                goal, *later = later

    def _phones(self, target: SipUri) -> tuple[Way, ...]:
        """Every phone that has registered by that name. Raises NotFoundError."""
        assert self._registrar is not None
        bindings = self._registrar.lookup(target, self.now())
        if not bindings:
            raise NotFoundError(
                f"{target} is not registered", code="not_registered", param="transport.destination"
            )
        return tuple(Way(each.contact.uri, (each.flow,), each.path) for each in bindings)

    async def way(self, goal: Goal, order: DialOrder) -> Way:
        """Raises OverloadedError when there is none, RequestError for one that is not allowed."""
        routes = self._routing.service_route(order.terms.trunk) if goal.own else ()
        flows = await self._flows(_next_hop(goal.uri, routes))
        if goal.public_only:
            # What is called is what was looked at: the name is not asked for again.
            flows = tuple(flow for flow in flows if not is_private_host(flow.remote[0]))
        if not flows:
            raise RequestError(
                f"{goal.uri.host} leads into a private network",
                code="destination_not_allowed",
                param="transport.destination",
            )
        return Way(goal.uri, self._awake(goal.uri, flows), routes, goal.own)

    def _awake(self, uri: SipUri, flows: tuple[Flow, ...]) -> tuple[Flow, ...]:
        """Without the servers that want to be left alone. Raises OverloadedError."""
        resting, now = self.agent.resting, self.now()
        awake = tuple(flow for flow in flows if not resting.left_s(flow, now))
        if not awake:
            wait_s = min(resting.left_s(flow, now) for flow in flows)
            raise OverloadedError(
                f"{uri.host} wants no calls for another {wait_s:.0f} s, by its Retry-After",
                code="destination_unreachable",
            )
        return awake

    def invite(self, leg: SipLeg, order: DialOrder, way: Way, *, secure: bool) -> UsageId:
        """`secure`: keys in the offer are worth nothing by a flow that is not. Raises SipError,
        and OverloadedError when no flow is left."""
        flows = tuple(flow for flow in way.flows if flow.transport in SECURE or not secure)
        if not flows:
            raise OverloadedError(
                f"no way to {way.uri.host} is as secure as the call began",
                code="destination_unreachable",
            )
        host = self._host
        return self.agent.invite(
            OutgoingInvite(
                str(way.uri),
                flows,
                from_=f"<sip:{order.caller}@{host}>" if order.caller else f"<sip:{host}>",
                to=f"<{order.target}>",
                headers=(*(("Route", route) for route in way.routes), *order.headers),
                body=leg.description,
                credentials=order.credentials if way.own else None,
                replaces=order.replaces,
                contact_user=order.caller,
                session_expires=SESSION_EXPIRES_S,
            ),
            self.now(),
        )


def _next_hop(target: SipUri, routes: Sequence[str]) -> SipUri:
    if not routes:
        return target
    try:
        return NameAddr.parse(routes[0]).uri
    except SipError:
        return target

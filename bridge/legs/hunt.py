"""One call of ours until somebody takes it: phones that ring side by side, and whom to call next.

What a leg hears of it is one call: who rings, one answer, or one refusal.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import replace
from typing import Protocol

from bridge.errors import BridgeError, SipError
from bridge.legs.exits import DialOrder, Exits, Goal, Way
from bridge.legs.sip_leg import LegTerms, SipLeg
from bridge.sip.events import Event, OutgoingAnswered, OutgoingFailed, OutgoingProgress, UsageId
from bridge.sip.message import Headers
from bridge.sip.reasons import REASONS
from bridge.sip.uri import NameAddr
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

MOVED = frozenset({300, 301, 302})  # 305 and 380 would have others say whom we trust
NOBODY_ASKED = frozenset({408, 500, 502, 503, 504})
TIMEOUT = 408
GLOBAL_FAILURE = 600


class RedirectPolicy(Protocol):
    def redirected(self, terms: LegTerms, target: str, /) -> Goal:
        """Whom to call for a Contact of a 3xx. Raises RequestError when it is not followed."""
        ...


class Hunt:
    """`legs` is where the events of the user agent find the leg."""

    def __init__(
        self,
        leg: SipLeg,
        order: DialOrder,
        exits: Exits,
        *,
        policy: RedirectPolicy,
        legs: MutableMapping[UsageId, SipLeg],
        tasks: TaskOwner,
        secure: bool,
        kick: Callable[[], None],
    ) -> None:
        self._leg = leg
        self._order = order
        self._exits = exits
        self._policy = policy
        self._legs = legs
        self._tasks = tasks
        self._secure = secure
        self._kick = kick
        self._later: deque[Goal] = deque()
        self._ringing: dict[UsageId, Way] = {}
        self._redirects = order.max_redirects
        self._tried: set[str] = set()
        self._rang = False
        self._failure: OutgoingFailed | None = None
        self._impatience: asyncio.TimerHandle | None = None
        self._over = False

    def begin(self, ways: Iterable[Way], later: Iterable[Goal]) -> None:
        """Raises BridgeError when none of `ways` can be called."""
        self._later.extend(later)
        refused: BridgeError | None = None
        for way in ways:
            try:
                self._call(way)
            except BridgeError as error:
                refused = error
        if refused is not None and not self._ringing:
            raise refused
        self._be_patient()

    def stop(self) -> None:
        """The leg has ended: nobody is to ring for it any more."""
        self._over = True
        self._calm()
        self._drop(list(self._ringing))

    def happened(self, event: Event) -> Event | None:
        """What the leg is to hear of this, if anything."""
        match event:
            case OutgoingProgress():
                self._rang = True
            case OutgoingAnswered(usage):
                self._taken(usage)
            case OutgoingFailed():
                return self._failed(event)
            case _:
                pass
        return event

    def _call(self, way: Way) -> None:
        usage = self._exits.invite(self._leg, self._order, way, secure=self._secure)
        self._tried.add(str(way.uri))
        self._ringing[usage] = way
        self._legs[usage] = self._leg
        self._leg.usage = usage

    def _taken(self, usage: UsageId) -> None:
        """The first to answer; the others stop ringing."""
        del self._ringing[usage]
        self._leg.usage = usage
        if flow := self._exits.agent.flow_of(usage):
            self._leg.media.signalled_from(flow.remote[0])
        self._later.clear()
        self._calm()
        self._drop(list(self._ringing))

    def _drop(self, usages: Iterable[UsageId]) -> None:
        for usage in usages:
            del self._ringing[usage]
            self._legs.pop(usage, None)
            self._exits.agent.hangup(usage, self._exits.now())

    def _failed(self, event: OutgoingFailed) -> Event | None:
        self._legs.pop(event.usage, None)
        way = self._ringing.pop(event.usage, None)
        self._failure = _weightier(self._failure, event)
        if event.status in MOVED and way is not None:
            self._moved(event.headers)
        elif event.status >= GLOBAL_FAILURE:
            # Section 16.7 of RFC 3261: what nobody wants anywhere is not asked for elsewhere.
            self._later.clear()
            self._drop(list(self._ringing))
        elif self._rang or event.status not in NOBODY_ASKED:
            self._later = deque(goal for goal in self._later if not goal.backup)
        if self._ringing:
            return None
        self._calm()
        if self._later:
            self._tasks.spawn(self._next(), name="next way")
            return None
        self._over = True
        return self._failure

    def _moved(self, headers: Headers) -> None:
        """Contacts of a 3xx, best first, as far as they may be followed."""
        followed = []
        for contact in _contacts(headers):
            if self._redirects <= 0:
                log.info("redirect not followed", extra={"why": "there were too many"})
                break
            try:
                goal = self._policy.redirected(self._order.terms, str(contact.uri))
            except BridgeError as error:
                log.info("redirect not followed", extra={"why": error.message})
                continue
            if str(goal.uri) in self._tried:
                continue
            self._redirects -= 1
            followed.append(goal)
        self._later = deque([*followed, *self._later])

    async def _next(self) -> None:
        while self._later and not self._over:
            goal = self._later.popleft()
            try:
                way = await self._exits.way(goal, self._order)
                if self._over:
                    return
                self._call(way)
            except BridgeError as error:
                log.warning("no way", extra={"host": goal.uri.host, "why": error.message})
                continue
            log.info("next way", extra={"host": goal.uri.host})
            self._be_patient()
            self._kick()
            return
        if not self._over and self._failure is not None:
            self._over = True
            self._leg.happened(self._failure)

    def _be_patient(self, delay_s: float | None = None) -> None:
        agent, now = self._exits.agent, self._exits.now()
        if self._later or any(agent.untried(usage, now) for usage in self._ringing):
            loop = asyncio.get_running_loop()
            self._impatience = loop.call_later(delay_s or self._order.failover_s, self._impatient)

    def _calm(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _impatient(self) -> None:
        """Not even a 100 has come: whoever is there does not listen. Late answers are cancelled."""
        self._impatience = None
        agent, now, patience_s = self._exits.agent, self._exits.now(), self._order.failover_s
        waits = [patience_s]
        for usage in list(self._ringing):
            since = agent.unheard_since(usage)
            if since is None:
                continue
            # Timers may be early by the resolution of the clock.
            if (left_s := since + patience_s - now) > 0.01:
                waits.append(left_s)
            else:
                self._pass_over(usage, now)
        if self._ringing and not self._over:
            self._calm()
            self._be_patient(min(waits))
        self._kick()

    def _pass_over(self, usage: UsageId, now: float) -> None:
        """For the next server of the same URI, else for whoever is left."""
        agent = self._exits.agent
        untried = agent.untried(usage, now)
        if untried:
            agent.hangup(usage, now)
            self._legs.pop(usage, None)
            way = replace(self._ringing.pop(usage), flows=untried)
            log.info("next server", extra={"host": way.uri.host, "address": untried[0].remote[0]})
            self._call(way)
        elif self._later:
            agent.hangup(usage, now)
            failed = OutgoingFailed(usage, TIMEOUT, REASONS[TIMEOUT], Headers(), None)
            if (told := self._failed(failed)) is not None:
                self._leg.happened(told)


def _contacts(headers: Headers) -> list[NameAddr]:
    found = []
    for value in headers.values("contact")[:16]:
        try:
            found.append(NameAddr.parse(value))
        except SipError:
            continue
    return sorted(found, key=lambda contact: -_quality(contact.params.get("q")))


def _quality(text: str | None) -> float:
    try:
        return float(text or 1.0)
    except ValueError:
        return 0.0


def _weightier(one: OutgoingFailed | None, other: OutgoingFailed) -> OutgoingFailed:
    """Of two refusals the one that tells more (RFC 3261 section 16.7)."""
    return other if one is None else min(one, other, key=_weight)


def _weight(event: OutgoingFailed) -> int:
    if event.status >= GLOBAL_FAILURE:
        return 0
    if event.status < 400:
        return 3
    return 2 if event.status in NOBODY_ASKED else 1

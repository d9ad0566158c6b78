"""Phones: listens for their calls and makes calls to them; each becomes a leg."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bridge.errors import BridgeError, ConfigError, OverloadedError, SdpError
from bridge.ids import random_base62
from bridge.legs.exits import DialOrder, Exits, Way
from bridge.legs.grounds import Grounds
from bridge.legs.hunt import Hunt
from bridge.legs.refusals import Refusal, RefusalLog, compare_media, refusal, warning
from bridge.legs.registrations import Registrations
from bridge.legs.sip_leg import RETRY_LATER, LegTerms, SipLeg
from bridge.legs.sip_media import SipMedia, SipMediaSettings, takes_path
from bridge.legs.sip_path import Opened, SipPath, SipPaths
from bridge.legs.sip_settings import Policy, SipSettings
from bridge.legs.webrtc_path import Paths
from bridge.media.plane import MediaPlane
from bridge.rtp.transport import PortPool, RtpPoller
from bridge.sip.agent import UserAgent
from bridge.sip.agent_config import AgentConfig, forget_nothing
from bridge.sip.body import session_description
from bridge.sip.dns import Resolver
from bridge.sip.events import (
    CallCancelled,
    CallEnded,
    Event,
    Flow,
    IncomingCall,
    OutgoingAnswered,
    RequestDone,
    UsageId,
)
from bridge.sip.message import Rejection, Request, Response
from bridge.sip.register import RegistrationConfig
from bridge.sip.registrar import Registrar
from bridge.sip.resolver import ResolveError
from bridge.sip.transport import SECURE, SipTransport
from bridge.sip.uri import SipUri
from bridge.tasks import TaskOwner

BROWSERS = frozenset({"ws", "wss"})
MEDIA_CHECK_S = 1.0
EXPIRY_CHECK_S = 60.0
SESSION_EXPIRES_S = 1800  # RFC 4028 section 4's recommendation, and what carriers ask for


class SipLegs:
    """Each INVITE with usable media becomes a leg given to `on_incoming`."""

    def __init__(
        self,
        settings: SipSettings,
        *,
        plane: MediaPlane,
        poller: RtpPoller,
        ports: PortPool,
        policy: Policy,
        on_incoming: Callable[[SipLeg], None],
        rng: random.Random,
        registrations: Mapping[str, RegistrationConfig] | None = None,
    ) -> None:
        """`registrations` are by the name of their trunk. Raises SipError for a bad address."""
        self.settings = settings
        self._cname = f"{random_base62(8)}@{settings.media_address}"
        self._plane = plane
        self._poller = poller
        self._grounds = Grounds(ports, settings.media_address)
        self._policy = policy
        self._on_incoming = on_incoming
        self._refusals = RefusalLog()
        self.on_refused: Callable[[Refusal], None] = self._refusals.tell
        """Told why an INVITE is turned away."""
        self._rng = rng
        self._paths: SipPaths | None = None
        self._legs: dict[UsageId, SipLeg] = {}
        self._hunts: dict[SipLeg, Hunt] = {}
        """Calls of ours that nobody has taken yet."""
        self._tasks = TaskOwner("sip")
        self._resolver = Resolver(rng)
        self._registrar = registrar = policy.registrar
        advertised = settings.advertised_address
        self.agent = UserAgent(
            AgentConfig(
                contacts={name: (advertised, port) for name, port in settings.ports.items()},
                user_agent=settings.user_agent,
                max_usages=settings.max_calls,
                session_expires=SESSION_EXPIRES_S,
                transfers=settings.transfers,
                replaces=settings.transfers,
                admit=lambda flow: policy.admits(flow.remote[0]),
                trusts=lambda flow: policy.trusts(flow.remote[0]),
                register=self._register if registrar is not None else None,
                flow_closed=registrar.flow_closed if registrar is not None else forget_nothing,
                authenticate=lambda request, flow: policy.authenticate(request, flow, self.now()),
                refused=self._tell_refusal,
            ),
            rng,
        )
        self.registrations = Registrations(
            registrations or {}, agent=self.agent, flows=self._flows, kick=self.kick, rng=rng
        )
        self._exits = Exits(
            self.agent,
            host=settings.advertised_address,
            registrar=registrar,
            routing=self.registrations,
            flows=self._flows,
            now=self.now,
        )
        ours = {name: (settings.host, port) for name, port in settings.ports.items()}
        self._transport: SipTransport[Event] = SipTransport(
            self.agent,
            udp=ours.get("udp"),
            tcp=ours.get("tcp"),
            tls=ours.get("tls"),
            ws=ours.get("ws"),
            wss=ours.get("wss"),
            tls_files=settings.tls_files,
            ws_origins=settings.ws_origins,
            on_event=self.happened,
            flow_in_use=self._flow_in_use,
        )

    @property
    def uris(self) -> tuple[str, ...]:
        """What to dial; UDP is what a phone takes without being told."""
        address = self.settings.advertised_address
        host = f"[{address}]" if ":" in address else address
        found = []
        for transport in ("udp", "tcp", "tls"):
            if endpoint := self._transport.endpoints.get(transport):
                suffix = "" if transport == "udp" else f";transport={transport}"
                found.append(f"sip:agent@{host}:{endpoint[1]}{suffix}")
        return tuple(found)

    async def start(self) -> None:
        """Raises ConfigError when a port is taken."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._transport.start()
        except OSError as error:
            ports = ", ".join(f"{port}/{name}" for name, port in self.settings.ports.items())
            raise ConfigError(
                f"SIP cannot listen on {self.settings.host}, {ports}: {error.strerror}; "
                "is another service using it? Set sip.udp_port and sip.tcp_port",
                param="sip.udp_port",
            ) from None
        self._tasks.spawn(self._watch_media(), name="media timeouts")
        if self._registrar is not None:
            self._tasks.spawn(self._expire_bindings(self._registrar), name="bindings")
        self.registrations.start()

    def use_paths(self, paths: Paths) -> None:
        """From now on calls may be encrypted by DTLS."""
        self._paths = SipPaths(paths)

    def use_other_ports(self, ports: PortPool | None) -> None:
        """From now on calls may be of the other IP version too, if there are any."""
        self._grounds.use_other(ports, self.settings.other_media_address)

    def reload_tls(self) -> None:
        """Read the certificate again; raises ConfigError and keeps the old one if it is bad."""
        self._transport.reload_tls()

    def drain(self) -> None:
        """From now on INVITE and OPTIONS get 503."""
        self.agent.drain()

    async def close(self) -> None:
        for leg in self._all():
            await leg.hangup()
        if self._paths is not None:
            await self._paths.close()
        await self.registrations.close()
        await self._tasks.close()
        await self._resolver.close()
        await self._transport.close()

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> set[SipLeg]:
        return {*self._legs.values(), *self._hunts}

    # For the legs

    def now(self) -> float:
        return self._loop.time()

    def kick(self) -> None:
        self._transport.kick()

    def carry(self, media: SipMedia) -> None:
        if media.stream is not None:
            if media.path is None:
                self._poller.add(media.socket)
            self._plane.add(media.stream)

    def open_path(self, leg: SipLeg, then: Callable[[Opened], None]) -> None:
        assert self._paths is not None
        self._paths.open(leg.usage, then)

    def forget(self, leg: SipLeg) -> None:
        self._legs.pop(leg.usage, None)
        if self._paths is not None:
            self._paths.gone(leg.usage)
        if (hunt := self._hunts.pop(leg, None)) is not None:
            hunt.stop()
        if leg.stream is not None:
            self._plane.remove(leg.stream)
        leg.media.close()
        self._policy.released(leg.terms)

    # Calls that reach us

    def happened(self, event: Event) -> None:
        """What the user agent reports."""
        if isinstance(event, IncomingCall):
            self._incoming(event)
        elif isinstance(event, RequestDone):
            self.registrations.done(event)
        elif leg := self._legs.get(event.usage):
            hunt = self._hunts.get(leg)
            told = event if hunt is None else hunt.happened(event)
            if isinstance(event, OutgoingAnswered):
                self._hunts.pop(leg, None)
            if told is not None:
                leg.happened(told)
        elif self._paths is not None and isinstance(event, CallCancelled | CallEnded):
            self._paths.gone(event.usage)

    def _incoming(self, event: IncomingCall) -> None:
        try:
            terms = self._policy.terms(event.request, event.flow, self.now())
        except BridgeError as error:
            self._refuse(event, error, RETRY_LATER)
            return
        offered = session_description(event.request) or b""
        # Of a caller without an offer ours has the path.
        offers = not offered and terms.srtp == "dtls"
        takes = offers or takes_path(offered, self._settings(terms, event.flow))
        if self._paths is not None and takes:
            then = partial(self._path_opened, event, terms)
            self._paths.open(event.usage, then, offers=offers)
        else:
            self._begin(event, terms, None)

    def _path_opened(self, event: IncomingCall, terms: LegTerms, opened: Opened) -> None:
        if opened is None:
            self._policy.released(terms)
        else:
            self._begin(event, terms, opened)
            self.kick()

    def _begin(self, event: IncomingCall, terms: LegTerms, path: Opened) -> None:
        try:
            media = self._media(terms, event.flow, path, session_description(event.request))
        except BridgeError as error:
            self._policy.released(terms)
            self._refuse(event, error, RETRY_LATER)
            return
        try:
            leg = SipLeg(
                self,
                media,
                direction="inbound",
                terms=terms,
                headers=tuple(event.request.headers),
                offer=session_description(event.request) or b"",
            )
        except SdpError as error:
            media.close()
            self._policy.released(terms)
            codecs = terms.codecs or self.settings.codecs
            body = session_description(event.request) or b""
            offer = compare_media(body, codecs, terms.srtp)
            self._refuse(event, error, (("Warning", warning(error)),), offer=offer)
            return
        leg.usage = event.usage
        if event.replaces is not None:
            leg.replaces = self._legs.get(event.replaces)
        self._legs[event.usage] = leg
        self._on_incoming(leg)

    def _media(
        self, terms: LegTerms, flow: Flow, path: Opened, offer: bytes | None = None
    ) -> SipMedia:
        """Raises OverloadedError when no port is free."""
        if isinstance(path, OverloadedError):
            raise path
        settings = self._settings(terms, flow)
        if path is not None:
            return SipMedia(path, settings, rng=self._rng)
        seen_at = self.agent.seen_at(flow) if self.settings.media_learns else ""
        socket, address = self._grounds.open(offer or b"", flow.remote[0], seen_at)
        return SipMedia(socket, replace(settings, address=address), rng=self._rng)

    def _settings(self, terms: LegTerms, flow: Flow) -> SipMediaSettings:
        return SipMediaSettings(
            self.settings.media_address,
            self._cname,
            signalling=flow.remote[0],
            codecs=terms.codecs or self.settings.codecs,
            srtp=terms.srtp,
            secure_signalling=flow.transport in SECURE,
            allow_insecure_keys=terms.allow_insecure_keys,
        )

    def _refuse(
        self,
        event: IncomingCall,
        error: BridgeError,
        headers: Sequence[tuple[str, str]],
        *,
        offer: str = "",
    ) -> None:
        self._tell_refusal(event.request, event.flow, error, offer=offer)
        self.agent.reject(event.usage, error.sip_status, self.now(), headers=headers)

    def _tell_refusal(
        self, request: Request, flow: Flow, found: Rejection | BridgeError, *, offer: str = ""
    ) -> None:
        if self._refusals.has_room(self.now()):
            caller = self._policy.caller(request, flow)
            self.on_refused(refusal(request, flow, caller, found, offer=offer))

    # Calls that we make

    async def dial(self, order: DialOrder) -> SipLeg:
        """The leg of a call that is on its way.

        Raises:
            OverloadedError: no port, or nowhere to send it.
            NotFoundError: a phone of ours that is not registered.
            RequestError: a name that leads into a private network.
            SdpError: keys are required, and would pass in the clear.
            SipError: a value that cannot stand in a message.
        """
        ways, later = await self._exits.first(order)
        ways = _of_one_kind(ways)
        # Keys in the clear would be worth nothing: no way back from TLS.
        secure = all(way.is_secure for way in ways)
        flow = next((way for way in ways if not way.is_secure), ways[0]).flows[0]
        media = self._media(order.terms, flow, await self._path_to(flow, order.terms))
        try:
            leg = SipLeg(self, media, direction="outbound", terms=order.terms)
            hunt = Hunt(
                leg,
                order,
                self._exits,
                policy=self._policy,
                legs=self._legs,
                tasks=self._tasks,
                secure=secure,
                kick=self.kick,
            )
            hunt.begin(ways, later)
        except BridgeError:
            media.close()
            raise
        self._hunts[leg] = hunt
        # The owner sets itself as listener before the first event can come.
        self._transport.kick_soon()
        return leg

    async def _path_to(self, flow: Flow, terms: LegTerms) -> SipPath | None:
        """A browser takes nothing else, and such a trunk is given nothing else."""
        if self._paths is None or terms.srtp == "off":
            return None
        wanted = terms.srtp == "dtls" or flow.transport in BROWSERS
        return await self._paths.opened(offers=not terms.late_offer) if wanted else None

    async def _flows(self, target: SipUri) -> tuple[Flow, ...]:
        transports = self._transport.transports
        families = (6,) if ":" in self.settings.host else (4,)
        try:
            targets = await self._resolver.targets(target, transports=transports, families=families)
        except ResolveError as error:
            raise OverloadedError(error.message, code="destination_unreachable") from None
        flows = self._transport.flows(targets)
        if not flows:
            raise OverloadedError(
                f"no transport of ours reaches {target.host}", code="destination_unreachable"
            )
        return flows

    def _register(self, request: Request, flow: Flow) -> Response:
        assert self._registrar is not None
        return self._registrar.register(request, flow, self.now())

    def _flow_in_use(self, flow: Flow) -> bool:
        if self._registrar is not None and self._registrar.flow_in_use(flow):
            return True
        return self.agent.flow_in_use(flow) or self.registrations.flow_in_use(flow)

    async def _expire_bindings(self, registrar: Registrar) -> None:
        while True:
            await asyncio.sleep(EXPIRY_CHECK_S)
            registrar.expire(self.now())

    async def _watch_media(self) -> None:
        while True:
            await asyncio.sleep(MEDIA_CHECK_S)
            now = self.now()
            for leg in list(self._legs.values()):
                leg.check_media(now, self.settings.patience)


def _of_one_kind(ways: tuple[Way, ...]) -> tuple[Way, ...]:
    """Browsers are offered other media than phones: those ring that are like the latest to
    register."""
    browsers = ways[0].flows[0].transport in BROWSERS
    return tuple(way for way in ways if (way.flows[0].transport in BROWSERS) == browsers)

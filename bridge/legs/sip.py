"""Phones: SIP calls as legs, each with its negotiated media and its row in the media plane."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bridge.audio import codecs
from bridge.errors import BridgeError, ConfigError, SdpError
from bridge.ids import random_base62
from bridge.legs.base import LegListener
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.transport import PortPool, RtpPoller, RtpSocket
from bridge.sdp.description import SessionDescription
from bridge.sdp.negotiation import Answer, NegotiatedMedia, accept_answer, answer, offer, reoffer
from bridge.sip.agent import AgentConfig, UserAgent
from bridge.sip.body import session_description
from bridge.sip.events import (
    CallCancelled,
    CallConfirmed,
    CallEnded,
    Event,
    IncomingCall,
    Reoffer,
    RequestDone,
    UsageId,
)
from bridge.sip.transport import SipTransport
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

SDP = "application/sdp"
CREDENTIALS = frozenset({"authorization", "proxy-authorization"})
MEDIA_CHECK_S = 1.0
HELD_TIMEOUT_S = 3600.0

RINGING = 180
OK = 200
UNAVAILABLE = 503
RETRY_LATER = (("Retry-After", "5"),)  # without it a 503 is taken for a 500 (RFC 3261 21.5.4)


@dataclass(frozen=True, slots=True)
class SipSettings:
    """`advertised_address` goes into Contact, `media_address` into SDP."""

    host: str = "127.0.0.1"
    udp_port: int = 5060
    tcp_port: int = 5060
    advertised_address: str = "127.0.0.1"
    media_address: str = "127.0.0.1"
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    media_timeout_s: float = 30.0
    max_calls: int = 1000
    user_agent: str = "bridge"


class SipLeg:
    """One call of one phone. Media is negotiated when it arrives, so that answering cannot fail."""

    kind: Literal["sip", "webrtc"] = "sip"
    direction: Literal["inbound", "outbound"] = "inbound"

    def __init__(self, phones: "SipLegs", invite: IncomingCall, socket: RtpSocket) -> None:
        """Raises SdpError when the offer cannot be answered."""
        self.listener: LegListener | None = None
        self.usage = invite.usage
        self.confirmed_at: float | None = None
        self._phones = phones
        self._request = invite.request
        self._socket = socket
        self._stream: AudioStream | None = None
        body = session_description(invite.request) or b""
        self._local = self._negotiate(body) if body else phones.offer(socket)
        self._offered = not body
        self._ended = False
        self._media_due_since = 0.0

    @property
    def stream(self) -> AudioStream | None:
        return self._stream

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        return tuple(
            (name, value)
            for name, value in self._request.headers
            if name.lower() not in CREDENTIALS
        )

    # Verbs

    def ring(self) -> None:
        self._phones.agent.provisional(self.usage, RINGING, self._phones.now())
        self._phones.kick()

    async def answer(self) -> None:
        self._phones.agent.answer(self.usage, str(self._local).encode(), self._phones.now())
        self._phones.kick()

    def reject(self, status: int) -> None:
        headers = RETRY_LATER if status == UNAVAILABLE else ()
        self._phones.agent.reject(self.usage, status, self._phones.now(), headers=headers)
        self.finish("rejected")
        self._phones.kick()

    async def hangup(self) -> None:
        if not self._ended:
            self._phones.agent.hangup(self.usage, self._phones.now())
            self.finish("local_hangup")
            self._phones.kick()

    def send_message(self, text: str) -> None:
        """A phone has no data channel."""

    # What the user agent reports

    def confirmed(self, body: bytes) -> None:
        """The ACK came: for the call, or for a re-INVITE."""
        if self._offered and body:
            self._offered = False
            try:
                answered = SessionDescription.parse(body.decode("utf-8", "replace"))
                self._use(accept_answer(self._local, answered))
            except SdpError as error:
                log.warning("answer in ACK not usable", extra={"why": error.message})
        if self._stream is None:
            self._phones.agent.hangup(self.usage, self._phones.now())
            self.finish("no_media")
            self._phones.kick()
        elif self.confirmed_at is None:
            self.confirmed_at = self._media_due_since = self._phones.now()
            self._phones.carry(self._stream, self._socket)
            if self.listener is not None:
                self.listener.leg_answered()

    def reoffered(self, offer_body: bytes) -> None:
        """A re-INVITE or UPDATE: hold, resume, a new address, or a session refresh."""
        status, body = OK, b""
        try:
            if offer_body:
                self._local = self._negotiate(offer_body)
            else:
                self._offered = True
                self._local = reoffer(self._local)
            body = str(self._local).encode()
        except SdpError as error:
            log.info("re-offer refused", extra={"why": error.message})
            status = error.sip_status
        self._phones.agent.reinvite_answer(self.usage, status, body, self._phones.now())

    def finish(self, reason: str) -> None:
        """Media stops and the owner is told, once."""
        if self._ended:
            return
        self._ended = True
        self._phones.forget(self, self._stream, self._socket)
        if self.listener is not None:
            self.listener.leg_ended(reason)

    def check_media(self, now: float, timeout_s: float) -> None:
        """BYE when no packet has come for too long."""
        if self._stream is None or self.confirmed_at is None:
            return
        last = self._stream.stats.last_received_at
        quiet_s = now - max(self._media_due_since, last if last is not None else 0.0)
        if quiet_s > (HELD_TIMEOUT_S if self._stream.held else timeout_s):
            self._phones.agent.hangup(self.usage, now)
            self.finish("media_timeout")
            self._phones.kick()

    # Media

    def _negotiate(self, body: bytes) -> SessionDescription:
        description = SessionDescription.parse(body.decode("utf-8", "replace"))
        allowed = self._phones.settings.codecs
        if self._stream is not None:
            # The row of the media plane keeps its codec for the life of the call.
            allowed = (self._stream.codec.name,)
        answered = self._phones.answer(description, self._socket, allowed, self._previous())
        self._use(answered.media)
        return answered.description

    def _previous(self) -> SessionDescription | None:
        return self._local if self._stream is not None else None

    def _use(self, media: NegotiatedMedia) -> None:
        self._socket.set_remote(media.remote, media.remote_rtcp)
        if self._stream is None:
            self._stream = AudioStream(
                codecs.by_name(media.codec),
                payload_type=media.payload_type,
                wire=self._socket,
                cname=self._phones.cname,
                telephone_event=media.telephone_event,
                telephone_event_rate=media.telephone_event_rate,
            )
            self._stream.on_digit = self._digit
            self._socket.on_rtp = self._stream.receive_rtp
            self._socket.on_rtcp = self._stream.receive_rtcp
        self._stream.telephone_event = media.telephone_event
        self._stream.held = media.direction != "sendrecv"
        # A caller who was on hold for long has only now been asked to speak.
        self._media_due_since = self._phones.now()

    def _digit(self, digit: str) -> None:
        if self.listener is not None:
            self.listener.leg_digit(digit)


class SipLegs:
    """Listens for phones; each INVITE with usable media becomes a leg given to `on_incoming`."""

    def __init__(
        self,
        settings: SipSettings,
        *,
        plane: MediaPlane,
        poller: RtpPoller,
        ports: PortPool,
        admits: Callable[[str], bool],
        on_incoming: Callable[[SipLeg], None],
        rng: random.Random,
    ) -> None:
        self.settings = settings
        self.cname = f"{random_base62(8)}@{settings.media_address}"
        self._plane = plane
        self._poller = poller
        self._ports = ports
        self._on_incoming = on_incoming
        self._rng = rng
        self._legs: dict[UsageId, SipLeg] = {}
        self._tasks = TaskOwner("sip")
        self.agent = UserAgent(
            AgentConfig(
                contacts={
                    "udp": (settings.advertised_address, settings.udp_port),
                    "tcp": (settings.advertised_address, settings.tcp_port),
                },
                user_agent=settings.user_agent,
                max_usages=settings.max_calls,
                admit=lambda flow: admits(flow.remote[0]),
            ),
            rng,
        )
        self._transport: SipTransport[Event] = SipTransport(
            self.agent,
            udp=(settings.host, settings.udp_port) if settings.udp_port else None,
            tcp=(settings.host, settings.tcp_port) if settings.tcp_port else None,
            on_event=self._on_event,
            flow_in_use=self.agent.flow_in_use,
        )

    @property
    def uris(self) -> tuple[str, ...]:
        """What to dial."""
        address = self.settings.advertised_address
        host = f"[{address}]" if ":" in address else address
        return tuple(
            f"sip:agent@{host}:{port};transport={transport}"
            for transport, (_, port) in sorted(self._transport.endpoints.items(), reverse=True)
        )

    async def start(self) -> None:
        """Raises ConfigError when a port is taken."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._transport.start()
        except OSError as error:
            ports = f"{self.settings.udp_port}/udp, {self.settings.tcp_port}/tcp"
            raise ConfigError(
                f"SIP cannot listen on {self.settings.host}, {ports}: {error.strerror}; "
                "is another service using it? Set sip.udp_port and sip.tcp_port",
                param="sip.udp_port",
            ) from None
        self._tasks.spawn(self._watch_media(), name="media timeouts")

    def drain(self) -> None:
        """From now on INVITE and OPTIONS get 503."""
        self.agent.drain()

    async def close(self) -> None:
        for leg in list(self._legs.values()):
            await leg.hangup()
        await self._tasks.close()
        await self._transport.close()

    def now(self) -> float:
        return self._loop.time()

    def kick(self) -> None:
        self._transport.kick()

    def __len__(self) -> int:
        return len(self._legs)

    # For the legs

    def answer(
        self,
        description: SessionDescription,
        socket: RtpSocket,
        allowed: Sequence[str],
        previous: SessionDescription | None,
    ) -> Answer:
        return answer(
            description,
            address=self.settings.media_address,
            port=socket.address[1],
            codecs=allowed,
            session_id=self._rng.getrandbits(62),
            version=1,
            previous=previous,
        )

    def offer(self, socket: RtpSocket) -> SessionDescription:
        return offer(
            address=self.settings.media_address,
            port=socket.address[1],
            codecs=self.settings.codecs,
            session_id=self._rng.getrandbits(62),
            version=1,
        )

    def carry(self, stream: AudioStream, socket: RtpSocket) -> None:
        self._poller.add(socket)
        self._plane.add(stream)

    def forget(self, leg: SipLeg, stream: AudioStream | None, socket: RtpSocket) -> None:
        self._legs.pop(leg.usage, None)
        if stream is not None:
            self._plane.remove(stream)
        socket.close()

    # Events of the user agent

    def _on_event(self, event: Event) -> None:
        if isinstance(event, IncomingCall):
            self._incoming(event)
            return
        if isinstance(event, RequestDone):
            return
        leg = self._legs.get(event.usage)
        if leg is None:
            return
        match event:
            case CallConfirmed(_, body):
                leg.confirmed(body)
            case CallCancelled():
                leg.finish("cancelled")
            case CallEnded(_, cause):
                leg.finish("remote_hangup" if cause == "bye" else cause)
            case Reoffer(_, body):
                leg.reoffered(body)
            case _:
                pass

    def _incoming(self, event: IncomingCall) -> None:
        now = self.now()
        try:
            socket = self._ports.open()
        except BridgeError as error:
            self._refuse(event, error, RETRY_LATER)
            return
        try:
            leg = SipLeg(self, event, socket)
        except SdpError as error:
            socket.close()
            self._refuse(event, error, (("Warning", '305 - "Incompatible media format"'),))
            return
        self._legs[event.usage] = leg
        log.debug("INVITE", extra={"usage": event.usage, "at": now})
        self._on_incoming(leg)

    def _refuse(
        self, event: IncomingCall, error: BridgeError, headers: Sequence[tuple[str, str]]
    ) -> None:
        log.warning(
            "INVITE refused",
            extra={"status": error.sip_status, "why": error.message, "from": event.flow.remote[0]},
        )
        self.agent.reject(event.usage, error.sip_status, self.now(), headers=headers)

    async def _watch_media(self) -> None:
        while True:
            await asyncio.sleep(MEDIA_CHECK_S)
            now = self.now()
            for leg in list(self._legs.values()):
                leg.check_media(now, self.settings.media_timeout_s)

"""Browsers as legs: one offer in, one answer out, then audio and the `oai-events` data channel."""

import asyncio
import dataclasses
import ipaddress
import logging
import re
import secrets
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal

from aiortc import InvalidStateError, RTCDataChannel, RTCIceCandidate, RTCIceServer
from aiortc.rtcicetransport import candidate_to_aioice, parse_stun_turn_uri
from aiortc.rtcsctptransport import RTCSctpCapabilities

from bridge.errors import ConfigError
from bridge.legs.base import LegListener, LegResult, MediaSecurity
from bridge.legs.webrtc_guard import Dropped, Limits, PeerTransport, check_libraries
from bridge.legs.webrtc_media import SrtpWire
from bridge.legs.webrtc_sdp import MAX_MESSAGE_BYTES, Local, Offer, read_offer, write_answer
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

CHANNEL_LABEL = "oai-events"

# The farewell: how long the last messages may take to be acknowledged, and all of it together.
DRAIN_TIMEOUT_S = 0.5
CLOSE_TIMEOUT_S = 2.0

_CREDENTIALS = re.compile(r"(?P<scheme>turns?):(?P<user>[^@]*):(?P<secret>[^@:]*)@(?P<rest>.+)")


class WebRtcLeg:
    """A browser on the line. Made by `WebRtcLegs.offer`, connecting from then on."""

    kind: Literal["sip", "webrtc"] = "webrtc"
    direction: Literal["inbound", "outbound"] = "inbound"

    def __init__(
        self,
        *,
        offer: Offer,
        peer: PeerTransport,
        plane: MediaPlane,
        tasks: TaskOwner,
        limits: Limits,
    ) -> None:
        self.listener: LegListener | None = None
        self.result: LegResult | None = None
        self.ended: str | None = None
        self._offer = offer
        self._peer = peer
        self._plane = plane
        self._tasks = tasks
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._wire = SrtpWire(peer.connection, peer.dtls)
        self._wire.sends = offer.direction in ("sendrecv", "sendonly")
        self.cname = secrets.token_hex(8)
        self._stream = AudioStream(
            offer.codec,
            payload_type=offer.payload_type,
            wire=self._wire,
            telephone_event=offer.telephone_event,
            telephone_event_rate=offer.telephone_event_rate,
            cname=self.cname,
        )
        self._stream.on_digit = self._digit
        self._stream.repairs = True  # every browser does
        self._channel: RTCDataChannel | None = None
        self._unsent: deque[str] = deque()
        self._unsent_bytes = 0
        self._connecting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def stream(self) -> AudioStream | None:
        return self._stream

    @property
    def media_security(self) -> MediaSecurity:
        return "dtls"

    @property
    def ssrc(self) -> int:
        """Of what we send."""
        return self._stream.ssrc

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        return ()

    @property
    def dropped(self) -> Dropped:
        """Datagrams refused so far."""
        return self._peer.connection.dropped

    def ring(self) -> None:
        """A browser has no ringing."""

    async def answer(self) -> None:
        """The answer went out with the HTTP response."""

    def reject(self, status: int) -> None:
        self._end("rejected")

    async def hangup(self) -> None:
        self._end("local_hangup")
        if self._closing is not None:
            await asyncio.wait({self._closing}, timeout=CLOSE_TIMEOUT_S)

    def send_message(self, text: str) -> None:
        if self.ended is not None or self._offer.data is None:
            return
        if self._channel is None:
            self._unsent.append(text)
            self._unsent_bytes += len(text)
            if self._unsent_bytes > self._limits.unsent_bytes:
                log.warning("data channel never opened", extra={"messages": len(self._unsent)})
                self._end("connection_lost")
        elif self._channel.bufferedAmount > self._limits.unsent_bytes:
            log.warning("data channel is not read", extra={"bytes": self._channel.bufferedAmount})
            self._end("connection_lost")
        else:
            try:
                self._channel.send(text)
            except InvalidStateError:
                log.debug("message after the data channel closed")
            except ValueError:
                log.warning("message too large for the browser", extra={"length": len(text)})

    def start(self) -> None:
        """Connect in the background; `WebRtcLegs` calls this once the answer exists."""
        self._peer.dtls.on("statechange", self._dtls_changed)
        self._peer.ice.on("statechange", self._ice_changed)
        self._peer.sctp.on("datachannel", self._channel_opened)
        self._connecting = self._tasks.spawn(self._connect(), name="connect")

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                await self._handshake()
        except TimeoutError:
            log.info("browser did not connect")
        finally:
            if self._peer.dtls.state != "connected":
                self._end("connection_lost")
        if self.ended is None:
            await self._connected()

    async def _handshake(self) -> None:
        offer, peer = self._offer, self._peer
        connection = peer.connection
        connection.ice_controlling = bool(offer.ice.iceLite)
        if offer.setup == "passive":
            peer.dtls._set_role("server")
        for candidate in offer.candidates:
            await connection.add_remote_candidate(candidate_to_aioice(candidate))
        # The end of the candidates is never told: a page that posts its offer before it gathered
        # has none, and is found by its own checks.
        await peer.ice.start(offer.ice)
        if peer.ice.state == "completed":
            await peer.dtls.start(offer.dtls)

    async def _connected(self) -> None:
        offer = self._offer
        self._peer.connection.heard()
        self._wire.feed(self._stream, listens=offer.direction in ("sendrecv", "recvonly"))
        self._plane.add(self._stream)
        self._loop.call_soon(self._tell_answered)
        if offer.data is not None:
            capabilities = RTCSctpCapabilities(maxMessageSize=offer.max_message_bytes)
            await self._peer.sctp.start(capabilities, offer.sctp_port)

    def _dtls_changed(self) -> None:
        if self._peer.dtls.state in ("closed", "failed"):
            lost = self._peer.connection.closed or self._peer.dtls.state == "failed"
            self._end("connection_lost" if lost else "remote_hangup")

    def _ice_changed(self) -> None:
        if self._peer.ice.state in ("closed", "failed"):
            self._end("connection_lost")

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL_LABEL or self._channel is not None:
            return
        self._channel = channel
        channel.on("message", self._message)
        channel.on("close", self._channel_closed)
        while self._unsent:
            self.send_message(self._unsent.popleft())

    def _channel_closed(self) -> None:
        self._end("remote_hangup")

    def _message(self, data: str | bytes) -> None:
        if self.ended is not None:
            return
        if isinstance(data, str) and len(data.encode()) <= MAX_MESSAGE_BYTES:
            self._loop.call_soon(self._tell_message, data)
        else:
            log.debug("data channel message ignored", extra={"length": len(data)})

    def _digit(self, digit: str) -> None:
        if self.ended is None:
            self._loop.call_soon(self._tell_digit, digit)

    # What came before the end is told even when the end is already known: the last
    # message of a page that closes counts.

    def _tell_answered(self) -> None:
        if self.listener is not None:
            self.listener.leg_answered()

    def _tell_message(self, text: str) -> None:
        if self.listener is not None:
            self.listener.leg_message(text)

    def _tell_digit(self, digit: str) -> None:
        if self.listener is not None:
            self.listener.leg_digit(digit)

    def _tell_ended(self) -> None:
        if self.listener is not None and self.ended is not None:
            self.listener.leg_ended(self.ended)

    def _end(self, reason: str) -> None:
        if self.ended is not None:
            return
        self.ended = reason
        self._unsent.clear()
        self._plane.remove(self._stream)
        self._loop.call_soon(self._tell_ended)
        self._closing = self._tasks.spawn(self._close(), name="close")

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._say_goodbye()
                if self._connecting is not None:
                    self._connecting.cancel()
                await self._peer.close()
        except TimeoutError:
            log.warning("browser's transports did not close in time")
        finally:
            self._wire.stop()
            self._peer.connection.abort()

    async def _say_goodbye(self) -> None:
        """Close the data channel so that what was sent before still arrives."""
        channel = self._channel
        if self._peer.dtls.state != "connected" or channel is None or channel.readyState != "open":
            return
        closed = asyncio.Event()
        channel.on("close", closed.set)
        channel.close()
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await closed.wait()
        except TimeoutError:
            log.debug("browser did not close its data channel")


class WebRtcLegs:
    """Answers offers. `plane` carries the audio; `ice_servers` are STUN and TURN URLs, the
    latter as `turn:user:secret@host:port`. `advertised_address` stands in the answer in place of
    our own; `loopback` offers 127.0.0.1 as well. Needs a running loop; raises ConfigError."""

    def __init__(
        self,
        *,
        plane: MediaPlane,
        ice_servers: Sequence[str] = (),
        advertised_address: str | None = None,
        loopback: bool = False,
        limits: Limits | None = None,
    ) -> None:
        check_libraries()
        # At INFO aioice tells every address it tries.
        logging.getLogger("aioice").setLevel(logging.WARNING)
        self._plane = plane
        self._ice_servers = [_ice_server(url) for url in ice_servers]
        self._wildcard = _wildcard(advertised_address)
        self._advertised_address = advertised_address
        self._loopback = loopback
        self._limits = limits or Limits()
        self._tasks = TaskOwner("webrtc")
        self._legs: set[WebRtcLeg] = set()

    async def offer(self, sdp: str) -> tuple[WebRtcLeg, str]:
        """The leg and the SDP answer, all candidates in it. Raises SdpError, PayloadTooLarge,
        OverloadedError."""
        offer = read_offer(sdp)
        peer = PeerTransport(
            ice_servers=self._ice_servers,
            loopback=self._loopback,
            wildcard=self._wildcard,
            limits=self._limits,
        )
        with ExitStack() as undo:
            undo.callback(peer.connection.abort)
            await peer.gatherer.gather()
            undo.pop_all()
        leg = WebRtcLeg(
            offer=offer, peer=peer, plane=self._plane, tasks=self._tasks, limits=self._limits
        )
        answer = write_answer(
            offer,
            Local(
                ice=peer.gatherer.getLocalParameters(),
                fingerprint=peer.dtls.getLocalParameters().fingerprints[0],
                candidates=tuple(map(self._advertised, peer.gatherer.getLocalCandidates())),
                ssrc=leg.ssrc,
                cname=leg.cname,
                session_id=secrets.randbits(62),
            ),
        )
        self._legs = {other for other in self._legs if other.ended is None} | {leg}
        leg.start()
        return leg, answer

    def _advertised(self, candidate: RTCIceCandidate) -> RTCIceCandidate:
        if self._advertised_address is None:
            return candidate
        if candidate.type == "host":
            return dataclasses.replace(candidate, ip=self._advertised_address)
        return dataclasses.replace(candidate, relatedAddress=self._advertised_address)

    async def close(self) -> None:
        """Hang up all legs and end every task."""
        await asyncio.gather(*(leg.hangup() for leg in self._legs))
        self._legs.clear()
        await self._tasks.close()


def _wildcard(advertised: str | None) -> str | None:
    """Where to listen: on each address of the machine (None), or behind an advertised one."""
    if advertised is None:
        return None
    try:
        return "::" if ipaddress.ip_address(advertised).version == 6 else "0.0.0.0"
    except ValueError as error:
        raise ConfigError(
            "webrtc.advertised_address takes an IP address, such as 203.0.113.7",
            param="webrtc.advertised_address",
        ) from error


def _ice_server(url: str) -> RTCIceServer:
    server = RTCIceServer(urls=url)
    if match := _CREDENTIALS.fullmatch(url):
        server = RTCIceServer(
            urls=f"{match['scheme']}:{match['rest']}",
            username=match["user"],
            credential=match["secret"],
        )
    try:
        parse_stun_turn_uri(str(server.urls))
    except ValueError as error:
        raise ConfigError(
            "webrtc.ice_servers takes stun:host:port and turn:user:secret@host:port",
            param="webrtc.ice_servers",
        ) from error
    return server

"""Browsers as legs: one offer in, one answer out, then audio and the `oai-events` data channel."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Literal

from aiortc import InvalidStateError, RTCDataChannel

from bridge.legs import one_way
from bridge.legs.base import LegListener, LegResult, MediaSecurity
from bridge.legs.webrtc_ice import Dropped, Limits
from bridge.legs.webrtc_line import GuardedLine, Line
from bridge.legs.webrtc_path import Lost, Paths
from bridge.legs.webrtc_public import PublicLine
from bridge.legs.webrtc_rungs import Rung
from bridge.legs.webrtc_sdp import MAX_MESSAGE_BYTES, Offer, read_offer, write_answer
from bridge.legs.webrtc_servers import IceServer
from bridge.media.outbound import BITRATE, OpusTerms
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.transport import RtpPoller
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

CHANNEL_LABEL = "oai-events"

# Ends of which the browser knows.
GONE = frozenset(("remote_hangup", "connection_lost"))

# The farewell: how long the last messages may take to be acknowledged, and all of it together.
DRAIN_TIMEOUT_S = 0.5
CLOSE_TIMEOUT_S = 2.0


class WebRtcLeg:
    """A browser on the line. Made by `WebRtcLegs.offer`, connecting from then on."""

    kind: Literal["sip", "webrtc"] = "webrtc"
    direction: Literal["inbound", "outbound"] = "inbound"

    def __init__(
        self,
        *,
        line: Line,
        plane: MediaPlane,
        poller: RtpPoller | None,
        tasks: TaskOwner,
        limits: Limits,
    ) -> None:
        self.listener: LegListener | None = None
        self.result: LegResult | None = None
        self.ended: str | None = None
        self._offer = offer = line.offer
        self._line = line
        self._plane = plane
        self._poller = poller
        self._tasks = tasks
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._wire = line.wire
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
        # Every browser repairs.
        self._stream.opus = OpusTerms(repairs=True, bitrate=offer.bitrate or BITRATE)
        self._channel: RTCDataChannel | None = None
        self._unsent: deque[str] = deque()
        self._unsent_bytes = 0
        self._connecting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

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
        return self._line.dropped

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
        self._line.on_lost = self._lost
        self._line.on_channel = self._channel_opened
        self._connecting = self._tasks.spawn(self._connect(), name="connect")

    async def _connect(self) -> None:
        if not await self._line.connect():
            self._end("connection_lost")
        elif self.ended is None:
            await self._connected()

    async def _connected(self) -> None:
        offer = self._offer
        self._wire.feed(self._stream, listens=offer.direction in ("sendrecv", "recvonly"))
        self._plane.add(self._stream)
        self._line.poll_by(self._poller)
        self._loop.call_soon(self._tell_answered)
        if offer.direction in ("sendrecv", "recvonly"):
            unheard_s = self._limits.unheard_s
            self._patience = self._loop.call_later(unheard_s, self._look_for_one_way)
        if offer.data is not None:
            await self._line.open_channel()

    def _lost(self, why: Lost) -> None:
        self._end(why)

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

    def _look_for_one_way(self) -> None:
        silent = self.ended is None and self._stream.last_received_at is None
        if silent and self.listener is not None:
            self.listener.leg_finding(one_way.ONE_WAY, one_way.NO_MICROPHONE)

    def _tell_message(self, text: str) -> None:
        if self.listener is not None:
            self.listener.leg_message(text)

    def _tell_digit(self, digit: str) -> None:
        if self.listener is not None:
            self.listener.leg_digit(digit)

    def _tell_ended(self) -> None:
        if self.listener is not None and self.ended is not None:
            self.listener.leg_ended(self.ended)
            self.listener = None

    def _end(self, reason: str) -> None:
        if self.ended is not None:
            return
        self.ended = reason
        self._unsent.clear()
        if self._patience is not None:
            self._patience.cancel()
        # The clock may rest from now on, and a farewell is still to be heard.
        self._line.poll_by(None)
        self._plane.remove(self._stream)
        self._loop.call_soon(self._tell_ended)
        self._closing = self._tasks.spawn(self._close(), name="close")

    async def _close(self) -> None:
        try:
            await self._say_goodbye()
        finally:
            if self._connecting is not None:
                self._connecting.cancel()
            if self.ended in GONE or not self._line.connected:
                await self._line.close()
            else:
                await self._line.leave()
                self._tasks.spawn(self._line.linger(), name="linger")
            if self._channel is not None:
                self._channel.remove_all_listeners()

    async def _say_goodbye(self) -> None:
        """Close the data channel so that what was sent before still arrives."""
        channel = self._channel
        if not self._line.connected or channel is None or channel.readyState != "open":
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
    """Answers offers. `plane` carries the audio, by the way that `rung` is; `poller` reads it when
    the media clock says so, the event loop if there is none. The rest is as for `Paths`. Raises
    ConfigError."""

    def __init__(
        self,
        *,
        plane: MediaPlane,
        poller: RtpPoller | None = None,
        ice_servers: Sequence[IceServer | str] = (),
        advertised_address: str | None = None,
        loopback: bool = False,
        limits: Limits | None = None,
        rung: Rung = Rung.DIRECT,
    ) -> None:
        self._paths = Paths(
            ice_servers=ice_servers,
            advertised_address=advertised_address,
            loopback=loopback,
            limits=limits,
            direct=rung is Rung.DIRECT,
        )
        self._rung = rung
        self._plane = plane
        self._poller = poller
        self._tasks = TaskOwner("webrtc")
        self._legs: set[WebRtcLeg] = set()

    async def offer(self, sdp: str) -> tuple[WebRtcLeg, str]:
        """The leg and the SDP answer, all candidates in it. Raises SdpError, PayloadTooLarge,
        OverloadedError."""
        line = await self._open(read_offer(sdp))
        leg = WebRtcLeg(
            line=line,
            plane=self._plane,
            poller=self._poller,
            tasks=self._tasks,
            limits=self._paths.limits,
        )
        local = line.local(ssrc=leg.ssrc, cname=leg.cname, session_id=secrets.randbits(62))
        answer = write_answer(line.offer, local)
        self._legs = {other for other in self._legs if other.ended is None} | {leg}
        leg.start()
        return leg, answer

    async def _open(self, offer: Offer) -> Line:
        paths = self._paths
        if self._rung is not Rung.PUBLIC:
            return GuardedLine(offer, await paths.open())
        return await PublicLine.open(
            offer, paths.ice_servers(), advertised=paths.advertised_address, limits=paths.limits
        )

    async def close(self) -> None:
        """Hang up all legs and end every task."""
        await asyncio.gather(*(leg.hangup() for leg in self._legs))
        self._legs.clear()
        await self._tasks.close()

"""Calls by what aiortc documents, and nothing else: for releases of it that nobody has tested.

Sound is decoded by aiortc, and coded again for the media plane; what the plane sends goes out as
it is. That costs several times as much, 80 ms, and losses are not mended. Keys are not heard, and
strangers who know the ports can end a call.
"""

import asyncio
import fractions
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.sdp import SessionDescription
from av import Packet

from bridge.audio import codecs, g711
from bridge.audio.codecs import Codec
from bridge.audio.frames import Pcm
from bridge.audio.opus import OpusEncoder, OpusError
from bridge.errors import OverloadedError
from bridge.legs.webrtc_ice import Dropped, Limits
from bridge.legs.webrtc_path import Lost, as_advertised
from bridge.legs.webrtc_sdp import Local, Offer, write_plain_offer
from bridge.media.stream import AudioStream
from bridge.rtp.packet import HEADER_LENGTH, RtpPacket
from bridge.rtp.sequence import timestamp_delta
from bridge.rtp.transport import RtpPoller
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

MAX_WAITING = 10
"""Packets that aiortc has not fetched: it fetches none before it is connected."""


class Mouth(MediaStreamTrack):
    """What aiortc sends: packets of one codec, as they are."""

    kind = "audio"

    def __init__(self, clock_rate: int) -> None:
        super().__init__()
        self._time_base = fractions.Fraction(1, clock_rate)
        self._packets: asyncio.Queue[Packet[Any]] = asyncio.Queue(MAX_WAITING)
        self._timestamp: int | None = None
        self._pts = 0

    async def recv(self) -> Any:
        return await self._packets.get()

    def say(self, timestamp: int, payload: bytes) -> None:
        if self._timestamp is not None:
            self._pts += timestamp_delta(timestamp, self._timestamp)
        self._timestamp = timestamp
        if not self._packets.full():
            packet = Packet(payload)
            packet.pts, packet.time_base = self._pts, self._time_base
            self._packets.put_nowait(packet)


class TrackWire:
    """RTP on our side, tracks of aiortc on the other; its RTCP is aiortc's own."""

    def __init__(self, codec: Codec, payload_type: int) -> None:
        self.sends = True
        self.mouth = Mouth(codec.clock_rate)
        self._codec = codec
        self._payload_type = payload_type
        self._stream: AudioStream | None = None
        self._listens = False
        self._ssrc = secrets.randbits(32)
        self._sequence_number = 0
        self._encoder = OpusEncoder(48_000, bitrate=64_000) if codec is codecs.OPUS else None

    def feed(self, stream: AudioStream, *, listens: bool) -> None:
        self._stream, self._listens = stream, listens

    def stop(self) -> None:
        self._stream = None
        self.sends = False
        if self._encoder is not None:
            self._encoder.close()

    def send(self, data: bytes, /) -> None:
        # Keys are sent as another payload type, for which there is no track.
        if self.sends and data[1] & 0x7F == self._payload_type:
            self.mouth.say(int.from_bytes(data[4:8]), data[HEADER_LENGTH:])

    def send_rtcp(self, data: bytes, /) -> None: ...

    async def hear(self, track: MediaStreamTrack) -> None:
        """Until it ends. It is always read: aiortc keeps what is not."""
        while True:
            try:
                frame: Any = await track.recv()
            except MediaStreamError:
                return
            if self._stream is None or not self._listens:
                continue
            pcm: Pcm = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
            try:
                payload = self._encode(pcm.mean(axis=1).astype(np.int16))
            except OpusError:
                log.debug("no Opus frame of that length", extra={"samples": len(pcm)})
                continue
            self._sequence_number = (self._sequence_number + 1) & 0xFFFF
            packet = RtpPacket(
                self._payload_type,
                False,
                self._sequence_number,
                frame.pts & 0xFFFF_FFFF,
                self._ssrc,
                payload,
            )
            self._stream.receive_rtp(bytes(packet), asyncio.get_running_loop().time())

    def _encode(self, pcm: Pcm) -> bytes:
        if self._encoder is not None:
            return self._encoder.encode(pcm)
        encode = g711.ulaw_encode if self._codec is codecs.PCMU else g711.alaw_encode
        return encode(pcm).tobytes()


class PublicLine:
    """One RTCPeerConnection. Made by `open`."""

    def __init__(
        self, offer: Offer, ice_servers: Sequence[RTCIceServer], advertised: str | None
    ) -> None:
        # Only sound: aiortc knows no keys.
        self.offer = replace(offer, telephone_event=None)
        self.on_lost: Callable[[Lost], None] | None = None
        self.on_channel: Callable[[RTCDataChannel], None] | None = None
        self.wire = TrackWire(offer.codec, offer.payload_type)
        self.dropped = Dropped()
        self._advertised = advertised
        self._tasks = TaskOwner("webrtc track")
        self._settled = asyncio.Event()
        self._limits = Limits()
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=list(ice_servers)))
        self._pc.on("connectionstatechange", self._state_changed)
        self._pc.on("track", self._heard)
        self._pc.on("datachannel", self._channel_opened)

    @classmethod
    async def open(
        cls,
        offer: Offer,
        ice_servers: Sequence[RTCIceServer] = (),
        *,
        advertised: str | None = None,
        limits: Limits | None = None,
    ) -> "PublicLine":
        """Raises OverloadedError."""
        line = cls(offer, ice_servers, advertised)
        line._limits = limits or line._limits
        pc = line._pc
        pc.addTrack(line.wire.mouth)
        await pc.setRemoteDescription(RTCSessionDescription(write_plain_offer(offer), "offer"))
        await pc.setLocalDescription(await pc.createAnswer())
        if not line._described.media[0].ice_candidates:
            await pc.close()
            raise OverloadedError("no UDP socket for a call")
        return line

    @property
    def _described(self) -> SessionDescription:
        return SessionDescription.parse(self._pc.localDescription.sdp)

    @property
    def connected(self) -> bool:
        return bool(self._pc.connectionState == "connected")

    def local(self, *, ssrc: int, cname: str, session_id: int) -> Local:
        audio = self._described.media[0]
        if audio.ssrc:
            ssrc, cname = audio.ssrc[0].ssrc, audio.ssrc[0].cname or cname
        assert audio.ice is not None
        assert audio.dtls is not None
        prints = {each.algorithm: each for each in audio.dtls.fingerprints}
        return Local(
            ice=audio.ice,
            fingerprint=prints["sha-256"],
            candidates=tuple(as_advertised(c, self._advertised) for c in audio.ice_candidates),
            ssrc=ssrc,
            cname=cname,
            session_id=session_id,
        )

    async def connect(self) -> bool:
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                await self._settled.wait()
        except TimeoutError:
            log.info("no media path in time")
        return self.connected

    async def open_channel(self) -> None:
        """aiortc has opened it."""

    def poll_by(self, poller: RtpPoller | None) -> None:
        """The sockets are aiortc's, which reads them by itself."""

    async def close(self) -> None:
        self.wire.stop()
        try:
            async with asyncio.timeout(self._limits.close_timeout_s):
                await self._pc.close()
        except TimeoutError:
            log.warning("media path did not close in time")
        await self._tasks.close()
        self.on_lost = self.on_channel = None

    async def leave(self) -> None:
        await self.close()

    async def linger(self) -> None:
        """aiortc has closed the sockets."""

    def _state_changed(self) -> None:
        state = self._pc.connectionState
        if state in ("connected", "failed", "closed"):
            self._settled.set()
        if state in ("failed", "closed") and self.on_lost is not None:
            self.on_lost("remote_hangup" if state == "closed" else "connection_lost")

    def _heard(self, track: MediaStreamTrack) -> None:
        self._tasks.spawn(self.wire.hear(track), name="hear")

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if self.on_channel is not None:
            self.on_channel(channel)

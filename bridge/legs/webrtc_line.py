"""What lies between a leg and its browser: an answer to the offer, audio, a data channel."""

from collections.abc import Callable
from typing import Protocol

from aiortc import RTCDataChannel
from aiortc.rtcsctptransport import RTCSctpCapabilities

from bridge.legs.webrtc_ice import Dropped
from bridge.legs.webrtc_media import PathWire
from bridge.legs.webrtc_path import Lost, MediaPath, Remote
from bridge.legs.webrtc_sdp import Local, Offer
from bridge.rtp.transport import RtpPoller


class Line(Protocol):
    """Connects once it is answered; tells `on_lost` whatever ends it, `close` among that."""

    offer: Offer
    """As far as it is taken up."""
    on_lost: Callable[[Lost], None] | None
    on_channel: Callable[[RTCDataChannel], None] | None

    @property
    def wire(self) -> PathWire: ...

    @property
    def dropped(self) -> Dropped: ...

    @property
    def connected(self) -> bool: ...

    def local(self, *, ssrc: int, cname: str, session_id: int) -> Local:
        """For the answer. `ssrc` and `cname` are told if they are what is sent."""

    async def connect(self) -> bool:
        """Whether it did in time."""

    async def open_channel(self) -> None:
        """Let the browser open its own, once connected."""

    def poll_by(self, poller: RtpPoller | None) -> None:
        """Who reads from now on what comes: the media clock, or (None) the event loop."""

    async def close(self) -> None:
        """Tell the other side and free the sockets."""

    async def leave(self) -> None:
        """Tell the other side. `linger` is next."""

    async def linger(self) -> None:
        """Free the sockets when the other side has seen it."""


class GuardedLine:
    """Over a `MediaPath`."""

    def __init__(self, offer: Offer, path: MediaPath) -> None:
        self.offer = offer
        self.path = path
        self.on_lost: Callable[[Lost], None] | None = None
        self.on_channel: Callable[[RTCDataChannel], None] | None = None
        path.on_lost = self._lost
        path.peer.sctp.on("datachannel", self._channel_opened)

    @property
    def wire(self) -> PathWire:
        return self.path.wire

    @property
    def dropped(self) -> Dropped:
        return self.path.peer.connection.dropped

    @property
    def connected(self) -> bool:
        return self.path.connected

    def local(self, *, ssrc: int, cname: str, session_id: int) -> Local:
        path = self.path
        return Local(
            ice=path.ice,
            fingerprint=path.fingerprint,
            candidates=path.candidates,
            ssrc=ssrc,
            cname=cname,
            session_id=session_id,
        )

    async def connect(self) -> bool:
        offer = self.offer
        fingerprints = tuple(offer.dtls.fingerprints)
        return await self.path.connect(
            Remote(offer.ice, fingerprints, offer.candidates, offer.setup)
        )

    async def open_channel(self) -> None:
        capabilities = RTCSctpCapabilities(maxMessageSize=self.offer.max_message_bytes)
        await self.path.peer.sctp.start(capabilities, self.offer.sctp_port)

    def poll_by(self, poller: RtpPoller | None) -> None:
        self.path.peer.connection.poll_by(poller)

    async def close(self) -> None:
        await self.path.close()
        self.on_lost = self.on_channel = None

    async def leave(self) -> None:
        self.on_lost = self.on_channel = None
        await self.path.leave()

    async def linger(self) -> None:
        await self.path.linger()

    def _lost(self, why: Lost) -> None:
        if self.on_lost is not None:
            self.on_lost(why)

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if self.on_channel is not None:
            self.on_channel(channel)

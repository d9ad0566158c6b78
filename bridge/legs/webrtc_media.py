"""The wire of a browser's audio: SRTP under the keys of its DTLS, over the nominated ICE pair.

aiortc's sender and receiver are not involved: they cost two thread hops, a thread and a loop over
the samples in Python per call. Packets are built and read by the media plane.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import pylibsrtp
from aiortc import RTCDtlsTransport

from bridge.legs.webrtc_guard import OpenDtls
from bridge.legs.webrtc_ice import GuardedConnection
from bridge.media.stream import AudioStream
from bridge.tasks import TaskOwner

# Fixed header of RTP; RTCP's shortest packet is 8 bytes, its SRTCP trailer is longer than 4.
MIN_PACKET_BYTES = 12


class PathWire(Protocol):
    """A `Wire` that also hears. Drops while there is no path."""

    sends: bool

    def feed(self, stream: AudioStream, *, listens: bool) -> None:
        """From now on what comes in goes to `stream`; nothing but RTCP when it must not listen."""

    def stop(self) -> None: ...

    def send(self, data: bytes, /) -> None: ...

    def send_rtcp(self, data: bytes, /) -> None: ...


class SrtpWire:
    """Sends at once, from the caller's own stack, by aiortc's own SRTP sessions."""

    def __init__(self, connection: GuardedConnection, dtls: RTCDtlsTransport) -> None:
        self._connection = connection
        self._dtls = dtls
        self._stream: AudioStream | None = None
        self._clock = asyncio.get_running_loop().time
        self._listens = False
        self.sends = True
        self.unsent = 0

    def feed(self, stream: AudioStream, *, listens: bool) -> None:
        self._stream = stream
        self._listens = listens
        self._connection.on_media = self._receive

    def stop(self) -> None:
        self._stream = None
        self.sends = False
        self._connection.on_media = _nobody

    def send(self, data: bytes, /) -> None:
        session = self._dtls._tx_srtp
        if self.sends and session is not None:
            self._send(session.protect, data)

    def send_rtcp(self, data: bytes, /) -> None:
        session = self._dtls._tx_srtp
        if self._stream is not None and session is not None:
            self._send(session.protect_rtcp, data)

    def _send(self, protect: Callable[[bytes], bytes], data: bytes) -> None:
        try:
            sent = self._connection.send_now(protect(data))
        except (pylibsrtp.Error, ValueError):
            sent = False
        self.unsent += not sent

    def _receive(self, data: bytes) -> None:
        stream = self._stream
        session = self._dtls._rx_srtp
        if stream is None or session is None:
            self._connection.dropped.early += 1
            return
        if len(data) < MIN_PACKET_BYTES:
            self._connection.dropped.srtp += 1
            return
        # RFC 5761 section 4: 64-95 with the marker bit are RTCP packet types.
        rtcp = 192 <= data[1] <= 223
        try:
            plain: bytes = session.unprotect_rtcp(data) if rtcp else session.unprotect(data)
        except (pylibsrtp.Error, ValueError):
            self._connection.dropped.srtp += 1
            return
        now = self._connection.heard_at = self._clock()
        if rtcp:
            stream.receive_rtcp(plain, now)
        elif self._listens:
            stream.receive_rtp(plain, now)


class DtlsWire:
    """Has aiortc encrypt and decrypt, a task for each packet: for a release that keeps its SRTP
    sessions where nobody has looked."""

    def __init__(self, connection: GuardedConnection, dtls: OpenDtls) -> None:
        self._connection = connection
        self._dtls = dtls
        self._stream: AudioStream | None = None
        self._clock = asyncio.get_running_loop().time
        self._listens = False
        self._tasks = TaskOwner("webrtc wire")
        self.sends = True
        connection.on_media = self._decrypt

    def feed(self, stream: AudioStream, *, listens: bool) -> None:
        self._stream = stream
        self._listens = listens
        self._dtls.on_rtp = self._receive_rtp
        self._dtls.on_rtcp = self._receive_rtcp

    def stop(self) -> None:
        self._stream = None
        self.sends = False
        self._connection.on_media = _nobody
        self._dtls.on_rtp = self._dtls.on_rtcp = _nobody

    def send(self, data: bytes, /) -> None:
        if self.sends:
            self._tasks.spawn(self._send(data), name="send")

    def send_rtcp(self, data: bytes, /) -> None:
        if self._stream is not None:
            self._tasks.spawn(self._send(data), name="send")

    async def _send(self, data: bytes) -> None:
        if self._dtls.state == "connected":
            await self._dtls.send_rtp(data)

    def _decrypt(self, data: bytes) -> None:
        self._connection.data_received(data, 1)

    def _receive_rtp(self, data: bytes) -> None:
        self._connection.heard()
        if self._stream is not None and self._listens:
            self._stream.receive_rtp(data, self._clock())

    def _receive_rtcp(self, data: bytes) -> None:
        self._connection.heard()
        if self._stream is not None:
            self._stream.receive_rtcp(data, self._clock())


def _nobody(_: bytes) -> None: ...

"""What stands between the network and aiortc: ICE, DTLS and SCTP that a stranger's packet cannot
harm.

aiortc and aioice have no public place for that, nor for packets that bypass RTCRtpSender: see
`webrtc_rungs` for what is done where their private ones are others.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache

from aiortc import (
    RTCCertificate,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceServer,
    RTCIceTransport,
    RTCSctpTransport,
)
from aiortc.rtcdtlstransport import SRTPProtectionProfile
from aiortc.rtcicetransport import connection_kwargs
from aiortc.rtcsctptransport import Chunk, DataChunk
from OpenSSL import SSL

from bridge.ids import random_base62
from bridge.legs.webrtc_ice import Dropped, GuardedConnection, Limits

log = logging.getLogger(__name__)

# A browser opens one data channel.
MAX_SCTP_STREAMS = 16

# Forward secrecy whatever the certificate; the order of RFC 8827 section 6.5, GCM first.
CIPHERS = b":".join(
    b"ECDHE-%s-%s" % (kind, cipher)
    for cipher in (b"AES128-GCM-SHA256", b"CHACHA20-POLY1305", b"AES128-SHA", b"AES256-SHA")
    for kind in (b"ECDSA", b"RSA")
)


CERTIFICATE_LASTS_S = 24 * 3600.0


class GuardedSctp(RTCSctpTransport):
    """SCTP that drops what aiortc would die of, and holds the sender to its window."""

    def __init__(self, transport: RTCDtlsTransport, dropped: Dropped) -> None:
        super().__init__(transport)
        self._dropped = dropped

    async def _handle_data(self, data: bytes) -> None:
        try:
            await super()._handle_data(data)
        except (
            AssertionError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
            struct.error,
        ) as error:
            self._dropped.sctp += 1
            log.debug("bad SCTP packet dropped", extra={"error": repr(error)})

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        known = chunk.stream_id in self._inbound_streams
        if len(chunk.user_data) > self._advertised_rwnd or (
            not known and len(self._inbound_streams) >= MAX_SCTP_STREAMS
        ):
            self._dropped.sctp += 1
            return
        await super()._receive_data_chunk(chunk)

    async def _send_chunk(self, chunk: Chunk) -> None:
        # aiortc sends from tasks that nobody awaits; that the peer is gone is told by DTLS.
        try:
            await super()._send_chunk(chunk)
        except ConnectionError:
            log.debug("SCTP chunk for a peer that is gone")


class Certificate(RTCCertificate):
    """As aiortc's own, and at ease with peers that show one of RSA: telephones do. For any number
    of calls."""

    _context: SSL.Context | None = None

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
            self._context.set_cipher_list(CIPHERS)
            # Nobody calls again with the keys of before, and they would be kept for that.
            self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return self._context


@lru_cache(maxsize=1)
def _certificate(_: int) -> Certificate:
    """To make one for each call is a tenth of the work of setting it up."""
    return Certificate.generateCertificate()


class OpenDtls(RTCDtlsTransport):
    """Hands out RTP and RTCP, decrypted, in place of aiortc's parsers and receivers."""

    def __init__(self, transport: RTCIceTransport, certificates: list[RTCCertificate]) -> None:
        super().__init__(transport, certificates)
        self.on_rtp: Callable[[bytes], None] = _nobody
        self.on_rtcp: Callable[[bytes], None] = _nobody

    async def send_rtp(self, data: bytes) -> None:
        """RTCP as well; not before it is connected."""
        try:
            await self._send_rtp(data)
        except ConnectionError:
            log.debug("packet for a peer that is gone")

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        self.on_rtp(data)

    async def _handle_rtcp_data(self, data: bytes) -> None:
        self.on_rtcp(data)


class PeerTransport:
    """ICE, DTLS and SCTP of one call, one above the other."""

    def __init__(
        self,
        *,
        ice_servers: Sequence[RTCIceServer] = (),
        loopback: bool = False,
        wildcard: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        servers = list(ice_servers)
        # aioice is slow to draw such names, and would do so twice.
        name, password = random_base62(4), random_base62(22)
        gatherer = RTCIceGatherer(servers, local_username=name, local_password=password)
        self.connection = GuardedConnection(
            loopback=loopback,
            wildcard=wildcard,
            limits=limits or Limits(),
            local_username=name,
            local_password=password,
            **connection_kwargs(servers),
        )
        gatherer._connection = self.connection
        self.gatherer = gatherer
        self.ice = RTCIceTransport(gatherer)
        day = int(asyncio.get_running_loop().time() / CERTIFICATE_LASTS_S)
        self.dtls = OpenDtls(self.ice, [_certificate(day)])
        self.sctp = GuardedSctp(self.dtls, self.connection.dropped)

    async def farewell(self) -> None:
        """SCTP ABORT, DTLS close_notify: in the order in which a browser notices."""
        await self.sctp.stop()
        await self.dtls.stop()

    async def close(self) -> None:
        """The farewell, if it was not said yet, and the sockets."""
        await self.farewell()
        await self.ice.stop()

    def abort(self) -> None:
        """Close the sockets, and part what refers to each other: collections are rare."""
        self.connection.abort()
        self.sctp._data_channels.clear()
        for emitter in (self.dtls, self.ice, self.sctp):
            emitter.remove_all_listeners()


def _nobody(_: bytes) -> None: ...

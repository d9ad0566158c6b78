"""What stands between the network and aiortc: ICE, DTLS and SCTP that a stranger's packet cannot
harm.

aiortc and aioice have no public place for that, nor for packets that bypass RTCRtpSender. All
private names of theirs that are used anywhere are in `PRIVATE_NAMES`; `check_libraries` refuses
to start with a release in which one is missing or that nobody has tested.
"""

import importlib.metadata
import logging
import struct
from collections.abc import Mapping, Sequence

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

from bridge.errors import ConfigError
from bridge.legs.webrtc_ice import Dropped, GuardedConnection, GuardedProtocol, Limits

log = logging.getLogger(__name__)

# A browser opens one data channel.
MAX_SCTP_STREAMS = 16

# Forward secrecy whatever the certificate; the order of RFC 8827 section 6.5, GCM first.
CIPHERS = b":".join(
    b"ECDHE-%s-%s" % (kind, cipher)
    for cipher in (b"AES128-GCM-SHA256", b"CHACHA20-POLY1305", b"AES128-SHA", b"AES256-SHA")
    for kind in (b"ECDSA", b"RSA")
)

TESTED_RELEASES = {"aiortc": "1.16", "aioice": "0.13"}

_OF_CONNECTION = """
    _nominated _nominating _check_list _check_list_done _check_list_state _early_checks
    _early_checks_done _local_username _local_password _remote_candidates _protocols _queue
    _closed _closing _emit_event _query_consent_task check_state check_incoming query_consent
    get_component_candidates data_received request_received build_request
"""
PRIVATE_NAMES: dict[str, tuple[str, ...]] = {
    "Connection": tuple(_OF_CONNECTION.split()),
    "StunProtocol": ("transactions", "datagram_received", "request", "send_stun"),
    "RTCIceGatherer": ("_connection",),
    "RTCIceTransport": ("_connection",),
    "RTCDtlsTransport": ("_rx_srtp", "_tx_srtp", "_set_role"),
    "RTCCertificate": ("_create_ssl_context",),
    "RTCSctpTransport": (
        "_handle_data",
        "_receive_data_chunk",
        "_send_chunk",
        "_advertised_rwnd",
        "_inbound_streams",
        "_data_channels",
    ),
}


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
    """As aiortc's own, and at ease with peers that show one of RSA: telephones do."""

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(CIPHERS)
        return context


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
        gatherer = RTCIceGatherer(iceServers=servers)
        self.connection = GuardedConnection(
            loopback=loopback,
            wildcard=wildcard,
            limits=limits or Limits(),
            **connection_kwargs(servers),
        )
        gatherer._connection = self.connection
        self.gatherer = gatherer
        self.ice = RTCIceTransport(gatherer)
        self.dtls = RTCDtlsTransport(self.ice, [Certificate.generateCertificate()])
        self.sctp = GuardedSctp(self.dtls, self.connection.dropped)

    async def close(self) -> None:
        """SCTP ABORT, DTLS close_notify, sockets: in the order in which a browser notices."""
        await self.sctp.stop()
        await self.dtls.stop()
        await self.ice.stop()

    def abort(self) -> None:
        """Close the sockets, and part what refers to each other: collections are rare."""
        self.connection.abort()
        self.sctp._data_channels.clear()
        for emitter in (self.dtls, self.ice, self.sctp):
            emitter.remove_all_listeners()


def check_libraries(
    releases: Mapping[str, str] = TESTED_RELEASES,
    private_names: Mapping[str, Sequence[str]] = PRIVATE_NAMES,
) -> None:
    """Raises ConfigError unless aiortc and aioice are what this was made for. Needs a loop."""
    for name, tested in releases.items():
        found = importlib.metadata.version(name)
        if found.split(".")[:2] != tested.split("."):
            raise ConfigError(
                f"WebRTC needs {name} {tested}, found {found}: pip install '{name}~={tested}.0'"
            )
    peer = PeerTransport()
    targets: dict[str, object] = {
        "Connection": peer.connection,
        "StunProtocol": GuardedProtocol(peer.connection),
        "RTCIceGatherer": peer.gatherer,
        "RTCIceTransport": peer.ice,
        "RTCDtlsTransport": peer.dtls,
        "RTCCertificate": RTCCertificate,
        "RTCSctpTransport": peer.sctp,
    }
    missing = [
        f"{owner}.{name}"
        for owner, names in private_names.items()
        for name in names
        if not hasattr(targets[owner], name)
    ]
    if missing:
        raise ConfigError(
            f"this aiortc or aioice lacks {', '.join(missing)}: install the pinned one"
        )

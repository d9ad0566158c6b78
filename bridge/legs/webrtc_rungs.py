"""Which way media goes, decided at start by the aiortc that is installed.

aiortc has no public place for a guard, nor for packets that bypass its sender and receiver. All
private names of it and of aioice that are used anywhere are here, and the releases in which CI
proves them. Another release has to show that it still works that way, by a call to itself; if it
does not, media goes a slower way that asks less of it.
"""

import asyncio
import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum

import aioice
import aiortc
from aioice.ice import StunProtocol
from aiortc.rtcsctptransport import RTCSctpCapabilities

from bridge.audio import codecs
from bridge.legs.webrtc_path import MediaPath, Paths, Remote
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket
from bridge.sdp.dtls import RemotePath, Setup

log = logging.getLogger(__name__)

TESTED_RELEASES = {"aiortc": "1.16", "aioice": "0.13"}

SELF_TEST_TIMEOUT_S = 3.0


class Rung(StrEnum):
    """The ways, the best first."""

    DIRECT = "direct"
    """Ours but for the keys: packets go through aiortc's SRTP sessions from the media clock."""
    DTLS = "dtls"
    """aiortc encrypts and decrypts; sockets are guarded, packets ours."""
    PUBLIC = "public"
    """What aiortc documents, and nothing else. Not for phones, which have ICE to restart."""


Names = Mapping[str, Sequence[str]]

_OF_CONNECTION = """
    _nominated _nominating _check_list _check_list_done _check_list_state _early_checks
    _early_checks_done _local_username _local_password _local_candidates _local_candidates_end
    _remote_candidates _protocols _queue
    _closed _closing _emit_event _query_consent_task check_state check_incoming query_consent
    get_component_candidates data_received request_received build_request
"""
_GUARD: dict[str, Sequence[str]] = {
    "Connection": _OF_CONNECTION.split(),
    "StunProtocol": ("transactions", "datagram_received", "request", "send_stun"),
    "RTCIceGatherer": ("_connection",),
    "RTCIceTransport": ("_connection",),
    "RTCDtlsTransport": ("_set_role",),
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
PRIVATE_NAMES: Mapping[Rung, Names] = {
    Rung.DIRECT: _GUARD | {"RTCDtlsTransport": ("_set_role", "_rx_srtp", "_tx_srtp")},
    Rung.DTLS: _GUARD
    | {"RTCDtlsTransport": ("_set_role", "_send_rtp", "_handle_rtp_data", "_handle_rtcp_data")},
}


async def choose(
    releases: Mapping[str, str] = TESTED_RELEASES,
    private_names: Mapping[Rung, Names] = PRIVATE_NAMES,
) -> Rung:
    """The best that works. Anything but DIRECT is told in the log, with the reason."""
    found = {name: importlib.metadata.version(name) for name in releases}
    tested = all(found[name].split(".")[:2] == releases[name].split(".") for name in releases)
    for rung, names in private_names.items():
        why = ""
        if absent := missing(names):
            why = f"there is no {', '.join(absent)}"
        elif not tested:
            why = await fault(direct=rung is Rung.DIRECT)
        if not why:
            if rung is not Rung.DIRECT or not tested:
                log.warning("WebRTC by an untested aiortc", extra={"way": rung.value, **found})
            return rung
        log.warning("WebRTC goes a slower way", extra={"not": rung.value, "because": why, **found})
    log.warning("WebRTC by what aiortc documents: slower, and unguarded", extra=found)
    return Rung.PUBLIC


def missing(names: Names) -> list[str]:
    """Those that the libraries lack. Needs a running loop."""
    connection = aioice.Connection(ice_controlling=False)
    gatherer = aiortc.RTCIceGatherer([])
    ice = aiortc.RTCIceTransport(gatherer)
    dtls = aiortc.RTCDtlsTransport(ice, [aiortc.RTCCertificate.generateCertificate()])
    owners: dict[str, object] = {
        "Connection": connection,
        "StunProtocol": StunProtocol(connection),
        "RTCIceGatherer": gatherer,
        "RTCIceTransport": ice,
        "RTCDtlsTransport": dtls,
        "RTCCertificate": aiortc.RTCCertificate,
        "RTCSctpTransport": aiortc.RTCSctpTransport(dtls),
    }
    return [
        f"{owner}.{name}"
        for owner, each in names.items()
        for name in each
        if not hasattr(owners[owner], name)
    ]


async def fault(*, direct: bool) -> str:
    """What is wrong with a call to ourselves that goes this way, in words; "" for nothing."""
    try:
        async with asyncio.timeout(SELF_TEST_TIMEOUT_S):
            await _call_ourselves(direct=direct)
    except TimeoutError:
        return "a call to ourselves did not get through"
    # Whatever an unknown release raises where it is used in a way that it does not know.
    except (ArithmeticError, AssertionError, AttributeError, LookupError) as error:
        return repr(error)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        return repr(error)
    return ""


class _End:
    def __init__(self, path: MediaPath) -> None:
        self.path = path
        self.stream = AudioStream(codecs.PCMU, payload_type=0, wire=path.wire, cname="self-test")
        self.heard = asyncio.Event()
        self.read = asyncio.Event()
        self.stream.on_arrived = lambda _: self.heard.set()
        path.peer.sctp.on("datachannel", self._channel_opened)

    def _channel_opened(self, channel: aiortc.RTCDataChannel) -> None:
        channel.on("message", lambda _: self.read.set())

    def remote(self, setup: Setup) -> Remote:
        """As the other end has it; `setup` is the other's."""
        ours = self.path.local
        prints, candidates = (ours.fingerprint,), ours.candidates
        told = RemotePath(ours.username, ours.password, False, prints, setup, candidates)
        return Remote.of(told, controlling=setup == "passive")

    def say(self) -> None:
        packet = RtpPacket(0, False, 1, 160, self.stream.ssrc, bytes(160))
        self.path.wire.send(bytes(packet))


async def _call_ourselves(*, direct: bool) -> None:
    paths = Paths(loopback=True, direct=direct)
    async with AsyncExitStack() as stack:
        ends = []
        for _ in range(2):
            path = await paths.open()
            stack.push_async_callback(path.close)
            ends.append(_End(path))
        one, two = ends
        connected = await asyncio.gather(
            one.path.connect(two.remote("active")), two.path.connect(one.remote("passive"))
        )
        if not all(connected):
            raise ConnectionError("no connection to ourselves")
        for end in ends:
            end.path.wire.feed(end.stream, listens=True)
        await asyncio.gather(
            *(end.path.peer.sctp.start(RTCSctpCapabilities(65536), 5000) for end in ends)
        )
        channel = aiortc.RTCDataChannel(
            one.path.peer.sctp, aiortc.RTCDataChannelParameters(label="self-test")
        )
        channel.on("open", lambda: channel.send("heard?"))
        for end in ends:
            end.say()
        for event in (one.heard, two.heard, two.read):
            await event.wait()

import asyncio
import os
import re
import socket
import struct

import pytest
from aioice import stun
from aiortc.rtcsctptransport import DataChunk, InitChunk, serialize_packet
from google_crc32c import value as crc32c

from bridge.legs import webrtc_guard, webrtc_ice
from bridge.legs.webrtc import WebRtcLeg, WebRtcLegs
from bridge.legs.webrtc_guard import GuardedSctp, PeerTransport
from bridge.legs.webrtc_ice import Dropped
from bridge.media.plane import MediaPlane
from tests.legs.webrtc_browser import Browser, Ear, tap

ROUNDS = 20

# DTLS 1.0 record, ClientHello with the NULL cipher alone: no handshake survives answering it.
CLIENT_HELLO = bytes.fromhex(
    "16feff00000000000000000036010000 2a000000000000002afefd".replace(" ", "")
    + "00" * 32
    + "0000000200000100"
)

CANDIDATE = re.compile(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host")


class Stranger:
    """Somebody on the network who saw the port numbers."""

    def __init__(self, answer: str) -> None:
        self._ports = {(host, int(port)) for host, port in CANDIDATE.findall(answer)}
        self._sockets = {
            family: socket.socket(family, socket.SOCK_DGRAM)
            for family in (socket.AF_INET, socket.AF_INET6)
        }
        for each in self._sockets.values():
            each.setblocking(False)

    def sends(self, *datagrams: bytes) -> None:
        for host, port in self._ports:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            for datagram in datagrams:
                self._sockets[family].sendto(datagram, (host, port))

    def was_answered(self) -> bool:
        for each in self._sockets.values():
            try:
                each.recv(2048)
            except BlockingIOError:
                continue
            return True
        return False

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()


async def still_talks(browser: Browser, leg: WebRtcLeg, ear: Ear) -> bool:
    """A round trip over the data channel, and the next packet of audio."""
    assert browser.channel is not None
    stream = leg.stream
    assert stream is not None
    arrived = asyncio.Event()
    tap(stream, lambda _data, _now: arrived.set())
    browser.channel.send("there?")
    assert await ear.hears() == ("message", "there?")
    leg.send_message("yes")
    assert await browser.message() == "yes"
    async with asyncio.timeout(5):
        await arrived.wait()
    return leg.ended is None


async def attacked_setup(legs: WebRtcLegs) -> Dropped:
    browser = Browser()
    leg, answer = await legs.offer(await browser.offer())
    ear = Ear()
    leg.listener = ear
    stranger = Stranger(answer)
    stranger.sends(CLIENT_HELLO, b"")
    told = asyncio.ensure_future(ear.hears())
    await browser.accept(answer)
    while not told.done():
        stranger.sends(CLIENT_HELLO, b"")
        await asyncio.wait({told}, timeout=0.005)
    assert told.result() == ("answered", "")
    async with asyncio.timeout(5):
        await browser.channel_open.wait()
    assert await still_talks(browser, leg, ear)
    stranger.close()
    await leg.hangup()
    await browser.close()
    return leg.dropped


def test_client_hellos_of_a_stranger_do_not_stop_a_call_from_connecting() -> None:
    async def main() -> None:
        legs = WebRtcLegs(plane=MediaPlane(), loopback=True)
        for _ in range(ROUNDS):
            dropped = await attacked_setup(legs)
            assert dropped.unvalidated > 0
            assert dropped.empty > 0
        await legs.close()

    asyncio.run(main())


def test_a_live_call_survives_empty_datagrams_garbage_and_bad_stun() -> None:
    async def main() -> None:
        legs = WebRtcLegs(plane=MediaPlane(), loopback=True)
        for _ in range(ROUNDS):
            browser = Browser()
            offer = await browser.offer()
            leg, answer = await legs.offer(offer)
            ear = Ear()
            leg.listener = ear
            await browser.accept(answer)
            assert await ear.hears() == ("answered", "")
            async with asyncio.timeout(5):
                await browser.channel_open.wait()
            stranger = Stranger(answer)
            stranger.sends(
                b"",
                CLIENT_HELLO,
                b"\x80\x6f" + os.urandom(170),
                b"\x80\xc8" + os.urandom(60),
                b"\x00\x01\x00\x00",
                struct.pack("!HHI12s", 1, 8, 0x2112A442, bytes(12)) + b"\x00\x24\x00\x02abcd",
                b"\xff" * 40,
            )
            assert await still_talks(browser, leg, ear)
            assert leg.dropped.empty > 0
            assert leg.dropped.unvalidated > 0
            assert leg.dropped.malformed_stun > 0
            stranger.close()
            await leg.hangup()
            await browser.close()
        await legs.close()

    asyncio.run(main())


def test_a_binding_request_without_the_password_gets_no_answer() -> None:
    async def main() -> None:
        legs = WebRtcLegs(plane=MediaPlane(), loopback=True)
        browser = Browser()
        leg, answer = await legs.offer(await browser.offer())
        ear = Ear()
        leg.listener = ear
        stranger = Stranger(answer)
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = re.findall(r"a=ice-ufrag:(\S+)", answer)[0] + ":x"
        request.attributes["PRIORITY"] = 1
        stranger.sends(bytes(request))
        request.add_message_integrity(b"not the password")
        stranger.sends(bytes(request))
        await browser.accept(answer)
        assert await ear.hears() == ("answered", "")
        assert leg.dropped.unauthenticated_stun >= 2
        assert not stranger.was_answered()
        stranger.close()
        await legs.close()
        await browser.close()

    asyncio.run(main())


def test_a_foreign_datagram_is_not_media_even_from_the_right_host() -> None:
    async def main() -> None:
        peer = PeerTransport(loopback=True)
        await peer.gatherer.gather()
        media: list[bytes] = []
        peer.connection.on_media = media.append
        protocol = peer.connection._protocols[0]
        protocol.datagram_received(b"\x80" + bytes(20), ("127.0.0.1", 4000))
        assert media == []
        assert peer.connection.dropped.unvalidated == 1
        await peer.close()

    asyncio.run(main())


@pytest.mark.parametrize(("knows", "heard"), [(True, 1), (False, 0)])
def test_media_of_a_pair_that_only_the_other_side_has_checked(*, knows: bool, heard: int) -> None:
    """Each side may settle on another pair of those that work: one check of ours may be given up,
    or lost, when its own came through."""

    async def main() -> None:
        peer = PeerTransport(loopback=True)
        await peer.gatherer.gather()
        connection = peer.connection
        media: list[bytes] = []
        connection.on_media = media.append
        check = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        check.attributes |= {"USERNAME": f"{connection.local_username}:x", "PRIORITY": 1}
        check.add_message_integrity((connection.local_password if knows else "wrong").encode())
        protocol = connection._protocols[-1]
        protocol.datagram_received(bytes(check), ("127.0.0.1", 4000))
        protocol.datagram_received(b"\x80" + bytes(20), ("127.0.0.1", 4000))
        assert len(media) == heard
        assert connection.dropped.unvalidated == 1 - heard
        await peer.close()

    asyncio.run(main())


def test_a_full_queue_of_dtls_drops_the_rest() -> None:
    async def main() -> None:
        peer = PeerTransport(loopback=True)
        for _ in range(webrtc_ice.MAX_QUEUED_DATAGRAMS + 5):
            peer.connection.data_received(b"\x16", 1)
        assert peer.connection.dropped.overflow == 5

    asyncio.run(main())


def test_sctp_drops_what_it_cannot_parse_and_what_is_beyond_its_window() -> None:
    async def main() -> None:
        peer = PeerTransport(loopback=True)
        sctp = peer.sctp
        assert isinstance(sctp, GuardedSctp)
        chunk = DataChunk()
        chunk.user_data = bytes(sctp._advertised_rwnd + 1)
        await sctp._receive_data_chunk(chunk)
        assert peer.connection.dropped.sctp == 1
        chunk = DataChunk()
        chunk.user_data = b"x"
        for stream_id in range(webrtc_guard.MAX_SCTP_STREAMS):
            sctp._get_inbound_stream(stream_id)
        chunk.stream_id = webrtc_guard.MAX_SCTP_STREAMS
        await sctp._receive_data_chunk(chunk)
        assert peer.connection.dropped.sctp == 2
        await sctp._handle_data(b"")
        # Two INITs in one packet: aiortc asserts that there is one.
        one = serialize_packet(5000, 5000, 0, InitChunk())
        body = one[12:] * 2
        header = one[:8]
        checksum = struct.pack("<I", crc32c(header + bytes(4) + body))
        await sctp._handle_data(header + checksum + body)
        assert peer.connection.dropped.sctp == 3

    asyncio.run(main())

import asyncio
import os
import re
import struct
from collections.abc import Awaitable, Callable

import pylibsrtp

from bridge.legs.webrtc import WebRtcLeg, WebRtcLegs
from bridge.legs.webrtc_guard import PeerTransport
from bridge.legs.webrtc_line import GuardedLine
from bridge.legs.webrtc_media import SrtpWire
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket
from tests.legs.webrtc_browser import Browser, Ear, tap

SSRC = re.compile(r"a=ssrc:(\d+) cname:(\S+)")


class Tap:
    """What reaches a stream."""

    def __init__(self, stream: AudioStream) -> None:
        self.rtp: list[bytes] = []
        self.rtcp: list[bytes] = []
        tap(
            stream,
            lambda data, _now: self.rtp.append(data),
            lambda data, _now: self.rtcp.append(data),
        )


def run(scene: Callable[[WebRtcLegs], Awaitable[None]]) -> None:
    async def main() -> None:
        legs = WebRtcLegs(plane=MediaPlane(), loopback=True)
        await scene(legs)
        await legs.close()

    asyncio.run(main())


def keys_of(leg: WebRtcLeg) -> tuple[PeerTransport, Tap]:
    assert leg.stream is not None
    assert isinstance(leg._line, GuardedLine)
    return leg._line.path.peer, Tap(leg.stream)


def test_a_wire_without_keys_sends_nothing_and_drops_what_comes() -> None:
    async def main() -> None:
        peer = PeerTransport()
        wire = SrtpWire(peer.connection, peer.dtls)
        wire.send(bytes(20))
        wire.send_rtcp(bytes(20))
        peer.connection.on_media(bytes(20))
        assert peer.connection.dropped.early == 1
        assert wire.unsent == 0

    asyncio.run(main())


def test_packets_leave_with_the_ssrc_of_the_answer() -> None:
    async def scene(legs: WebRtcLegs) -> None:
        browser = Browser()
        leg, answer = await legs.offer(await browser.offer())
        stream = leg.stream
        assert stream is not None
        match = SSRC.search(answer)
        assert match is not None
        assert (int(match[1]), match[2]) == (stream.ssrc, stream.cname)
        await browser.close()

    run(scene)


def test_srtp_that_fails_its_check_is_dropped_and_counted() -> None:
    async def scene(legs: WebRtcLegs) -> None:
        browser = Browser()
        leg, _ear = await browser.call(legs)
        peer, tap = keys_of(leg)
        heard = len(tap.rtp)
        for number in range(2000):
            peer.connection.on_media(struct.pack("!BBHII", 0x80, 96, number, 0, 7) + bytes(100))
            peer.connection.on_media(struct.pack("!BBHI", 0x80, 200, 6, 7) + bytes(30))
        peer.connection.on_media(b"\x80\x60")
        peer.connection.on_media(b"\x80\x60" + bytes(3000))
        assert leg.dropped.srtp == 4002
        assert (len(tap.rtp), tap.rtcp) == (heard, [])
        assert leg.ended is None
        await browser.close()

    run(scene)


def test_speech_goes_on_through_two_thousand_forged_packets() -> None:
    """Under another key, under none, and each genuine one again."""

    async def scene(legs: WebRtcLegs) -> None:
        browser = Browser()
        leg, _ear = await browser.call(legs)
        peer, tap = keys_of(leg)
        genuine: pylibsrtp.Session = browser.pc.getSenders()[0].transport._tx_srtp
        policy = pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        forger = pylibsrtp.Session(policy)
        said = []
        for number in range(500):
            plain = bytes(RtpPacket(96, False, number, number * 960, 99, b"opus"))
            packet = genuine.protect(plain)
            forged = bytes(RtpPacket(96, False, number, number * 960, 99, b"evil"))
            for data in (forger.protect(forged), forged, packet, packet, os.urandom(60)):
                peer.connection.on_media(data)
            said.append(plain)
        assert tap.rtp == said
        assert leg.dropped.srtp == 2000
        assert leg.ended is None
        await browser.close()

    run(scene)


def test_rtcp_is_told_from_rtp() -> None:
    async def scene(legs: WebRtcLegs) -> None:
        browser = Browser()
        leg, ear = await browser.call(legs)
        peer, tap = keys_of(leg)
        assert ear.told.empty()
        transport = browser.pc.getSenders()[0].transport
        packet = bytes(RtpPacket(96, False, 17, 0, 99, b"opus"))
        report = struct.pack("!BBHII", 0x80, 201, 1, 99, 0)[:8]
        tx: pylibsrtp.Session = transport._tx_srtp
        peer.connection.on_media(tx.protect(packet))
        peer.connection.on_media(tx.protect_rtcp(report))
        assert tap.rtp[-1] == packet
        assert tap.rtcp[-1] == report
        await browser.close()

    run(scene)


def test_a_page_that_only_listens_is_not_heard() -> None:
    async def scene(legs: WebRtcLegs) -> None:
        for theirs, sends in (("sendonly", False), ("recvonly", True)):
            browser = Browser()
            offer = await browser.offer()
            leg, answer = await legs.offer(offer.replace("a=sendrecv", f"a={theirs}"))
            ear = Ear()
            leg.listener = ear
            await browser.accept(answer.replace("a=sendonly", "a=sendrecv"))
            assert await ear.hears() == ("answered", "")
            peer, tap = keys_of(leg)
            tx: pylibsrtp.Session = browser.pc.getSenders()[0].transport._tx_srtp
            async with asyncio.timeout(5):
                await browser.connected.wait()
            peer.connection.on_media(tx.protect(bytes(RtpPacket(96, False, 17, 0, 99, b"opus"))))
            assert bool(tap.rtp) is not sends
            assert leg._wire.sends is sends
            await browser.close()

    run(scene)

import asyncio
import random
import re
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import numpy as np
import pytest
from aioice import stun
from aiortc.rtcdtlstransport import SRTPProtectionProfile, generate_certificate
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from bridge.audio import codecs
from bridge.audio.frames import Pcm
from bridge.errors import ConfigError, SdpError
from bridge.legs.base import Leg
from bridge.legs.webrtc import WebRtcLeg, WebRtcLegs
from bridge.legs.webrtc_guard import Certificate
from bridge.legs.webrtc_ice import Dropped, Limits
from bridge.media.plane import MediaPlane
from tests.legs.test_webrtc_sdp import CHROMIUM, mutated
from tests.legs.webrtc_browser import Browser, Ear, loudest

MODEL_RATE = 24_000


def run(scene: Callable[[WebRtcLegs, MediaPlane], Awaitable[None]], **options: Any) -> None:
    """Play `scene`; afterwards nothing of it may be left: no task, no socket, no row."""

    async def main() -> None:
        plane = MediaPlane()
        legs = WebRtcLegs(plane=plane, loopback=True, **options)
        await scene(legs, plane)
        await legs.close()
        assert len(plane) == 0
        # aiortc cancels its own tasks without waiting for them.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=1)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(main())


def ticking(plane: MediaPlane) -> Callable[[], None]:
    return lambda: plane.tick(asyncio.get_running_loop().time())


def listening(leg: WebRtcLeg) -> Ear:
    ear = Ear()
    leg.listener = ear
    return ear


def tone(frequency: float, seconds: float) -> Pcm:
    t = np.arange(int(MODEL_RATE * seconds)) / MODEL_RATE
    return (8000 * np.sin(2 * np.pi * frequency * t)).astype(np.int16)


def test_a_call_connects_talks_both_ways_and_hangs_up() -> None:
    async def scene(legs: WebRtcLegs, plane: MediaPlane) -> None:
        browser = Browser(frequency=500.0, on_frame=ticking(plane))
        leg, ear = await browser.call(legs)
        as_leg: Leg = leg
        assert (as_leg.kind, as_leg.direction, as_leg.headers) == ("webrtc", "inbound", ())
        stream = leg.stream
        assert stream is not None
        assert stream.codec is codecs.OPUS
        # The browser's own: stock aiortc has one per receiver.
        assert [t.name for t in threading.enumerate()].count("audio-decoder") == 1

        frames: list[Pcm] = []
        enough = asyncio.Event()

        def hear(frame: Pcm) -> None:
            frames.append(frame)
            if len(frames) == 40:
                enough.set()

        stream.on_frame = hear
        stream.playout.write("item", tone(1000.0, 2.0))
        assert await browser.heard(50) == pytest.approx(1000.0, abs=5)
        async with asyncio.timeout(5):
            await enough.wait()
        assert loudest(np.concatenate(frames[20:]), MODEL_RATE) == pytest.approx(500.0, abs=5)
        assert leg.dropped == Dropped()

        await leg.hangup()
        assert await ear.hears() == ("ended", "local_hangup")
        async with asyncio.timeout(2):
            await browser.channel_closed.wait()
            await browser.closed.wait()
        await browser.close()
        assert ear.told.empty()

    run(scene)


def test_messages_go_both_ways_in_order() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        leg, answer = await legs.offer(await browser.offer())
        leg.send_message("before it opened")
        await browser.accept(answer)
        assert await browser.message() == "before it opened"
        for number in range(200):
            leg.send_message(f"event {number} é")
        for number in range(200):
            assert await browser.message() == f"event {number} é"
        await browser.close()

    run(scene)


def test_a_browsers_messages_arrive_binary_and_huge_ones_do_not() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        _leg, ear = await browser.call(legs)
        assert browser.channel is not None
        browser.channel.send(b"binary")
        browser.channel.send("x" * 262_144)
        browser.channel.send("last")
        assert await ear.hears() == ("message", "x" * 262_144)
        assert await ear.hears() == ("message", "last")
        await browser.close()
        assert await ear.hears() == ("ended", "remote_hangup")

    run(scene)


def test_what_was_said_before_the_hangup_still_arrives() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        leg, _ear = await browser.call(legs)
        for number in range(50):
            leg.send_message(f"{number}" * 1000)
        await leg.hangup()
        for number in range(50):
            assert await browser.message() == f"{number}" * 1000
        await browser.close()

    run(scene)


def test_a_page_that_closes_is_a_remote_hangup() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        for channel in (True, False):
            browser = Browser(channel=channel)
            leg, ear = await browser.call(legs)
            await browser.close()
            assert await ear.hears() == ("ended", "remote_hangup")
            await leg.hangup()
            await leg.hangup()
            assert ear.told.empty()

    run(scene)


def test_the_last_message_of_a_page_that_closes_is_told() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        _leg, ear = await browser.call(legs)
        assert browser.channel is not None
        browser.channel.send("goodbye")
        browser.channel.close()
        assert await ear.hears() == ("message", "goodbye")
        assert await ear.hears() == ("ended", "remote_hangup")
        await browser.close()

    run(scene)


def test_a_closed_data_channel_is_a_remote_hangup() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        _leg, ear = await browser.call(legs)
        assert browser.channel is not None
        browser.channel.close()
        assert await ear.hears() == ("ended", "remote_hangup")
        async with asyncio.timeout(2):
            await browser.closed.wait()
        await browser.close()

    run(scene)


def test_a_browser_that_vanishes_is_a_lost_connection() -> None:
    limits = Limits(consent_interval_s=0.02, consent_timeout_s=0.3)

    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        _leg, ear = await browser.call(legs)
        for transceiver in browser.pc.getTransceivers():
            connection = transceiver.receiver.transport.transport._connection
            for protocol in connection._protocols:
                protocol.transport.close()
        assert await ear.hears() == ("ended", "connection_lost")
        await browser.close()

    run(scene, limits=limits)


def test_a_browser_that_never_comes_is_a_lost_connection() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        leg, _answer = await legs.offer(await browser.offer())
        ear = listening(leg)
        assert await ear.hears() == ("ended", "connection_lost")
        await browser.close()

    run(scene, limits=Limits(connect_timeout_s=0.05))


@pytest.mark.parametrize("shown", ["", "7cd24b98-62c9-45c9-8d48-2966847be1df.local"])
def test_an_offer_without_addresses_is_found_by_its_own_checks(shown: str) -> None:
    """Browsers hide theirs behind names from pages that have no microphone yet."""

    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        full = await browser.offer()
        offer = re.sub(r"a=end-of-candidates\r\n", "", full)
        hidden = rf"\g<1>{shown}\2" if shown else ""
        offer = re.sub(r"(a=candidate:\S+ \d+ udp \d+ )\S+( [^\r\n]+\r\n)", hidden, offer)
        assert (
            offer.count("a=candidate")
            == offer.count(".local ")
            == bool(shown) * full.count("a=candidate")
        )
        leg, answer = await legs.offer(offer)
        ear = listening(leg)
        await browser.accept(answer)
        assert await ear.hears() == ("answered", "")
        await browser.close()

    run(scene)


def test_an_offerer_that_insists_on_being_the_dtls_client_may() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        offer = (await browser.offer()).replace("a=setup:actpass", "a=setup:active")
        leg, answer = await legs.offer(offer)
        ear = listening(leg)
        assert "a=setup:passive" in answer
        leg.send_message("hello")
        await browser.accept(answer)
        assert await ear.hears() == ("answered", "")
        assert await browser.message() == "hello"
        await browser.close()

    run(scene)


def test_a_lite_offerer_is_met_by_a_dtls_client() -> None:
    """It leaves the checks to us, which says nothing about who begins with DTLS."""

    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        offer = (await browser.offer()).replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n")
        leg, answer = await legs.offer(offer)
        ear = listening(leg)
        assert "a=setup:active" in answer
        await browser.accept(answer)
        assert await ear.hears() == ("answered", "")
        await browser.close()

    run(scene)


class TelephoneCertificate(Certificate):
    """Up to DTLS 1.2, where the cipher depends on the certificate."""

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_max_proto_version(0xFEFD)
        return context


def test_a_peer_with_a_certificate_of_rsa() -> None:
    """Telephones have them, and are the DTLS server when we answer."""

    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser(channel=False)
        key: Any = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        for transceiver in browser.pc.getTransceivers():
            transport: Any = transceiver.sender.transport
            shown = TelephoneCertificate(key, generate_certificate(key))
            transport._RTCDtlsTransport__local_certificate = shown
        await browser.call(legs)
        await browser.close()

    run(scene)


class StunServer(asyncio.DatagramProtocol):
    """Tells everybody that they come from 203.0.113.7."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = stun.parse_message(data)
        response = stun.Message(
            stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=request.transaction_id
        )
        response.attributes["XOR-MAPPED-ADDRESS"] = ("203.0.113.7", addr[1])
        self._transport.sendto(bytes(response), addr)


def test_a_stun_server_adds_a_reflexive_candidate() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _server = await loop.create_datagram_endpoint(
            StunServer, local_addr=("0.0.0.0", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        legs = WebRtcLegs(
            plane=MediaPlane(),
            ice_servers=[f"stun:127.0.0.1:{port}"],
            advertised_address="198.51.100.1",
        )
        browser = Browser()
        _leg, answer = await legs.offer(await browser.offer())
        assert re.search(r"203\.0\.113\.7 \d+ typ srflx raddr 198\.51\.100\.1", answer)
        assert "0.0.0.0 " not in answer.replace("IP4 0.0.0.0", "")
        await legs.close()
        await browser.close()
        transport.close()

    asyncio.run(main())


def test_the_advertised_address_stands_in_every_candidate() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        leg, answer = await legs.offer(await browser.offer())
        ear = listening(leg)
        candidates = [line for line in answer.split("\r\n") if line.startswith("a=candidate")]
        assert candidates
        assert all(" 127.0.0.1 " in line for line in candidates)
        await browser.accept(answer)
        assert await ear.hears() == ("answered", "")
        await browser.close()

    run(scene, advertised_address="127.0.0.1")


def test_a_bad_offer_leaves_nothing_behind() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        for bad in ("", "v=0", "m=audio 9 X 1"):
            with pytest.raises(SdpError):
                await legs.offer(bad)

    run(scene)


def test_rejecting_ends_the_leg_once() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        leg, _answer = await legs.offer(await browser.offer())
        ear = listening(leg)
        leg.ring()
        await leg.answer()
        leg.reject(486)
        assert await ear.hears() == ("ended", "rejected")
        await leg.hangup()
        assert ear.told.empty()
        await browser.close()

    run(scene)


def test_a_page_that_does_not_read_is_cut_off() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        browser = Browser()
        leg, ear = await browser.call(legs)
        for _number in range(50):
            leg.send_message("x" * 1000)
        assert await ear.hears() == ("ended", "connection_lost")
        leg.send_message("into the void")
        await browser.close()

    run(scene, limits=Limits(unsent_bytes=10_000))


@pytest.mark.parametrize("url", ["http://a", "turn:", "stun:a:b:c"])
def test_a_bad_ice_server_is_a_config_error(url: str) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="ice_servers"):
            WebRtcLegs(plane=MediaPlane(), ice_servers=[url])

    asyncio.run(main())


def test_an_advertised_name_is_a_config_error() -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="advertised_address"):
            WebRtcLegs(plane=MediaPlane(), advertised_address="example.com")

    asyncio.run(main())


def test_mutated_offers_leave_nothing_but_sdp_errors() -> None:
    async def scene(legs: WebRtcLegs, _: MediaPlane) -> None:
        unhandled: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: unhandled.append(context))
        rng = random.Random(7)
        for _attempt in range(200):
            try:
                leg, _answer = await legs.offer(mutated(CHROMIUM, rng))
            except SdpError:
                continue
            await leg.hangup()
        assert unhandled == []

    run(scene)

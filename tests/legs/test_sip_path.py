"""aiortc calls by SIP: its offer in an INVITE, its media by ICE and DTLS."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from bridge.audio import codecs
from bridge.audio.frames import Pcm
from bridge.calls.trunks import Trunk
from bridge.legs.sip_leg import SipLeg
from bridge.legs.webrtc_ice import Limits
from bridge.legs.webrtc_path import MediaPath, Paths
from tests.legs.exchange import Ear, Exchange, Handset, sdp
from tests.legs.webrtc_browser import Browser, loudest
from tests.ports import HOST

MODEL_RATE = 24_000


class Watch(Ear):
    """As `Ear`, and says that it was told something."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()
        self.frames: list[Pcm] = []

    def came(self, leg: SipLeg) -> None:
        leg.listener = self
        self.changed.set()

    def leg_answered(self) -> None:
        super().leg_answered()
        self.changed.set()

    def leg_ended(self, reason: str) -> None:
        super().leg_ended(reason)
        self.changed.set()

    def hear(self, frame: Pcm) -> None:
        self.frames.append(frame)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Caller:
    """A phone and a peer connection that belong together."""

    def __init__(
        self,
        exchange: Exchange,
        ear: Watch,
        handset: Handset,
        browser: Browser,
        paths: "GatedPaths",
    ) -> None:
        self.exchange = exchange
        self.paths = paths
        self.ear = ear
        self.handset = handset
        self.browser = browser
        self.offer = ""
        self.answer = ""
        self._cseq = 1

    async def ring(self, change: Callable[[str], str] = lambda offer: offer) -> None:
        self.offer = change(await self.browser.offer())
        self.handset.send("INVITE", body=self.offer.encode())

    async def ringing(self, change: Callable[[str], str] = lambda offer: offer) -> SipLeg:
        await self.ring(change)
        await self.ear.until(lambda: bool(self.exchange.legs))
        return self.exchange.leg

    async def up(self, change: Callable[[str], str] = lambda offer: offer) -> SipLeg:
        leg = await self.ringing(change)
        await leg.answer()
        response = await self.handset.response(200)
        self.handset.send("ACK")
        self.answer = response.body.decode()
        await self.browser.accept(self.answer)
        await self.ear.until(lambda: "answered" in self.ear.told)
        return leg

    async def again(self, status: int, body: str) -> str:
        """A re-INVITE."""
        self._cseq += 1
        self.handset.refused = False
        self.handset.send("INVITE", cseq=self._cseq, body=body.encode())
        response = await self.handset.response(status)
        self.handset.send("ACK", cseq=self._cseq)
        return response.body.decode()

    async def hears_both_ways(self) -> None:
        stream = self.exchange.leg.stream
        assert stream is not None
        self.ear.frames.clear()
        stream.on_frame = self.ear.hear
        stream.playout.write("", tone(1000.0, 1.5))
        assert await self.browser.heard(40) == pytest.approx(1000.0, abs=10)
        await self.ear.until(lambda: len(self.ear.frames) >= 40)
        heard = np.concatenate(self.ear.frames[-20:])
        assert loudest(heard, MODEL_RATE) == pytest.approx(500.0, abs=10)


def tone(frequency: float, seconds: float) -> Pcm:
    t = np.arange(int(MODEL_RATE * seconds)) / MODEL_RATE
    return (8000 * np.sin(2 * np.pi * frequency * t)).astype(np.int16)


class GatedPaths(Paths):
    """Opens none before it is let."""

    def __init__(self, **options: Any) -> None:
        super().__init__(loopback=True, **options)
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self) -> MediaPath:
        await self.gate.wait()
        return await super().open()


def play(
    scene: Callable[[Caller], Awaitable[None]], *, limits: Limits | None = None, **trunk: Any
) -> None:
    """Afterwards nothing of it may be left: no task, no socket, no row."""
    terms = {"srtp": "optional", "codecs": ("opus", "PCMU"), **trunk}

    async def main() -> None:
        ear = Watch()
        exchange = Exchange(trunks=[Trunk("one", (HOST,), **terms)], owner=ear.came)
        paths = GatedPaths(limits=limits)
        exchange.phones.use_paths(paths)
        await exchange.open()
        browser = Browser(channel=False, frequency=500.0, on_frame=exchange.tick)
        handset = await exchange.handset()
        async with asyncio.timeout(20):
            await scene(Caller(exchange, ear, handset, browser, paths))
        await browser.close()
        await exchange.phones.close()
        exchange.prove_that_media_is_gone()
        exchange.poller.close()
        handset.close()
        # aiortc cancels its own tasks without waiting for them.
        if others := others_running():
            await asyncio.wait(others, timeout=1)
        assert others_running() == set()

    asyncio.run(main())


def others_running() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def test_a_call_up_heard_held_resumed_and_hung_up() -> None:
    async def scene(caller: Caller) -> None:
        leg = await caller.up()
        assert (leg.media_security, caller.exchange.ports.in_use) == ("dtls", 0)
        assert leg.stream is not None
        assert leg.stream.codec is codecs.OPUS
        assert "UDP/TLS/RTP/SAVPF" in caller.answer
        await caller.hears_both_ways()

        held = await caller.again(200, caller.offer.replace("a=sendrecv", "a=sendonly"))
        assert "a=recvonly" in held
        assert leg.stream.held
        resumed = await caller.again(200, caller.offer)
        for line in ("ice-ufrag", "ice-pwd", "fingerprint", "setup", "candidate"):
            said = [re.findall(f"a={line}.*", text) for text in (caller.answer, held, resumed)]
            assert said[0] == said[1] == said[2] != []
        await caller.hears_both_ways()

        await leg.hangup()
        await caller.handset.request("BYE")
        assert caller.ear.told == ["answered", "held", "resumed", "local_hangup"]

    play(scene)


def test_a_bye_of_the_far_end() -> None:
    async def scene(caller: Caller) -> None:
        await caller.up()
        caller.handset.send("BYE", cseq=9)
        await caller.handset.response(200)
        assert caller.ear.told == ["answered", "remote_hangup"]
        async with asyncio.timeout(5):
            await caller.browser.closed.wait()

    play(scene)


def test_a_peer_that_closes_without_a_bye() -> None:
    async def scene(caller: Caller) -> None:
        await caller.up()
        await caller.browser.close()
        await caller.handset.request("BYE")
        assert caller.ear.told == ["answered", "remote_hangup"]

    play(scene)


def test_a_peer_that_never_comes() -> None:
    async def scene(caller: Caller) -> None:
        leg = await caller.ringing()
        await leg.answer()
        await caller.handset.response(200)
        caller.handset.send("ACK")
        await caller.handset.request("BYE")
        assert caller.ear.told == ["no_media"]

    play(scene, limits=Limits(connect_timeout_s=0.2))


def test_a_peer_that_vanishes() -> None:
    async def scene(caller: Caller) -> None:
        await caller.up()
        for transceiver in caller.browser.pc.getTransceivers():
            for protocol in transceiver.receiver.transport.transport._connection._protocols:
                protocol.transport.close()
        await caller.handset.request("BYE")
        assert caller.ear.told == ["answered", "connection_lost"]

    play(scene, limits=Limits(consent_interval_s=0.02, consent_timeout_s=0.3))


def test_a_caller_who_gives_up_before_there_is_a_path() -> None:
    async def scene(caller: Caller) -> None:
        caller.paths.gate.clear()
        await caller.ring()
        caller.handset.send("CANCEL")
        await caller.handset.response(200)
        await caller.handset.response(487)
        caller.handset.send("ACK")
        caller.paths.gate.set()
        assert caller.exchange.legs == []

    play(scene)


def test_what_cannot_be_followed_is_refused_and_the_call_goes_on() -> None:
    async def scene(caller: Caller) -> None:
        await caller.up()
        await caller.again(488, "v=0\r\nm=audio 9 RTP/AVP 0\r\nc=IN IP4 127.0.0.1\r\n")
        await caller.again(488, caller.offer.replace("a=rtcp-mux\r\n", ""))
        await caller.hears_both_ways()

    play(scene)


def test_a_call_that_moves_takes_its_audio_along() -> None:
    async def scene(caller: Caller) -> None:
        leg = await caller.up()
        await caller.hears_both_ways()
        here = caller.browser
        there = Browser(channel=False, frequency=500.0, on_frame=caller.exchange.tick)
        answer = await caller.again(200, await there.offer())
        assert re.findall("a=ice-ufrag.*", answer) != re.findall("a=ice-ufrag.*", caller.answer)
        # Until then media goes the old way.
        await caller.hears_both_ways()
        caller.browser = there
        await there.accept(answer)
        async with asyncio.timeout(5):
            await there.connected.wait()
        await caller.hears_both_ways()
        async with asyncio.timeout(5):
            await here.closed.wait()
        assert caller.ear.told == ["answered"]
        await leg.hangup()
        await there.close()
        await here.close()

    play(scene)


def test_a_call_that_ends_while_it_moves() -> None:
    async def scene(caller: Caller) -> None:
        leg = await caller.up()
        caller.paths.gate.clear()
        there = Browser(channel=False)
        offer = await there.offer()
        caller.handset.send("INVITE", cseq=2, body=offer.encode())
        caller.handset.send("BYE", cseq=3)
        await caller.handset.response(200)
        await caller.handset.response(487)
        caller.handset.send("ACK", cseq=2)
        caller.paths.gate.set()
        assert leg.stream is not None
        assert caller.ear.told == ["answered", "remote_hangup"]
        await there.close()

    play(scene)


def test_a_trunk_without_srtp() -> None:
    async def scene(caller: Caller) -> None:
        await caller.ring()
        await caller.handset.response(488)
        caller.handset.send("ACK")

    play(scene, srtp="off")


def test_a_trunk_with_nothing_but_srtp() -> None:
    async def scene(caller: Caller) -> None:
        leg = await caller.up()
        assert leg.media_security == "dtls"

    play(scene, srtp="required")


@pytest.mark.parametrize("offers", [True, False])
def test_a_trunk_with_nothing_but_dtls(*, offers: bool) -> None:
    """The caller may leave the offer to us."""

    async def scene(caller: Caller) -> None:
        if offers:
            leg = await caller.up()
        else:
            caller.handset.send("INVITE")
            await caller.ear.until(lambda: bool(caller.exchange.legs))
            leg = caller.exchange.leg
            await leg.answer()
            ours = (await caller.handset.response(200)).body.decode()
            assert "a=crypto" not in ours
            caller.handset.send("ACK", body=(await caller.browser.answer(ours)).encode())
            await caller.ear.until(lambda: "answered" in caller.ear.told)
        assert leg.media_security == "dtls"
        await caller.hears_both_ways()

    play(scene, srtp="dtls")


@pytest.mark.parametrize("profile", ["RTP/AVP", "RTP/SAVP"])
def test_a_caller_who_has_no_dtls(profile: str) -> None:
    async def scene(caller: Caller) -> None:
        body = sdp(caller.handset.rtp_port).replace(b"RTP/AVP", profile.encode())
        caller.handset.send("INVITE", body=body)
        await caller.handset.response(488)
        caller.handset.send("ACK")

    play(scene, srtp="dtls")


def test_a_lite_caller() -> None:
    async def scene(caller: Caller) -> None:
        await caller.up(lambda offer: offer.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n"))
        await caller.hears_both_ways()

    play(scene)


def test_g711_over_the_path() -> None:
    async def scene(caller: Caller) -> None:
        leg = await caller.up(lambda offer: re.sub(r"(m=audio \d+ \S+) .*", r"\1 0", offer))
        assert leg.stream is not None
        assert leg.stream.codec is codecs.PCMU
        await caller.hears_both_ways()

    play(scene)

"""Calls through a TURN server where nothing else gets through."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.audio.frames import MODEL_RATE, Pcm
from bridge.legs.webrtc import WebRtcLegs
from bridge.legs.webrtc_ice import Limits
from bridge.legs.webrtc_servers import IceServer
from bridge.media.plane import MediaPlane
from tests.legs.test_webrtc import ticking, tone
from tests.legs.webrtc_browser import Browser, loudest
from tests.peers.coturn import PASSWORD, SECRET, USER, Coturn
from tests.ports import HOST

pytestmark = pytest.mark.interop("turnserver")


class Fence:
    """Lets datagrams of a browser pass if the other end is a port of the relay."""

    def __init__(self, browser: Browser, relay: Coturn) -> None:
        self.held = 0
        self._open = relay.relayed
        [audio] = browser.pc.getTransceivers()
        for protocol in audio.receiver.transport.transport._connection._protocols:
            self._guard(protocol)

    def _guard(self, protocol: Any) -> None:
        transport, receive = protocol.transport, protocol.datagram_received
        send = transport.sendto

        def passes(addr: tuple[str, int]) -> bool:
            self.held += addr[1] not in self._open
            return addr[1] in self._open

        transport.sendto = lambda data, addr: passes(addr) and send(data, addr)
        protocol.datagram_received = lambda data, addr: passes(addr) and receive(data, addr)


@pytest.mark.parametrize("by", ["credential", "secret", "credential over TCP"])
def test_a_call_that_only_the_relay_can_carry(tmp_path: Path, by: str) -> None:
    with Coturn(tmp_path, by_secret=by == "secret") as relay:
        url = f"turn:{HOST}:{relay.port}" + ("?transport=tcp" if by.endswith("TCP") else "")
        if by == "secret":
            server = IceServer(url, username="bridge", secret=SECRET)
        else:
            server = IceServer(url, username=USER, credential=PASSWORD)
        asyncio.run(call(server, relay))
    assert "session" in relay.log


async def call(server: IceServer, relay: Coturn) -> None:
    plane = MediaPlane()
    limits = Limits(gather_timeout_s=10.0)
    legs = WebRtcLegs(plane=plane, ice_servers=[server], limits=limits)
    browser = Browser(frequency=500.0, on_frame=ticking(plane))
    await browser.offer()
    fence = Fence(browser, relay)
    leg, ear = await browser.call(legs)
    assert leg.stream is not None
    frames: asyncio.Queue[Pcm] = asyncio.Queue()
    leg.stream.on_frame = frames.put_nowait
    leg.stream.playout.write("item", tone(1000.0, 2.0))
    assert await browser.heard(25) == pytest.approx(1000, abs=5)
    async with asyncio.timeout(5):
        heard = [await frames.get() for _ in range(30)][10:]
    assert loudest(np.concatenate(heard), MODEL_RATE) == pytest.approx(500, abs=5)
    assert browser.channel is not None
    browser.channel.send("relayed")
    assert await ear.hears() == ("message", "relayed")
    leg.send_message("as well")
    assert await browser.message() == "as well"
    assert fence.held > 0
    await leg.hangup()
    await browser.close()
    await legs.close()

"""What a call is made of is freed when it ends: full collections of a busy server are rare."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx2
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from bridge.app import Running, running
from bridge.settings import load
from tests.garbage import none_of_ours
from tests.peers.phone import Phone
from tests.ports import HOST, free_port

Scene = Callable[[Running, int], Awaitable[None]]


async def phone_call(service: Running, port: int) -> None:
    phone = await (await Phone((HOST, port)).open()).call()
    phone.hangup()
    await asyncio.wait_for(phone.ended.wait(), 2)
    await phone.close()


async def browser_call(service: Running, port: int) -> None:
    browser = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    opened = asyncio.Event()
    channel = browser.createDataChannel("oai-events")
    channel.on("open", opened.set)
    browser.addTransceiver("audio")
    await browser.setLocalDescription(await browser.createOffer())
    async with httpx2.AsyncClient(base_url=service.http_url) as client:
        answer = await client.post(
            "/v1/realtime/calls",
            content=browser.localDescription.sdp,
            headers={"Authorization": "Bearer any", "Content-Type": "application/sdp"},
        )
    await browser.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
    await asyncio.wait_for(opened.wait(), 5)
    await browser.close()


@pytest.mark.parametrize("call", [phone_call, browser_call])
def test_a_call_leaves_nothing_to_collect(call: Scene) -> None:
    async def scene() -> None:
        port = free_port()
        settings = {
            "session.backend": "echo",
            "http.port": 0,
            "sip.udp_port": port,
            "sip.tcp_port": 0,
        }
        async with running(load(environment={}, overrides=settings)) as service:
            await call(service, port)  # imports and caches
            with none_of_ours():
                before = len(asyncio.all_tasks())
                for _ in range(2):
                    await call(service, port)
                async with asyncio.timeout(10):
                    while len(service.switchboard) or len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - nobody tells
                        await asyncio.sleep(0.02)
                await asyncio.sleep(0.1)  # the transports' last turns of the loop

    asyncio.run(scene())

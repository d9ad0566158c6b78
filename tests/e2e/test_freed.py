"""What a call is made of is freed when it ends: full collections of a busy server are rare."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx2
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from tests.garbage import none_of_ours
from tests.peers.in_process import InProcess, serving
from tests.peers.phone import Phone

Scene = Callable[[InProcess], Awaitable[None]]


async def phone_call(here: InProcess) -> None:
    phone = await (await Phone(here.sip).open()).call()
    phone.hangup()
    await asyncio.wait_for(phone.ended.wait(), 2)
    await phone.close()


async def browser_call(here: InProcess) -> None:
    browser = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    opened = asyncio.Event()
    channel = browser.createDataChannel("oai-events")
    channel.on("open", opened.set)
    browser.addTransceiver("audio")
    await browser.setLocalDescription(await browser.createOffer())
    async with httpx2.AsyncClient(base_url=here.service.http_url) as client:
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
        async with serving({"session.backend": "echo"}) as here:
            await call(here)  # imports and caches
            with none_of_ours():
                before = len(asyncio.all_tasks())
                for _ in range(2):
                    await call(here)
                async with asyncio.timeout(10):
                    while len(here.service.switchboard) or len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - nobody tells
                        await asyncio.sleep(0.02)
                await asyncio.sleep(0.1)  # the transports' last turns of the loop

    asyncio.run(scene())

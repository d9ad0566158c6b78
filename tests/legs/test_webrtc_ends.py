"""Browsers that go away at each stage of a call, and what is left of them: nothing."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge.legs.webrtc import WebRtcLegs
from bridge.legs.webrtc_ice import Limits
from bridge.media.plane import MediaPlane
from tests.legs.webrtc_browser import Browser, Ear

Scene = Callable[[WebRtcLegs], Awaitable[None]]


def transports(browser: Browser) -> list[Any]:
    return [each.receiver.transport for each in browser.pc.getTransceivers()]


def vanish(browser: Browser) -> None:
    for dtls in transports(browser):
        for protocol in dtls.transport._connection._protocols:
            protocol.transport.close()


async def say_nothing(_: object) -> None: ...


async def amid_ice(legs: WebRtcLegs) -> None:
    """Checks of ours are on their way to where nobody is any more."""
    browser = Browser()
    offer = await browser.offer()
    vanish(browser)
    await told_of_the_end(legs, browser, offer)


async def amid_dtls(legs: WebRtcLegs) -> None:
    browser = Browser()
    offer = await browser.offer()
    for dtls in transports(browser):
        dtls.start = say_nothing
    await told_of_the_end(legs, browser, offer)


async def told_of_the_end(legs: WebRtcLegs, browser: Browser, offer: str) -> None:
    leg, answer = await legs.offer(offer)
    ear = Ear()
    leg.listener = ear
    await browser.accept(answer)
    assert await ear.hears() == ("ended", "connection_lost")
    await leg.hangup()
    await browser.close()


async def at_close(legs: WebRtcLegs) -> None:
    browser = Browser()
    leg, _ear = await browser.call(legs)
    vanish(browser)
    await leg.hangup()
    await browser.close()


@pytest.mark.parametrize("patience_s", [1.5, 0.0])
@pytest.mark.parametrize("scene", [amid_ice, amid_dtls, at_close])
def test_nothing_waits_for_a_browser_that_is_gone(scene: Scene, patience_s: float) -> None:
    """Also where there was no time for an orderly end."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        limits = Limits(connect_timeout_s=0.3, close_timeout_s=patience_s)
        legs = WebRtcLegs(plane=MediaPlane(), loopback=True, limits=limits)
        await scene(legs)
        await legs.close()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=1)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        gc.collect()

    asyncio.run(main())
    assert complaints == []

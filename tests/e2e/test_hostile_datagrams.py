"""Twenty browsers call while a stranger shoots at the ports of every call: none is harmed."""

import asyncio

import httpx2
import pytest

from tests.legs.webrtc_browser import Browser
from tests.peers.service import Service
from tests.peers.stranger import CLIENT_HELLO, Stranger, garbage

pytestmark = pytest.mark.e2e

CALLS = 20
AT_ONCE = 5
VOLLEYS = 10


async def attacked_call(service: Service, number: int, gate: asyncio.Semaphore) -> None:
    """The tone of each call is its own, and comes back to its end."""
    tone = 300.0 + 50 * number
    async with gate, httpx2.AsyncClient(base_url=service.base_url, timeout=10) as http:
        browser = Browser(frequency=tone)
        response = await http.post(
            "/realtime/calls",
            content=await browser.offer(),
            headers={"content-type": "application/sdp"},
        )
        assert response.status_code == 201, response.text
        stranger = Stranger(response.text)
        stranger.sends(CLIENT_HELLO)
        await browser.accept(response.text)
        stranger.sends(CLIENT_HELLO)
        async with asyncio.timeout(10):
            await browser.connected.wait()
            await browser.channel_open.wait()
        # The greeting of the echo is a beep.
        await browser.heard(50)
        for _ in range(VOLLEYS):
            stranger.sends(b"", *garbage())
            await browser.heard(10)
        assert await browser.heard(50) == pytest.approx(tone, abs=5)
        stranger.close()
        call = response.headers["location"].rpartition("/")[2]
        assert not browser.closed.is_set()
        assert (await http.post(f"/realtime/calls/{call}/hangup")).is_success
        async with asyncio.timeout(5):
            await browser.closed.wait()
        await browser.close()


def test_no_call_is_harmed() -> None:
    async def calls(service: Service) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(attacked_call(service, n, gate) for n in range(CALLS)))

    with Service(session__backend="echo") as service:
        asyncio.run(calls(service))
        assert service.calls() == []
    ends = [line for line in service.output if "state=ended" in line]
    assert len(ends) == sum("reason=local_hangup" in line for line in ends) == CALLS

"""Real calls through the relay: two phones of ours, and SIP that is not ours."""

import asyncio
import socket

import numpy as np
import pytest

from tests.bench.network import Way, Weather
from tests.bench.relay import Relay
from tests.peers.phone import FRAME, SILENCE, Phone
from tests.peers.service import Service

pytestmark = pytest.mark.e2e


def new_relay(service: Service, up: Weather, down: Weather) -> Relay:
    def ways(number: int) -> tuple[Way, Way]:
        return Way(up, f"1 {number} up"), Way(down, f"1 {number} down")

    relay = Relay(("127.0.0.1", 0), service.sip, ways)
    relay.open()
    return relay


async def echoed(relay: Relay, seconds: float) -> Phone:
    """A call to the echo that says a tone for `seconds`, and ends."""
    phone = await Phone(relay.listen).open()
    await phone.call()
    tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(int(8000 * seconds)) / 8000)
    phone.say(tone.astype(np.int16))
    await asyncio.sleep(seconds + 0.3)
    phone.hangup()
    await asyncio.wait_for(phone.ended.wait(), 5)
    await phone.close()
    return phone


def test_a_call_passes_and_loses_what_it_was_to_lose() -> None:
    async def scenario(service: Service) -> tuple[Relay, Phone]:
        relay = new_relay(service, Weather(loss=20, burst=2), Weather())
        try:
            return relay, await echoed(relay, 2.0)
        finally:
            relay.close()

    with Service(session__backend="echo") as service:
        relay, phone = asyncio.run(scenario(service))
        assert service.calls() == []
    up, down = relay.ways[0]
    assert up.tally.packets >= 100
    assert 0.05 < up.tally.lost / up.tally.packets < 0.4
    assert down.tally.lost == 0
    assert down.tally.packets >= 90
    loud = [packet for packet in phone.packets if packet.payload != SILENCE]
    assert 60 < len(loud) < 2 * 50 + 20
    assert {len(packet.payload) for packet in phone.packets} == {FRAME}


def test_signalling_of_both_sides_stays_on_the_relay() -> None:
    """The server's own BYE reaches the caller through it, with the caller's own name in it."""

    async def scenario(service: Service) -> Phone:
        relay = new_relay(service, Weather(), Weather())
        phone = await Phone(relay.listen).open()
        await phone.call()
        assert phone.target.endswith(f":{relay.listen[1]}") or f":{relay.listen[1]}" in phone.target
        await asyncio.sleep(0.2)
        call = service.calls()[0]["id"]
        await asyncio.to_thread(hang_up, service, call)
        await asyncio.wait_for(phone.ended.wait(), 5)
        relay.close()
        await phone.close()
        return phone

    with Service(session__backend="echo") as service:
        phone = asyncio.run(scenario(service))
    byes = [line for line in phone.seen if line.startswith("BYE")]
    assert byes
    assert f":{phone.sip_port}" in byes[0]


def hang_up(service: Service, call_id: str) -> None:
    import httpx2

    httpx2.post(f"{service.base_url}/realtime/calls/{call_id}/hangup", timeout=5)


def test_a_taken_port_is_told_of() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            still = Way(Weather(), "")
            relay = Relay(taken.getsockname(), ("127.0.0.1", 9), lambda _: (still, still))
            with pytest.raises(OSError, match="in use"):
                relay.open()

    asyncio.run(scenario())

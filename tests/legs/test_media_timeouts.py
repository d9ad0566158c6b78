"""Phones that send nothing: for how long a call waits for them, and what it takes for a sign of
life. The clock jumps."""

from collections.abc import Awaitable, Callable

import pytest

from bridge.legs.sip_leg import MediaPatience
from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import ReceiverReport
from tests import virtual
from tests.legs.exchange import Exchange, Handset, sdp
from tests.ports import HOST

Scenario = Callable[[Exchange, Handset], Awaitable[None]]
ENDED = ["answered", "media_timeout"]


def play(scenario: Scenario, patience: MediaPatience = MediaPatience()) -> None:
    async def main() -> None:
        exchange = await Exchange(patience=patience).open()
        try:
            await scenario(exchange, await exchange.up())
        finally:
            await exchange.close()

    virtual.run(main(), patience_s=0.005)


def speak(exchange: Exchange, handset: Handset, number: int, *, payload_type: int = 0) -> None:
    payload = b"\x80" * 160 if payload_type == 0 else b"\x40"
    packet = RtpPacket(payload_type, False, number, number * 160, 7, payload)
    handset.speak(exchange.leg.media.socket.address, packet)


async def passes(exchange: Exchange, seconds: int) -> None:
    """The media clock ticks once a second: what matters here is when packets came."""
    for _ in range(seconds):
        await virtual.wait(1)
        exchange.tick()


async def hung_up(exchange: Exchange, handset: Handset, *, after: int, within: int = 3) -> None:
    """No BYE for `after` seconds, then one."""
    await passes(exchange, after)
    assert exchange.told[-1] != "media_timeout"
    await passes(exchange, within)
    assert exchange.told[-1] == "media_timeout"
    await handset.request("BYE")


def test_thirty_seconds_for_the_first_packet() -> None:
    async def scenario(exchange: Exchange, handset: Handset) -> None:
        await hung_up(exchange, handset, after=29)
        assert exchange.told == ENDED

    play(scenario)


def test_fifteen_after_the_last() -> None:
    async def scenario(exchange: Exchange, handset: Handset) -> None:
        await passes(exchange, 20)
        speak(exchange, handset, 1)
        await hung_up(exchange, handset, after=14)

    play(scenario)


def test_announced_silence_may_last_longer() -> None:
    async def scenario(exchange: Exchange, handset: Handset) -> None:
        speak(exchange, handset, 1)
        speak(exchange, handset, 2, payload_type=13)
        await hung_up(exchange, handset, after=29)

    play(scenario)


@pytest.mark.parametrize("spoke", [True, False])
def test_rtcp_is_a_sign_of_life(spoke: bool) -> None:
    async def scenario(exchange: Exchange, handset: Handset) -> None:
        host, port = exchange.leg.media.socket.address
        # As its SDP has it, RTCP comes from the port next to the one for RTP.
        exchange.leg.media.socket.set_remote((HOST, handset.rtp_port), (HOST, handset.rtp_port))
        if spoke:
            speak(exchange, handset, 1)
        for _ in range(12):
            handset.rtp.sendto(bytes(ReceiverReport(7)), (host, port + 1))
            await passes(exchange, 5)
        assert exchange.told == ["answered"]
        await hung_up(exchange, handset, after=9 if spoke else 24, within=4)

    play(scenario)


def test_on_hold_for_long_and_patience_anew_when_it_ends() -> None:
    assert MediaPatience().held_s == 3600

    async def scenario(exchange: Exchange, handset: Handset) -> None:
        speak(exchange, handset, 1)
        await passes(exchange, 5)
        await reinvite(handset, 2, "sendonly")
        await passes(exchange, 75)
        assert exchange.told == ["answered", "held"]
        await reinvite(handset, 3, "sendrecv")
        await passes(exchange, 14)
        assert exchange.told == ["answered", "held", "resumed"]
        await reinvite(handset, 4, "inactive")
        await hung_up(exchange, handset, after=79)
        assert exchange.told[-2:] == ["held", "media_timeout"]

    play(scenario, MediaPatience(held_s=80.0))


async def reinvite(handset: Handset, cseq: int, direction: str) -> None:
    body = sdp(handset.rtp_port, direction=direction, version=cseq)
    handset.send("INVITE", cseq=cseq, body=body)
    await handset.response(200)
    handset.send("ACK", cseq=cseq)
    await virtual.settle()

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.legs import one_way
from bridge.legs.one_way import Unheard, not_heard
from bridge.legs.webrtc import WebRtcLegs
from bridge.legs.webrtc_ice import Limits
from bridge.media.plane import MediaPlane
from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import ReceiverReport, ReportBlock
from tests import virtual
from tests.legs.exchange import Exchange, Handset
from tests.legs.webrtc_browser import Browser

PUBLIC = "198.51.100.7"
PRIVATE = "192.168.1.20"


def unheard(
    expected: tuple[str, int] | None = (PUBLIC, 4000),
    advertised: str = "203.0.113.9",
    signalling: str = PUBLIC,
    **counts: int,
) -> str:
    stranger = ("192.0.2.66", 5004) if counts.get("strange") else None
    return Unheard(
        5.4, 250, expected, advertised, signalling, stranger=stranger, **counts
    ).explain()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (unheard(), "whether a firewall lets UDP to rtp.port_min to port_max in"),
        (unheard((PRIVATE, 4000)), f"names {PRIVATE}, which is private, but it signals from"),
        (unheard(advertised="10.0.0.5"), "set rtp.advertised_address"),
        (unheard(advertised="127.0.0.1", signalling=PRIVATE), "set rtp.advertised_address"),
        (unheard(refused=3), "Nobody listens there: 3 were answered by port unreachable"),
        (unheard(strange=4), "4 came from 192.0.2.66:5004 and were not believed"),
        (unheard(undecipherable=9, strange=4), "9 came from there that the keys"),
        (unheard(unreadable=7), "7 came that are no RTP of a codec"),
        (unheard(None), "nowhere, where the SDP"),
        (unheard(("2001:db8::1", 4000)), "sent to [2001:db8::1]:4000, where the SDP"),
        (not_heard(("192.0.2.1", 4000)), "none of our packets arrive; they go to 192.0.2.1:4000"),
    ],
)
def test_the_cause_is_told_in_words(text: str, says: str) -> None:
    assert says in text


def test_on_one_private_network_nobody_is_behind_nat() -> None:
    text = unheard((PRIVATE, 4000), advertised="192.168.1.9", signalling=PRIVATE)
    assert "private" not in text
    assert "advertised" not in text
    assert text.startswith(
        f"No packet was heard in 5 s, though 250 were sent to {PRIVATE}:4000, where the SDP of "
        "the far end wants them."
    )


async def ticks(exchange: Exchange, seconds: int) -> None:
    for _ in range(seconds):
        await virtual.wait(1)
        exchange.tick()


def findings(exchange: Exchange) -> list[str]:
    (ear,) = exchange.ears
    return ear.findings


def speak(exchange: Exchange, handset: Handset, number: int) -> None:
    packet = RtpPacket(0, False, number, number * 160, 7, b"\x80" * 160)
    handset.speak(exchange.leg.media.socket.address, packet)


def play_call(scenario: Callable[[Exchange, Handset], Awaitable[None]]) -> None:
    async def main() -> None:
        exchange = await Exchange().open()
        try:
            await scenario(exchange, await exchange.up())
        finally:
            await exchange.close()

    virtual.run(main(), patience_s=0.002)


def test_a_phone_that_sends_nothing_is_told_of_once() -> None:
    async def scenario(exchange: Exchange, handset: Handset) -> None:
        await ticks(exchange, 4)
        assert not findings(exchange)
        await ticks(exchange, 10)
        (text,) = findings(exchange)
        assert f"sent to 127.0.0.1:{handset.rtp_port}" in text
        assert exchange.told == ["answered"]

    play_call(scenario)


def test_a_phone_that_does_not_even_listen() -> None:
    async def scenario(exchange: Exchange, handset: Handset) -> None:
        handset.rtp.close()
        await ticks(exchange, 10)
        (text,) = findings(exchange)
        assert "Nobody listens there: " in text

    play_call(scenario)


def test_nothing_is_wrong_with_a_phone_that_is_heard() -> None:
    async def scenario(exchange: Exchange, handset: Handset) -> None:
        speak(exchange, handset, 1)
        await ticks(exchange, 10)
        assert not findings(exchange)

    play_call(scenario)


def test_a_phone_that_does_not_hear_us() -> None:
    async def scenario(exchange: Exchange, handset: Handset) -> None:
        speak(exchange, handset, 1)
        await ticks(exchange, 2)
        stream = exchange.leg.stream
        assert stream is not None
        block = ReportBlock(stream.ssrc, 255, 100, 0, 0, 0, 0)
        stream.receive_rtcp(bytes(ReceiverReport(7, (block,))), exchange.phones.now())
        await ticks(exchange, 6)
        assert findings(exchange) == [not_heard(("127.0.0.1", handset.rtp_port))]

    play_call(scenario)


def test_a_browser_without_a_microphone() -> None:
    async def main() -> None:
        legs = WebRtcLegs(plane=MediaPlane(), loopback=True, limits=Limits(unheard_s=0.0))
        browser = Browser()
        _, ear = await browser.call(legs)
        # At once: nobody can have spoken yet.
        assert await ear.hears() == ("media.one_way", one_way.NO_MICROPHONE)
        await browser.close()
        await legs.close()

    asyncio.run(main())

"""Offers that come later than the INVITE: ours with the ringing, the callee's with its answer."""

import pytest

from bridge.legs.sip_leg import LegTerms
from tests import virtual
from tests.legs import test_hunt as hunt
from tests.legs.exchange import Exchange, Handset, sdp
from tests.legs.test_hunt import Lab, called, gets, replies
from tests.legs.test_sip import audio_line, bye, play

RELIABLE = [("Require", "100rel, timer"), ("Supported", "timer")]


async def rings(exchange: Exchange) -> tuple[Handset, str]:
    """It has our offer, and what a PRACK has to name."""
    handset = await exchange.handset()
    handset.send("INVITE", headers=RELIABLE)
    await virtual.settle()
    exchange.leg.ring()
    response = await handset.response(180)
    assert response.headers.get("require") == "100rel"
    assert audio_line(response)[1][:2] == ("0", "8")
    return handset, f"{response.rseq} 1 INVITE"


def test_our_offer_comes_with_the_ringing() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset, rack = await rings(exchange)
        await exchange.leg.answer()
        answer = sdp(handset.rtp_port, formats="8 101")
        handset.send("PRACK", cseq=2, headers=[("RAck", rack)], body=answer)
        await handset.response(200)
        # What is agreed on is not said again.
        assert (await handset.response(200)).body == b""
        assert exchange.leg.stream is not None
        handset.send("ACK")
        await virtual.settle()
        assert exchange.told == ["answered"]
        await bye(exchange, handset)

    play(scenario)


def test_an_answer_that_cannot_be_used_is_the_end() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset, rack = await rings(exchange)
        answer = sdp(handset.rtp_port, formats="18 101")
        handset.send("PRACK", cseq=2, headers=[("RAck", rack)], body=answer)
        await handset.response(200)
        await handset.response(488)
        handset.send("ACK")
        assert exchange.told == ["no_media"]

    play(scenario)


@pytest.mark.parametrize("headers", [[], [("Supported", "100rel")]])
def test_who_need_not_acknowledge_is_told_without_it(headers: list[tuple[str, str]]) -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        handset.send("INVITE", headers=headers)
        await virtual.settle()
        exchange.leg.ring()
        response = await handset.response(180)
        assert (response.body, response.headers.get("require")) == (b"", None)
        exchange.leg.reject(486)
        await handset.response(486)
        handset.send("ACK")

    play(scenario)


def test_the_callee_makes_the_offer() -> None:
    async def scenario(lab: Lab) -> None:
        (one,) = lab.handsets
        leg, ear = await lab.dial(terms=LegTerms("lab", late_offer=True))
        invite = await called(one)
        assert invite.body == b""
        replies(one, invite, 200, body=sdp(one.rtp_port, formats="8 0 101"))
        ack = await gets(one, "ACK")
        assert audio_line(ack)[1] == ("8", "101")
        await virtual.settle()
        assert ear.told == ["answered"]
        await leg.hangup()
        await gets(one, "BYE")

    hunt.play(scenario, handsets=1)


@pytest.mark.parametrize("offer", [b"", sdp(4000, formats="18 101")])
def test_an_offer_that_cannot_be_taken(offer: bytes) -> None:
    async def scenario(lab: Lab) -> None:
        (one,) = lab.handsets
        _, ear = await lab.dial(terms=LegTerms("lab", late_offer=True))
        replies(one, await called(one), 200, body=offer)
        assert (await gets(one, "ACK")).body == b""
        await gets(one, "BYE")
        assert ear.told == ["no_media"]

    hunt.play(scenario, handsets=1)

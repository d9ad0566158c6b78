"""What a call's terms and its peer's extras come to on the wire: keys, caps, INFO, dialling."""

import pytest

from bridge.calls.trunks import Trunk
from bridge.errors import SdpError
from bridge.legs.exits import DialOrder
from bridge.legs.sip_leg import LegTerms
from bridge.sip.uri import SipUri
from tests import virtual
from tests.legs.exchange import Exchange, Handset, play, sdp
from tests.ports import HOST

KEY = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40 + b"\r\n"


async def bye(handset: Handset) -> None:
    handset.send("BYE", cseq=99)
    await handset.response(200)


def with_keys(handset: Handset) -> bytes:
    return sdp(handset.rtp_port).replace(b"RTP/AVP", b"RTP/SAVP") + KEY


def test_keys_are_answered_with_keys() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        handset.send("INVITE", body=with_keys(handset))
        await virtual.settle()
        await exchange.leg.answer()
        answer = await handset.response(200)
        assert b"RTP/SAVP" in answer.body
        assert b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" in answer.body
        assert b"A" * 40 not in answer.body
        assert exchange.leg.media_security == "sdes"
        handset.send("ACK")
        await bye(handset)

    play(scenario, insecure_keys=True)


def test_keys_that_everybody_could_read_are_refused() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        handset.send("INVITE", body=with_keys(handset))
        await handset.response(488)
        handset.send("ACK")
        assert exchange.legs == []

    play(scenario)


def test_a_trunk_that_requires_keys_gets_no_call_without() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        handset.send("INVITE", body=sdp(handset.rtp_port))
        await handset.response(488)
        handset.send("ACK")
        assert exchange.legs == []

    trunk = Trunk("carrier", addresses=(HOST,), srtp="required")
    play(scenario, insecure_keys=True, trunks=[trunk])


def test_a_trunk_that_is_full() -> None:
    async def scenario(exchange: Exchange) -> None:
        first = await exchange.up()
        for _ in range(2):
            late = await exchange.handset()
            late.send("INVITE", body=sdp(late.rtp_port))
            assert (await late.response(503)).headers.get("Retry-After") == "5"
            late.send("ACK")
        await bye(first)
        again = await exchange.handset()
        again.send("INVITE", body=sdp(again.rtp_port))
        await virtual.settle()
        exchange.legs[-1].reject(486)
        await again.response(486)
        again.send("ACK")

    play(scenario, trunks=[Trunk("carrier", addresses=(HOST,), max_calls=1)])


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n"),
        ("application/dtmf", b"5"),
    ],
)
def test_keys_pressed_in_info(content_type: str, body: bytes) -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.up()
        handset.send("INFO", cseq=2, body=body, headers=[("Content-Type", content_type)])
        await handset.response(200)
        exchange.tick()
        assert exchange.ears[0].digits == "5"
        await bye(handset)

    play(scenario)


def test_keys_that_must_pass_and_may_not_leave_no_port_taken() -> None:
    async def scenario(exchange: Exchange) -> None:
        target = SipUri.parse(f"sip:bob@{HOST}:9")
        with pytest.raises(SdpError):
            await exchange.phones.dial(DialOrder(target, "", LegTerms(srtp="required")))
        exchange.prove_that_media_is_gone()

    play(scenario)

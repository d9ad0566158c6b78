"""Phones call over loopback; tests end with the proof that nothing of the call is left."""

import struct
from collections.abc import Awaitable, Callable

import pytest

from bridge.audio.codecs import PCMA, PCMU
from bridge.rtp.packet import RtpPacket
from bridge.sdp.description import SessionDescription
from bridge.sip.message import Request, Response
from tests import virtual
from tests.backends.puppet import tone
from tests.legs.exchange import Exchange, Handset, sdp
from tests.ports import HOST

Scenario = Callable[[Exchange], Awaitable[None]]


def play(
    scenario: Scenario,
    *,
    pairs: int = 4,
    admits: bool = True,
    media_host: str = HOST,
    goes_on: bool = True,
) -> None:
    async def main() -> None:
        exchange = await Exchange(pairs=pairs, admits=admits, media_host=media_host).open()
        try:
            await scenario(exchange)
            await virtual.settle()
            if goes_on:
                await exchange.prove_that_nothing_is_left()
        finally:
            await exchange.close()

    virtual.run(main(), patience_s=0.002)


def audio_line(response: Request | Response) -> tuple[int, tuple[str, ...]]:
    (media,) = SessionDescription.parse(response.body.decode()).media
    return media.port, tuple(media.formats)


def direction(response: Response) -> str:
    (media,) = SessionDescription.parse(response.body.decode()).media
    return str(media.direction)


def packet(number: int, payload: bytes = b"\x80" * 160, *, payload_type: int = 0) -> RtpPacket:
    return RtpPacket(
        payload_type=payload_type,
        marker=False,
        sequence_number=number,
        timestamp=160 * number,
        ssrc=7,
        payload=payload,
    )


def key(digit: int) -> bytes:
    return struct.pack(">BBH", digit, 10, 160)


async def bye(exchange: Exchange, handset: Handset) -> None:
    handset.send("BYE", cseq=99)
    await handset.response(200)
    assert exchange.told[-1] == "remote_hangup"


# Setting up


def test_a_call_is_answered_and_carries_audio_both_ways() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.ringing()
        leg = exchange.leg
        assert leg.stream is not None
        assert (exchange.ports.in_use, len(exchange.plane)) == (1, 0)
        await leg.answer()
        answer = await handset.response(200)
        port, formats = audio_line(answer)
        assert formats == ("0", "101")
        assert exchange.told == []
        handset.send("ACK")
        await virtual.settle()
        assert exchange.told == ["answered"]
        assert len(exchange.plane) == 1

        heard: list[int] = []
        leg.stream.on_frame = lambda pcm: heard.append(len(pcm))
        leg.stream.playout.write("", tone(20))
        for number in range(10):
            handset.speak(("127.0.0.1", port), packet(number))
            exchange.tick()
            await virtual.wait(0.02)
        assert heard
        assert set(heard) == {480}
        spoken = RtpPacket.parse(handset.rtp.recv(2048))
        assert (spoken.payload_type, len(spoken.payload)) == (0, 160)
        await bye(exchange, handset)

    play(scenario)


def test_the_headers_of_the_invite_without_its_credentials() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        secrets = [("Authorization", "Digest x"), ("proxy-authorization", "Digest y")]
        headers = [*secrets, ("X-Tenant", "7"), ("Diversion", "<sip:1@x>"), ("x-tenant", "8")]
        handset.send("INVITE", body=sdp(handset.rtp_port), headers=headers)
        await virtual.settle()
        kept = exchange.leg.headers
        assert [value for name, value in kept if name.lower() == "x-tenant"] == ["7", "8"]
        assert not any("Digest" in value for _, value in kept)
        assert kept[0][0] == "Via"
        exchange.leg.reject(486)
        await handset.response(486)
        handset.send("ACK")

    play(scenario)


def test_an_offer_inside_a_multipart_body() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        body = (
            b"--cut\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n"
            b"--cut\r\nContent-Type: application/sdp\r\n\r\n"
            + sdp(handset.rtp_port, formats="8 96")
        )
        handset.send(
            "INVITE",
            body=body + b"\r\n--cut--\r\n",
            headers=[("Content-Type", "multipart/mixed;boundary=cut")],
        )
        await virtual.settle()
        await exchange.leg.answer()
        answer = await handset.response(200)
        assert audio_line(answer)[1] == ("8", "96")
        handset.send("ACK")
        await virtual.settle()
        assert exchange.leg.stream is not None
        assert exchange.leg.stream.codec is PCMA
        await bye(exchange, handset)

    play(scenario)


def test_our_offer_in_the_200_and_the_answer_in_the_ack() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.ringing(b"")
        leg = exchange.leg
        assert leg.stream is None
        await leg.answer()
        offer = await handset.response(200)
        assert audio_line(offer)[1][:2] == ("0", "8")
        handset.send("ACK", body=sdp(handset.rtp_port, formats="8 101"))
        await virtual.settle()
        assert exchange.told == ["answered"]
        assert leg.stream is not None
        assert leg.stream.codec is PCMA
        await bye(exchange, handset)

    play(scenario)


@pytest.mark.parametrize("answer", [b"", b"v=0", sdp(4000, formats="18 101")])
def test_an_ack_without_a_usable_answer_ends_the_call(answer: bytes) -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.ringing(b"")
        await exchange.leg.answer()
        await handset.response(200)
        handset.send("ACK", body=answer)
        await handset.request("BYE")
        assert exchange.told == ["no_media"]

    play(scenario)


# Refusals


@pytest.mark.parametrize("offer", [sdp(4000, formats="18 101"), b"v=0\r\nnonsense\r\n"])
def test_nothing_in_common(offer: bytes) -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        handset.send("INVITE", body=offer)
        refusal = await handset.response(488)
        assert refusal.headers.get("Warning") == '305 - "Incompatible media format"'
        handset.send("ACK")
        assert exchange.legs == []

    play(scenario)


def test_no_rtp_port_is_free() -> None:
    async def scenario(exchange: Exchange) -> None:
        taken = exchange.ports.open()
        handset = await exchange.handset()
        handset.send("INVITE", body=sdp(handset.rtp_port))
        refusal = await handset.response(503)
        assert refusal.headers.get("Retry-After") == "5"
        handset.send("ACK")
        assert exchange.legs == []
        taken.close()

    play(scenario, pairs=1)


def test_media_cannot_be_had_at_all() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        handset.send("INVITE", body=sdp(handset.rtp_port))
        await handset.response(500)
        handset.send("ACK")
        assert exchange.legs == []

    play(scenario, media_host="192.0.2.1")


def test_draining() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.up()
        exchange.phones.drain()
        late = await exchange.handset()
        late.send("INVITE", body=sdp(late.rtp_port))
        assert (await late.response(503)).headers.get("Retry-After")
        late.send("ACK")
        await bye(exchange, handset)

    play(scenario)


def test_a_stranger_is_met_with_silence() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.handset()
        handset.send("INVITE", body=sdp(handset.rtp_port))
        await virtual.wait(5)
        assert handset.inbox.empty()
        assert exchange.legs == []

    play(scenario, admits=False)


# Endings


def test_cancel() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.ringing()
        handset.send("CANCEL")
        await handset.response(200)
        await handset.response(487)
        handset.send("ACK")
        await virtual.settle()
        assert exchange.told == ["cancelled"]
        # Whoever accepts now is too late, and nothing is sent.
        await exchange.leg.answer()
        exchange.leg.reject(480)
        await exchange.leg.hangup()
        await virtual.wait(10)
        assert handset.inbox.empty()
        assert exchange.told == ["cancelled"]

    play(scenario)


@pytest.mark.parametrize(("status", "retry_after"), [(486, None), (603, None), (503, "5")])
def test_reject(status: int, retry_after: str | None) -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.ringing()
        exchange.leg.reject(status)
        refusal = await handset.response(status)
        assert refusal.headers.get("Retry-After") == retry_after
        handset.send("ACK")
        assert exchange.told == ["rejected"]

    play(scenario)


def test_hangup_while_it_rings() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.ringing()
        await exchange.leg.hangup()
        await handset.response(480)
        handset.send("ACK")
        assert exchange.told == ["local_hangup"]

    play(scenario)


def test_hangup() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.up()
        await exchange.leg.hangup()
        await exchange.leg.hangup()
        await handset.request("BYE")
        assert exchange.told == ["answered", "local_hangup"]
        await virtual.wait(5)
        assert handset.inbox.empty()

    play(scenario)


def test_hangup_before_the_ack_says_bye_after_it() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.ringing()
        await exchange.leg.answer()
        await handset.response(200)
        await exchange.leg.hangup()
        assert handset.inbox.empty()
        handset.send("ACK")
        await handset.request("BYE")
        assert exchange.told == ["local_hangup"]

    play(scenario)


def test_no_ack_comes() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.ringing()
        await exchange.leg.answer()
        await virtual.wait(31)
        assert exchange.told == []
        await virtual.wait(2)
        assert exchange.told == ["no_ack"]
        await handset.request("BYE")

    play(scenario)


def test_the_service_stops_in_the_middle_of_a_call() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.up()
        await exchange.phones.close()
        await handset.request("BYE")
        assert exchange.told == ["answered", "local_hangup"]
        exchange.prove_that_media_is_gone()

    play(scenario, goes_on=False)


def test_a_caller_who_was_never_spoken_to_gets_no_rtcp_bye() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.ringing()
        # RFC 3550 section 6.3.7; whoever put this address into the offer may not own it.
        sent = exchange.leg.media.socket.stats
        exchange.leg.reject(603)
        await handset.response(603)
        handset.send("ACK")
        assert (sent.sent, sent.sent_rtcp) == (0, 0)

    play(scenario)


# In the middle of a call


def test_hold_and_resume() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.up()
        stream = exchange.leg.stream
        assert stream is not None
        handset.send("INVITE", cseq=2, body=sdp(handset.rtp_port, direction="sendonly", version=2))
        held = await handset.response(200)
        handset.send("ACK", cseq=2)
        assert direction(held) == "recvonly"
        assert stream.held

        # Music stopped long ago, and nothing has come since.
        await virtual.wait(60)
        assert exchange.told == ["answered", "held"]
        handset.send("INVITE", cseq=3, body=sdp(handset.rtp_port, version=3))
        resumed = await handset.response(200)
        handset.send("ACK", cseq=3)
        assert direction(resumed) == "sendrecv"
        assert not stream.held
        await virtual.wait(5)
        assert exchange.told == ["answered", "held", "resumed"]
        await bye(exchange, handset)

    play(scenario)


def test_a_session_refresh_changes_nothing() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.ringing()
        await exchange.leg.answer()
        first = await handset.response(200)
        handset.send("ACK")
        handset.send("INVITE", cseq=2, body=sdp(handset.rtp_port))
        again = await handset.response(200)
        handset.send("ACK", cseq=2)
        assert again.body == first.body
        handset.send("UPDATE", cseq=3)
        assert (await handset.response(200)).body == b""
        handset.send("UPDATE", cseq=4, body=sdp(handset.rtp_port))
        assert (await handset.response(200)).body == first.body
        assert exchange.told == ["answered"]
        await bye(exchange, handset)

    play(scenario)


def test_a_new_address_of_the_caller() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.up()
        handset.send("INVITE", cseq=2, body=sdp(4242, version=2))
        await handset.response(200)
        handset.send("ACK", cseq=2)
        assert exchange.leg.media.socket.remote == ("127.0.0.1", 4242)
        await bye(exchange, handset)

    play(scenario)


def test_the_caller_asks_for_our_offer() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.up()
        handset.send("INVITE", cseq=2)
        offer = await handset.response(200)
        assert audio_line(offer)[0] == exchange.leg.media.socket.address[1]
        handset.send("ACK", cseq=2, body=sdp(4242, formats="0 101", version=2))
        await virtual.settle()
        assert exchange.leg.media.socket.remote == ("127.0.0.1", 4242)
        assert exchange.leg.stream is not None
        assert exchange.leg.stream.codec is PCMU
        assert exchange.told == ["answered"]
        await bye(exchange, handset)

    play(scenario)


def test_a_re_offer_that_cannot_be_taken_leaves_the_call_up() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.up()
        tag = handset.to_tag
        handset.send("INVITE", cseq=2, body=sdp(4242, formats="18 101", version=2))
        await handset.response(488)
        handset.send("ACK", cseq=2)
        assert handset.to_tag == tag
        assert exchange.leg.media.socket.remote == ("127.0.0.1", handset.rtp_port)
        assert exchange.told == ["answered"]
        await bye(exchange, handset)

    play(scenario)


def test_keys_are_heard_also_after_their_payload_type_changed() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.up()
        server = exchange.leg.media.socket.address
        handset.speak(server, packet(1, key(5), payload_type=101))
        exchange.tick()
        handset.send("INVITE", cseq=2, body=sdp(handset.rtp_port, formats="0 96", version=2))
        await handset.response(200)
        handset.send("ACK", cseq=2)
        handset.speak(server, packet(9, key(6), payload_type=96))
        await virtual.settle()
        exchange.tick()
        assert exchange.ears[0].digits == "56"
        await bye(exchange, handset)

    play(scenario)


def test_a_caller_who_goes_silent_is_hung_up_on() -> None:
    async def scenario(exchange: Exchange) -> None:
        handset = await exchange.up()
        await virtual.wait(20)
        handset.speak(exchange.leg.media.socket.address, packet(1))
        exchange.tick()
        await virtual.wait(25)
        assert exchange.told == ["answered"]
        await virtual.wait(7)
        assert exchange.told == ["answered", "media_timeout"]
        await handset.request("BYE")

    play(scenario)

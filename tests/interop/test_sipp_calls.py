"""sipp calls us, by the rows of the conformance matrix that one call shows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.rows import Cases, Make
from tests.peers.service import Service
from tests.peers.sipp import CALLED, Scenario, play, sdp

pytestmark = pytest.mark.interop("sipp")

NOBODY = f"<{CALLED}>;tag=nobody"
UNPLAYABLE = "m=audio 7000 RTP/AVP 18"
TIMED = "Supported: timer"

case = Cases()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(session__backend="echo") as service:
        yield service
        assert service.calls() == []


@case(1)
def a_call() -> Scenario:
    call = Scenario().invite().expect(100, timeout_ms=200).expect(180)
    return call.expect(200, "m=audio [1-9][0-9]+ RTP/AVP 0 101").ack().pause(100).bye()


@case(9)
def a_cancel_that_crosses_the_200() -> Scenario:
    call = Scenario().invite().ringing().expect(200).cancel().expect(200).ack()
    return call.request("OPTIONS").expect(200).bye()


@case(10)
def what_matches_nothing() -> Scenario:
    lost = Scenario()
    for method in ("BYE", "INFO", "CANCEL"):
        lost.request(method, to="" if method == "CANCEL" else NOBODY).expect(481)
    lost.request("ACK", to=NOBODY, retransmits=False).pause(300)
    return lost.request("OPTIONS").expect(200)


@case(11)
def a_tag_that_is_unknown() -> Scenario:
    lost = Scenario().request("INVITE", sdp(), to=NOBODY)
    return lost.expect(100, optional=True).expect(481).ack_refusal()


@case(11)
def a_merged_request() -> Scenario:
    call = Scenario().call().merged_invite().expect(482).ack_refusal("-fork")
    return call.bye()


@case(12)
def options() -> Scenario:
    told = "Allow: .*INVITE.*BYE", "Accept: .*application/sdp", "Supported: .*timer"
    call = Scenario().request("OPTIONS").expect(200, *told).call()
    return call.request("OPTIONS").expect(200, *told).bye()


@case(13)
def bad_requests() -> Scenario:
    odd = Scenario().request("FOO").expect(405, "Allow: .*INVITE")
    return odd.request("OPTIONS", headers=["To: <sip:another@127.0.0.1>"]).expect(400)


@case(13)
def a_request_without_from() -> Scenario:
    return (
        Scenario()
        .say(
            "OPTIONS sip:agent@127.0.0.1 SIP/2.0\n"
            "Via: SIP/2.0/UDP [local_ip]:[local_port];branch=z9hG4bK-[call_number]-m\n"
            "To: <sip:agent@127.0.0.1>\n"
            "Call-ID: [call_id]\n"
            "CSeq: 1 OPTIONS\n"
            "Max-Forwards: 70\n"
            "Content-Length: 0\n"
        )
        .expect(400)
    )


@case(14)
def what_is_not_supported() -> Scenario:
    odd = Scenario().invite(headers=["Require: foo"]).expect(420, "Unsupported: foo").ack_refusal()
    odd.request("INVITE", "hello", content_type="text/plain")
    odd.expect(415, "Accept: .*application/sdp").ack_refusal()
    odd.invite(uri="nobody:agent").expect(416).ack_refusal()
    odd.invite(version="SIP/7.0").expect(505).ack_refusal()
    return odd.request("OPTIONS", max_forwards=0).expect(200)


@case(17)
def compact_forms_and_odd_spacing() -> Scenario:
    return (
        Scenario()
        .say(
            "OPTIONS sip:my_host@127.0.0.1 SIP/2.0\n"
            "v: SIP / 2.0 / UDP [local_ip]:[local_port] ;branch=z9hG4bK-[call_number]-o ;rport\n"
            'f: "Doe, (Jane) \\"J\\"" <sip:jane@my_host.local>;TAG=x\n'
            "t : <sip:agent@host-of-3_parts.;lr>\n"
            "I: [call_id]\n"
            "cseq:   0007   OPTIONS\n"
            "MAX-forwards : 70\n"
            "k: timer ,100rel,\n"
            "l: 0\n"
        )
        .expect(200, "SIP/2.0 200")
    )


@case(18)
def bye_with_a_wrong_tag() -> Scenario:
    return Scenario().call().request("BYE", to=NOBODY).expect(481).bye()


@case(18)
def bye_instead_of_the_ack_of_a_reinvite() -> Scenario:
    return Scenario().call().invite().ringing().expect(200).bye()


@case(19)
def three_ways_of_hold() -> Scenario:
    call = Scenario().call()
    for body, answer in (
        (sdp(direction="sendonly", version=2), "a=recvonly"),
        (sdp(direction="sendrecv", version=3), "a=sendrecv"),
        (sdp(direction="inactive", version=4), "a=inactive"),
        (sdp(version=5), "a=sendrecv"),
        (sdp(version=6, connection="0.0.0.0"), "a=(inactive|recvonly)"),
        (sdp(version=7), "a=sendrecv"),
    ):
        call.invite(body).ringing().expect(200, answer).ack().pause(50)
    return call.bye()


@case(20)
def reinvite_without_sdp() -> Scenario:
    call = Scenario().call().invite("").ringing().expect(200, "m=audio [1-9]").ack(sdp(version=2))
    return call.bye()


@case(20)
def a_failed_reinvite_keeps_the_call() -> Scenario:
    call = Scenario().call().invite(sdp(UNPLAYABLE)).expect(100, optional=True).expect(488)
    return call.ack_refusal().request("OPTIONS").expect(200).bye()


@case(21)
def invite_without_sdp() -> Scenario:
    call = Scenario().invite("").ringing().expect(200, "m=audio [1-9]").ack(sdp())
    return call.pause(200).bye()


@case(21)
def an_answer_in_the_ack_that_is_none() -> Scenario:
    call = Scenario().invite("").ringing().expect(200).ack(sdp(UNPLAYABLE))
    return call.answer_bye()


@case(23)
def session_expires() -> Scenario:
    short = Scenario().invite(headers=["Session-Expires: 60", TIMED])
    return short.expect(422, "Min-SE: 90").ack_refusal()


@case(23)
def the_callee_refreshes() -> Scenario:
    asks = ["Session-Expires: 1800;refresher=uas", TIMED]
    return Scenario().call(None, asks, "Session-Expires: 1800;refresher=uas").bye()


@case(23)
def the_caller_refreshes() -> Scenario:
    asks = ["Session-Expires: 1800;refresher=uac", TIMED]
    told = "Session-Expires: 1800;refresher=uac", "Require: timer"
    return Scenario().call(None, asks, *told).bye()


@case(26)
def numbers_of_requests() -> Scenario:
    call = Scenario().call().request("INFO", cseq=40).expect(200)
    call.request("OPTIONS", cseq=7).expect(500)
    return call.bye()


@case(31)
def behind_nat() -> Scenario:
    private = "10.9.8.7:5099"
    call = Scenario(via=private, contact=f"<sip:sipp@{private}>")
    body = sdp(connection="10.9.8.7")
    told = "received=127.0.0.1", "rport=[1-9][0-9]+"
    return call.call(body, (), *told).request("OPTIONS").expect(200, *told).bye()


@case(43)
def reliable_ringing() -> Scenario:
    call = Scenario().invite(headers=["Require: 100rel"]).expect(100, optional=True)
    call.expect(180, "Require: 100rel", early=True, capture=("rseq", "RSeq: *([0-9]+)"))
    # The 200 waits for this.
    call.pause(700).request("PRACK", headers=["RAck: 77 1 INVITE"]).expect(481)
    call.request("PRACK", headers=["RAck: [$rseq] 1 INVITE"], cseq=3).expect(200)
    call.expect(200, "CSeq: 1 INVITE")
    return call.ack().bye()


@case(45)
def reliable_ringing_without_an_offer() -> Scenario:
    """The first reliable response brings our offer, and the PRACK the answer."""
    call = Scenario().invite("", ["Require: 100rel"]).expect(100, optional=True)
    told = "Require: 100rel", "m=audio [1-9]"
    call.expect(180, *told, early=True, capture=("rseq", "RSeq: *([0-9]+)"))
    call.request("PRACK", sdp(), ["RAck: [$rseq] 1 INVITE"]).expect(200)
    return call.expect(200, "CSeq: 1 INVITE.*Content-Length: *0").ack().bye()


@case(47)
def a_transfer_that_nobody_allowed() -> Scenario:
    asks = ["Refer-To: <sip:bob@127.0.0.1>"]
    call = Scenario().call().request("REFER", headers=asks).expect(603)
    return call.request("OPTIONS").expect(200).bye()


@case(49)
def taking_over_a_call_that_is_not_there() -> Scenario:
    asks = ["Replaces: a@b;to-tag=1;from-tag=2"]
    return Scenario().invite(headers=asks).expect(100, optional=True).expect(481).ack_refusal()


@case(50)
def a_transfer_outside_of_a_call() -> Scenario:
    asks = ["Refer-To: <sip:bob@127.0.0.1>", "Refer-Sub: false"]
    return Scenario().request("REFER", headers=asks).expect(603)


@case(51)
def messages_and_subscriptions() -> Scenario:
    odd = Scenario().request("MESSAGE", "hello", content_type="text/plain").expect(405, "Allow: ")
    return odd.request("SUBSCRIBE", headers=["Event: presence"]).expect(489)


@case(54)
def keys_in_the_clear() -> Scenario:
    keys = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40
    media = f"m=audio [media_port] RTP/SAVP 0\n{keys}"
    return Scenario().invite(sdp(media)).expect(100, optional=True).expect(488).ack_refusal()


@case(56)
def video_and_fax() -> Scenario:
    fax = "m=image 7002 udptl t38"
    lines = (
        f"m=video 7004 RTP/AVP 96\na=rtpmap:96 H264/90000\n{fax}\nm=audio [media_port] RTP/AVP 0"
    )
    told = "m=video 0 .*m=image 0 .*m=audio [1-9]"
    call = Scenario().call(sdp(lines), (), told)
    call.invite(sdp(fax, version=2)).expect(100, optional=True).expect(488).ack_refusal()
    return call.request("OPTIONS").expect(200).bye()


@case(58)
def a_large_datagram() -> Scenario:
    large = [f"X-Pad-{number}: {'x' * 900}" for number in range(20)]
    return Scenario().call(None, large).bye()


@pytest.mark.parametrize("make", case)
def test_caller(service: Service, tmp_path: Path, make: Make) -> None:
    play(make(), tmp_path, to=service.sip)

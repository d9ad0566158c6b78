"""We call sipp, by the rows of the conformance matrix: rings, challenges, forks, redirects."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.sdp.negotiation import offer
from bridge.sip.events import CallEnded, OutgoingAnswered
from bridge.sip.outgoing import OutgoingInvite
from tests.interop.rows import Cases, Make
from tests.peers.answering import Answering
from tests.peers.calling import calling, dial, in_state, post, until
from tests.peers.service import Service
from tests.peers.sipp import REST, Scenario, playing, sdp
from tests.ports import free_port

pytestmark = pytest.mark.interop("sipp", "tcpdump")

MD5 = 'Digest realm="lab", nonce="{0}", qop="auth,auth-int", algorithm=MD5'
SHA = 'Digest realm="lab", nonce="{0}", qop="auth", algorithm=SHA-256'

case = Cases()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with calling(username="user", password="secret") as service:
        yield service


def challenge(scenario: Scenario, status: int, *challenges: str) -> Scenario:
    """The next INVITE comes with an answer to it."""
    words = {401: "Unauthorized", 407: "Proxy Authentication Required"}[status]
    name = {401: "WWW-Authenticate", 407: "Proxy-Authenticate"}[status]
    scenario.receive("INVITE")
    lines = [f"{name}: {challenge}" for challenge in challenges]
    return scenario.reply(f"{status} {words}", headers=lines, retransmits=True).receive("ACK")


def taken(scenario: Scenario, *matches: str) -> Scenario:
    """An INVITE that is answered, and hung up on by us."""
    scenario.receive("INVITE", *matches).reply("200 OK", sdp(), retransmits=True)
    return scenario.receive("ACK").answer_bye()


@case(24)
def an_interval_that_is_too_short() -> Scenario:
    call = Scenario().receive("INVITE", "Session-Expires: 1800", "Supported: .*timer")
    call.reply("422 Session Interval Too Small", headers=["Min-SE: 3600"], retransmits=True)
    return taken(call.receive("ACK"), "Session-Expires: 3600", "Min-SE: 3600")


@case(24)
def a_callee_without_timer() -> Scenario:
    return taken(Scenario(), "Session-Expires: 1800")


@case(28)
def recorded_routes() -> Scenario:
    hop = "sip:[local_ip]:[local_port]"
    routes = [f"Record-Route: <{hop};lr;n=1>", f"Record-Route: <{hop};lr=on;r2=on;n=2>"]
    contact = "<sip:bob@10.9.8.7:5099>"
    reversed_routes = "sip:bob@10.9.8.7:5099 SIP", "Route: .*n=2.*n=1"
    call = Scenario().receive("INVITE").reply("180 Ringing", headers=routes, contact=contact)
    call.reply("200 OK", sdp(), routes, contact=contact, retransmits=True)
    call.receive("ACK", *reversed_routes).receive("BYE", *reversed_routes)
    return call.reply(tag="")


@case(29)
def a_strict_router() -> Scenario:
    call = Scenario().receive("INVITE")
    routes = ["Record-Route: <sip:[local_ip]:[local_port];n=1>"]
    contact = "<sip:bob@10.9.8.7:5099>"
    call.reply("200 OK", sdp(), routes, contact=contact, retransmits=True)
    strict = "(ACK|BYE) sip:[^ ]*n=1", "Route: <sip:bob@10.9.8.7:5099>"
    return call.receive("ACK", *strict).receive("BYE", *strict).reply(tag="")


@case(33)
def two_phones_answer() -> Scenario:
    call = Scenario().receive_invite().reply("180 Ringing", tag="a").reply("180 Ringing", tag="b")
    call.reply_to_invite("200 OK", sdp(), tag="a").receive("ACK", f"To: {REST}a1")
    call.reply_to_invite("200 OK", sdp(), tag="b").receive("ACK", f"To: {REST}b1")
    call.receive("BYE", f"To: {REST}b1").reply(tag="")
    return call.receive("BYE", f"To: {REST}a1").reply(tag="")


@case(35)
def a_password_by_sha_256() -> Scenario:
    call = challenge(Scenario(), 407, SHA.format("n1"), MD5.format("n2"))
    return taken(call, f"Proxy-Authorization: Digest {REST}nonce=.n1{REST}SHA-256")


@case(35)
def a_nonce_that_is_stale() -> Scenario:
    call = challenge(Scenario(), 401, MD5.format("n1"))
    call = challenge(call, 401, MD5.format("n2") + ", stale=true")
    return taken(call, f"Authorization: Digest {REST}nonce=.n2")


@case(35)
def a_proxy_and_a_server_that_ask() -> Scenario:
    call = challenge(Scenario(), 407, MD5.format("n1"))
    call = challenge(call, 401, MD5.format("n2"))
    both = f"Proxy-Authorization: {REST}n1", f"[[:cntrl:]]Authorization: {REST}n2"
    return taken(call, *both)


@case(41)
def early_media_then_the_same_again() -> Scenario:
    call = Scenario().receive("INVITE").reply("183 Session Progress", sdp()).pause(100)
    call.reply("200 OK", sdp(), retransmits=True)
    return call.receive("ACK").answer_bye()


@case(41)
def early_media_and_no_more_sdp() -> Scenario:
    call = Scenario().receive("INVITE").reply("183 Session Progress", sdp()).pause(100)
    call.reply("200 OK", retransmits=True)
    return call.receive("ACK").answer_bye()


@case(42)
def many_kinds_of_ringing() -> Scenario:
    call = Scenario().receive("INVITE").reply("183 Session Progress", sdp())
    call.reply("180 Ringing").reply("181 Call Is Being Forwarded", tag="b")
    call.reply("183 Session Progress", sdp(), tag="b").pause(100)
    call.reply("200 OK", sdp(), tag="b", retransmits=True)
    return call.receive("ACK").answer_bye()


@case(44)
def reliable_ringing() -> Scenario:
    """Each acknowledged once: neither again for a copy, nor before its turn."""
    contact = "<sip:[local_ip]:[local_port];early=1>"
    call = Scenario().receive_invite("Supported: .*100rel")

    def rings(status: str, number: int, body: str = "") -> None:
        asks = ["Require: 100rel", f"RSeq: {number}"]
        call.reply_to_invite(status, body, asks, contact=contact)

    def acknowledged(number: int) -> None:
        told = f"RAck: {number} [0-9]+ INVITE", "PRACK sip:[^ ]*early=1"
        call.receive("PRACK", *told).reply(tag="")

    rings("183 Session Progress", 7, sdp())
    acknowledged(7)
    rings("183 Session Progress", 7, sdp())
    rings("180 Ringing", 9)
    # A PRACK now would fail the call.
    call.pause(700)
    rings("180 Ringing", 8)
    acknowledged(8)
    return call.reply_to_invite("200 OK", sdp()).receive("ACK").answer_bye()


@pytest.mark.parametrize("make", case)
def test_callee(service: Service, tmp_path: Path, make: Make) -> None:
    with playing(make(), tmp_path) as phone:
        call_id = dial(service, f"sip:bob@127.0.0.1:{phone.port}")
        assert until(service, call_id, lambda r: r["state"] != "ringing")["state"] == "active"
        time.sleep(0.1)
        post(service, call_id, "hangup")


@pytest.mark.matrix(35, peer="sipp")
def test_a_password_that_is_wrong(service: Service, tmp_path: Path) -> None:
    """It is tried twice, as there may be a proxy and one behind it."""
    call = Scenario()
    for nonce in ("n1", "n2", "n3"):
        challenge(call, 407, MD5.format(nonce))
    with playing(call.pause(500), tmp_path) as phone:
        call_id = dial(service, f"sip:bob@127.0.0.1:{phone.port}")
        assert until(service, call_id, in_state("ended"))["sip_status"] == 407


@pytest.mark.matrix(39, peer="sipp")
@pytest.mark.parametrize("status", ["302 Moved Temporarily", "305 Use Proxy", "380 Alternative"])
def test_a_redirection_is_told(service: Service, tmp_path: Path, status: str) -> None:
    elsewhere = ["Contact: <sip:eve@127.0.0.1:9>"]
    call = Scenario().receive("INVITE").reply(status, headers=elsewhere, retransmits=True)
    with playing(call.receive("ACK").pause(300), tmp_path) as phone:
        call_id = dial(service, f"sip:bob@127.0.0.1:{phone.port}")
        ended = until(service, call_id, in_state("ended"))
        assert ended["sip_status"] == int(status[:3])


@pytest.mark.matrix(21, peer="sipp")
def test_the_callee_makes_the_offer(tmp_path: Path) -> None:
    call = Scenario().receive("INVITE", "Content-Length: *0")
    call.reply("200 OK", sdp(), retransmits=True).receive("ACK", "m=audio [1-9]")
    with calling(late_offer=True) as service, playing(call.answer_bye(), tmp_path) as phone:
        call_id = dial(service, f"sip:bob@127.0.0.1:{phone.port}")
        until(service, call_id, in_state("active"))
        post(service, call_id, "hangup")


@pytest.mark.matrix(34, peer="sipp")
def test_cancel_waits_for_the_first_response(service: Service, tmp_path: Path) -> None:
    call = Scenario().receive_invite().pause(800).reply("180 Ringing").receive("CANCEL").reply()
    call.reply_to_invite("487 Request Terminated")
    with playing(call.receive("ACK"), tmp_path) as phone:
        call_id = dial(service, f"sip:bob@127.0.0.1:{phone.port}")
        time.sleep(0.2)
        post(service, call_id, "hangup")


@pytest.mark.matrix(58, peer="sipp")
def test_what_is_large_goes_by_tcp(service: Service, tmp_path: Path) -> None:
    headers = {f"X-Pad-{number}": "x" * 200 for number in range(8)}
    with playing(taken(Scenario()), tmp_path, transport="t1") as phone:
        call_id = dial(service, f"sip:bob@127.0.0.1:{phone.port}", headers=headers)
        until(service, call_id, in_state("active"))
        post(service, call_id, "hangup")


@pytest.mark.matrix(7, peer="sipp")
def test_50_calls_of_ours_under_15_percent_loss(service: Service, tmp_path: Path) -> None:
    lossy = ("-lost", "15")
    # Our BYE may overtake the ACK that was lost.
    call = Scenario().receive("INVITE").reply("200 OK", sdp(), retransmits=True)
    call.receive("ACK", optional=True).answer_bye()
    with playing(call, tmp_path, *lossy, calls=50, timeout_s=60, recv_timeout_ms=32_000) as phone:
        calls = [dial(service, f"sip:bob@127.0.0.1:{phone.port}") for _ in range(50)]
        for call_id in calls:
            until(service, call_id, in_state("active"), timeout_s=33)
        for call_id in calls:
            post(service, call_id, "hangup")
    assert service.calls() == []


@pytest.mark.matrix(40, peer="sipp")
def test_the_next_target(tmp_path: Path) -> None:
    """Nobody there, then one that is overloaded, then one that answers."""
    overloaded = Scenario().receive("INVITE")
    overloaded.reply("503 Service Unavailable", headers=["Retry-After: 60"], retransmits=True)
    call = Scenario().receive("INVITE").reply("200 OK", sdp(), retransmits=True)
    with (
        Answering(udp=("127.0.0.1", 0)) as caller,
        playing(overloaded.receive("ACK"), tmp_path) as first,
        playing(call.receive("ACK").answer_bye(), tmp_path) as second,
    ):
        ports = (free_port(), first.port, second.port)
        flows = [caller.transport.flow("udp", ("127.0.0.1", port)) for port in ports]
        invite = OutgoingInvite(
            "sip:bob@127.0.0.1",
            tuple(flow for flow in flows if flow is not None),
            "sip:agent@127.0.0.1",
            "sip:bob@127.0.0.1",
            body=str(offer(address="127.0.0.1", port=40002, session_id=1, version=1)).encode(),
        )
        usage = caller.run(lambda now: caller.agent.invite(invite, now))
        caller.wait(OutgoingAnswered)
        caller.run(lambda now: caller.agent.hangup(usage, now))
        caller.wait(CallEnded)
        assert caller.transport.stats.unreachable == 1

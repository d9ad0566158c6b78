from dataclasses import replace

import pytest

from bridge.errors import SipError
from bridge.sip.agent_config import AgentConfig
from bridge.sip.auth import Credentials
from bridge.sip.events import (
    CallEnded,
    Event,
    Flow,
    OutgoingAnswered,
    OutgoingFailed,
    OutgoingProgress,
)
from bridge.sip.message import Headers, Response
from bridge.sip.outgoing import OUTGOING, OutgoingState, OutgoingStep, q850_cause
from tests.sip.playbook import ANSWER, OFFER, TCP, UDP, CallingLadder, caller_request, line

DIGEST = 'Digest realm="example.com",nonce="abc",qop="auth",algorithm=SHA-256'
ALICE = Credentials("alice", "secret", "example.com")


def ends(events: list[Event]) -> list[tuple[int, int | None]]:
    return [(e.status, e.q850) for e in events if isinstance(e, OutgoingFailed)]


def test_whole_call() -> None:
    ladder = CallingLadder().call(headers=(("X-Id", "7"),), contact_user="bot")
    invite = ladder.request("INVITE")
    assert invite.uri == "sip:bob@198.51.100.7:5062"
    assert invite.from_.display_name == "Bot"
    assert invite.from_tag
    assert invite.to_tag is None
    assert invite.body == OFFER
    assert invite.headers.get("x-id") == "7"
    assert invite.headers.get("contact") == "<sip:bot@192.0.2.1:5060>"
    _ = ladder >> ladder.callee(100, "") >> ladder.callee(180) >> ladder.callee(183, body=ANSWER)
    assert ladder.events() == [
        OutgoingProgress(ladder.usage, 180, "Ringing", None, "bob"),
        OutgoingProgress(ladder.usage, 183, "Session Progress", ANSWER, "bob"),
    ]
    ok = ladder.callee(200, body=ANSWER)
    _ = ladder >> ok << "ACK" << None
    ack = ladder.request("ACK")
    assert ack.cseq.number == invite.cseq.number
    assert ack.to_tag == "bob"
    assert ack.top_via.branch != invite.top_via.branch
    (answered,) = ladder.events()
    assert isinstance(answered, OutgoingAnswered)
    assert answered.body == ANSWER
    _ = ladder >> ladder.from_callee("BYE") << 200
    assert ladder.events() == [CallEnded(ladder.usage, "bye")]
    ladder.wait(33)
    assert ladder.idle()


def test_whom_we_call_may_hang_up_without_being_one_who_may_call() -> None:
    ladder = CallingLadder(AgentConfig(admit=lambda flow: False)).answered()
    _ = ladder >> caller_request() << None
    _ = ladder >> caller_request("BYE", to_tag="guessed") << None
    _ = ladder >> ladder.from_callee("BYE") << 200
    assert ladder.events() == [CallEnded(ladder.usage, "bye")]


def test_every_state_ends() -> None:
    assert set(OUTGOING) == set(OutgoingState)
    final = {OutgoingState.ANSWERED, OutgoingState.ENDED}
    for state in OutgoingState:
        reached, frontier = {state}, [state]
        while frontier:
            for follower in OUTGOING[frontier.pop()].values():
                if follower not in reached:
                    reached.add(follower)
                    frontier.append(follower)
        assert reached & final
    # Section 9.1: no CANCEL before a provisional response.
    assert OUTGOING[OutgoingState.CALLING][OutgoingStep.HANGUP] is OutgoingState.GIVEN_UP


def test_each_copy_of_the_2xx_is_acknowledged_alike() -> None:
    ladder = CallingLadder().call()
    ok = ladder.callee(200, body=ANSWER)
    _ = ladder >> ok << "ACK"
    first = bytes(ladder.request("ACK"))
    ladder.events()
    ladder.wait(20)
    _ = ladder >> ok << "ACK"
    assert bytes(ladder.request("ACK")) == first
    assert ladder.events() == []


def test_ack_and_bye_go_by_the_route_and_not_to_the_contact() -> None:
    # Record-Route of the 2xx in reverse; the Contact behind it is private (RFC 3261 12.1.2).
    routes = [("Record-Route", "<sip:203.0.113.2;lr>, <sip:198.51.100.9:5070;lr>")]
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(180, headers=[("Record-Route", "<sip:192.0.2.99;lr>")])
    _ = ladder >> ladder.callee(200, headers=routes, contact="<sip:b@10.0.0.1>", body=ANSWER)
    ((_, flow, ack),) = ladder.sent
    assert flow.remote == ("198.51.100.9", 5070)
    _ = ladder << "ACK"
    assert ladder.request("ACK").uri == "sip:b@10.0.0.1"
    expected = ["<sip:198.51.100.9:5070;lr>", "<sip:203.0.113.2;lr>"]
    assert ack.headers.get_all("route") == expected
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE"
    bye = ladder.request("BYE")
    assert bye.headers.get_all("route") == expected
    assert bye.uri == "sip:b@10.0.0.1"
    assert bye.cseq.number == ladder.request("INVITE").cseq.number + 1


def test_private_contact_without_a_route_is_reached_where_it_answered_from() -> None:
    ladder = CallingLadder().call(
        flows=(replace(UDP, remote=("8.8.8.8", 5060)),), uri="sip:bob@8.8.8.8"
    )
    _ = ladder >> ladder.callee(200, contact="<sip:bob@192.168.1.7>", body=ANSWER)
    ((_, flow, _ack),) = ladder.sent
    assert flow.remote == ("8.8.8.8", 5060)


@pytest.mark.parametrize("contact", [None, "<tel:+1>", "<sip:"])
def test_answer_with_no_good_contact_is_still_an_answer(contact: str | None) -> None:
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(200, contact=contact, body=ANSWER) << "ACK"
    assert ladder.request("ACK").uri == ladder.request("INVITE").uri


def test_timers_a_and_b() -> None:
    ladder = CallingLadder().call().mark()
    ladder.wait(40)
    assert ladder.gaps() == [(at, "INVITE") for at in (0.5, 1.5, 3.5, 7.5, 15.5, 31.5)]
    assert ends(ladder.events()) == [(408, None)]
    assert ladder.idle()


def test_a_phone_may_ring_for_three_minutes() -> None:
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(180)
    ladder.events()
    ladder.mark().wait(180)
    assert ladder.gaps() == []
    _ = ladder >> ladder.callee(200, body=ANSWER) << "ACK"
    assert isinstance(ladder.events()[0], OutgoingAnswered)


def test_offer_of_the_callee_is_answered_in_the_ack() -> None:
    ladder = CallingLadder().call(body=b"")
    ok = ladder.callee(200, body=OFFER)
    _ = ladder >> ok >> ok << None
    ladder.agent.acknowledge_offer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << "ACK"
    assert ladder.request("ACK").body == ANSWER
    assert ladder.request("ACK").content_type == "application/sdp"
    _ = ladder >> ok << "ACK"
    assert ladder.request("ACK").body == ANSWER


def test_hangup_before_the_answer_to_the_callees_offer() -> None:
    ladder = CallingLadder().call(body=b"")
    _ = ladder >> ladder.callee(200, body=OFFER) << None
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "ACK" << "BYE"


def test_fork_with_two_answers() -> None:
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(180, "one") >> ladder.callee(180, "two")
    _ = ladder >> ladder.callee(200, "two", body=ANSWER) << "ACK"
    assert [type(event) for event in ladder.events()] == [
        OutgoingProgress,
        OutgoingProgress,
        OutgoingAnswered,
    ]
    late = ladder.callee(200, "one", body=ANSWER)
    _ = ladder >> late << "ACK"
    assert ladder.request("ACK").to_tag == "one"
    _ = ladder << "BYE"
    assert ladder.request("BYE").to_tag == "one"
    _ = ladder >> late << "ACK" << None >> ladder.reply("BYE", 200)
    assert ladder.events() == []
    assert len(ladder.agent) == 1
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE"
    assert ladder.request("BYE").to_tag == "two"
    _ = ladder >> ladder.reply("BYE", 200)
    ladder.wait(33)
    assert ladder.idle()


def test_cancel_waits_for_a_provisional_response() -> None:
    ladder = CallingLadder().call()
    ladder.agent.hangup(ladder.usage, ladder.now)
    assert ladder.events() == [CallEnded(ladder.usage, "hangup")]
    _ = ladder << None >> ladder.callee(100, "") << "CANCEL"
    cancel, invite = ladder.request("CANCEL"), ladder.request("INVITE")
    assert cancel.top_via == invite.top_via
    assert cancel.to_tag is None
    assert cancel.uri == invite.uri
    assert cancel.cseq.number == invite.cseq.number
    _ = ladder >> ladder.callee(200, method="CANCEL") >> ladder.callee(487) << "ACK"
    assert ladder.request("ACK").top_via == invite.top_via
    assert ladder.events() == []
    ladder.wait(33)
    assert ladder.idle()


def test_cancel_while_ringing_happens_once() -> None:
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(180)
    ladder.agent.hangup(ladder.usage, ladder.now)
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "CANCEL" << None


def test_answer_that_crosses_the_cancel_is_acknowledged_and_ended() -> None:
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(180)
    ladder.agent.hangup(ladder.usage, ladder.now)
    ladder.events()
    _ = ladder << "CANCEL" >> ladder.callee(200, body=ANSWER) << "ACK" << "BYE"
    _ = ladder >> ladder.callee(200, method="CANCEL") >> ladder.reply("BYE", 200)
    assert ladder.events() == []
    ladder.wait(33)
    assert ladder.idle()


def test_answer_to_a_call_given_up_unheard() -> None:
    ladder = CallingLadder().call()
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder >> ladder.callee(200, body=ANSWER) << "ACK" << "BYE"


def test_callee_that_ignores_the_cancel() -> None:
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(180)
    ladder.agent.hangup(ladder.usage, ladder.now)
    ladder.wait(65)
    assert ladder.idle()
    assert ladder.events()[-1] == CallEnded(ladder.usage, "hangup")


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("Q.850;cause=17", 17),
        ('SIP;cause=486, Q.850 ;cause=21;text="x"', 21),
        ("Q.850", None),
        ("Q.850;cause=a", None),
        ("SIP;cause=200", None),
    ],
)
def test_failure_with_a_cause(reason: str, cause: int | None) -> None:
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(486, headers=[("Reason", reason)]) << "ACK"
    assert ends(ladder.events()) == [(486, cause)]
    assert q850_cause(Headers([("Reason", reason)])) == cause
    ladder.wait(33)
    assert ladder.idle()


def test_redirection_is_for_the_owner_to_follow() -> None:
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(302, contact="<sip:carol@example.net>") << "ACK" << None
    (failed,) = ladder.events()
    assert isinstance(failed, OutgoingFailed)
    assert failed.headers.get("contact") == "<sip:carol@example.net>"


def flows(count: int) -> tuple[object, ...]:
    return tuple(replace(UDP, remote=(f"198.51.100.{n}", 5060)) for n in range(1, count + 1))


def test_next_flow_after_503_and_timeout() -> None:
    ladder = CallingLadder().call(flows=flows(3))
    first = ladder.request("INVITE")
    _ = ladder >> ladder.callee(503) << "ACK"
    ((_, flow, _second),) = ladder.sent
    assert flow.remote[0] == "198.51.100.2"
    _ = ladder << "INVITE"
    second = ladder.request("INVITE")
    assert second.top_via.branch != first.top_via.branch
    assert (second.sip_call_id, second.cseq) == (first.sip_call_id, first.cseq)
    ladder.mark().wait(32.1)
    *_copies, (_, _, last) = ladder.sent
    assert line(last) == "INVITE"
    ladder.sent.clear()
    ladder.agent.flow_failed(flows(3)[2], ladder.now)  # type: ignore[arg-type]
    assert ends(ladder.events()) == [(503, None)]
    ladder.wait(33)
    assert ladder.idle()


def test_503_of_who_rang_is_final() -> None:
    ladder = CallingLadder().call(flows=flows(2))
    _ = ladder >> ladder.callee(180) >> ladder.callee(503) << "ACK" << None
    assert ends(ladder.events()) == [(503, None)]


def test_challenges_are_answered_twice_at_most() -> None:
    ladder = CallingLadder().call(credentials=ALICE)
    first = ladder.request("INVITE")
    challenge = [("WWW-Authenticate", DIGEST)]
    _ = ladder >> ladder.callee(401, headers=challenge) << "ACK" << "INVITE"
    second = ladder.request("INVITE")
    assert second.cseq.number == first.cseq.number + 1
    assert second.from_tag == first.from_tag
    assert "alice" in (second.headers.get("authorization") or "")
    _ = ladder >> ladder.callee(407, headers=[("Proxy-Authenticate", DIGEST)]) << "ACK" << "INVITE"
    third = ladder.request("INVITE")
    assert third.headers.get("authorization")
    assert third.headers.get("proxy-authorization")
    _ = ladder >> ladder.callee(401, headers=challenge) << "ACK" << None
    assert ends(ladder.events()) == [(401, None)]


def test_ack_and_bye_of_a_challenged_call() -> None:
    ladder = CallingLadder().call(credentials=ALICE)
    _ = ladder >> ladder.callee(401, headers=[("WWW-Authenticate", DIGEST)]) << "ACK" << "INVITE"
    _ = ladder >> ladder.callee(200, body=ANSWER) << "ACK"
    invite, ack = ladder.request("INVITE"), ladder.request("ACK")
    assert ack.headers.get("authorization") == invite.headers.get("authorization")
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE"
    challenged = ladder.callee(401, method="BYE", headers=[("WWW-Authenticate", DIGEST)])
    _ = ladder >> challenged << "BYE"
    assert ladder.request("BYE").headers.get("authorization")
    _ = ladder >> ladder.reply("BYE", 200)
    ladder.wait(33)
    assert ladder.idle()


@pytest.mark.parametrize("credentials", [None, Credentials("alice", "secret", "elsewhere")])
def test_no_answer_for_other_realms(credentials: Credentials | None) -> None:
    ladder = CallingLadder().call(credentials=credentials)
    _ = ladder >> ladder.callee(401, headers=[("WWW-Authenticate", DIGEST)]) << "ACK" << None


def test_longer_interval_after_422() -> None:
    ladder = CallingLadder().call(session_expires=90)
    assert ladder.request("INVITE").session_expires == (90, None)
    _ = ladder >> ladder.callee(422, headers=[("Min-SE", "600")]) << "ACK" << "INVITE"
    assert ladder.request("INVITE").session_expires == (600, None)
    assert ladder.request("INVITE").min_se == 600


def test_bye_of_who_only_rang() -> None:
    # All copies of the 2xx were lost, and the callee has given up.
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(180)
    ladder.events()
    _ = ladder >> ladder.from_callee("BYE") << 200 << "CANCEL"
    assert ends(ladder.events()) == [(487, None)]
    ladder.wait(65)
    assert ladder.idle()


def test_request_that_overtakes_the_answer_is_asked_to_come_again() -> None:
    ladder = CallingLadder().call()
    _ = ladder >> ladder.callee(180) >> ladder.from_callee("INFO") << 500
    assert ladder.response(500).retry_after is not None


def test_connection_lost_before_anything_came() -> None:
    ladder = CallingLadder(flow=TCP).call()
    assert ladder.agent.flow_in_use(TCP)
    ladder.agent.flow_failed(TCP, ladder.now)
    assert ends(ladder.events()) == [(503, None)]
    assert ladder.idle()


@pytest.mark.parametrize(
    "change",
    [
        {"headers": (("X", "a\r\nVia: b"),)},
        {"uri": "sip:bob@example.com\r\nX: y"},
        {"to": "<sip:"},
        {"from_": "Bot\r\n <sip:a@b>"},
    ],
)
def test_what_cannot_be_written_is_not_sent(change: dict[str, object]) -> None:
    ladder = CallingLadder()
    with pytest.raises(SipError):
        ladder.call(**change)
    assert ladder.idle()
    _ = ladder << None


def test_reliable_responses_are_acknowledged_once_and_in_order() -> None:
    ladder = CallingLadder().call()
    invite = ladder.request("INVITE")
    assert "100rel" in invite.supported

    def progress(status: int, rseq: int) -> Response:
        headers = [("Require", "100rel"), ("RSeq", str(rseq))]
        return ladder.callee(status, headers=headers, contact="<sip:early@198.51.100.7:5062>")

    first = progress(183, 700)
    _ = ladder >> first << "PRACK"
    prack = ladder.request("PRACK")
    assert prack.rack == (700, invite.cseq.number, "INVITE")
    assert prack.uri == "sip:early@198.51.100.7:5062"
    assert prack.cseq.number == invite.cseq.number + 1
    _ = ladder >> first << None >> progress(180, 702) << None
    _ = ladder >> ladder.callee(200, method="PRACK") >> progress(180, 701) << "PRACK"
    assert ladder.request("PRACK").rack == (701, invite.cseq.number, "INVITE")
    assert [e.status for e in ladder.events() if isinstance(e, OutgoingProgress)] == [183, 180]
    _ = ladder >> ladder.callee(200, method="PRACK")
    _ = ladder >> ladder.callee(200, body=ANSWER) << "ACK"
    assert ladder.request("ACK").cseq.number == invite.cseq.number
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE" >> ladder.reply("BYE", 200)
    assert ladder.request("BYE").cseq.number == invite.cseq.number + 3
    ladder.wait(33)
    assert ladder.idle()


@pytest.mark.parametrize("change", [{"body": b""}, {"reliable": False}])
def test_reliable_responses_are_not_always_asked_for(change: dict[str, object]) -> None:
    assert "100rel" not in CallingLadder().call(**change).request("INVITE").supported


@pytest.mark.parametrize(
    ("flow", "seen", "contact"),
    [
        (UDP, ("203.0.113.9", 40_000), "<sip:203.0.113.9:40000>"),
        (UDP, ("203.0.113.9", None), "<sip:203.0.113.9:5060>"),
        (UDP, ("2001:db8::9", 5061), "<sip:[2001:db8::9]:5061>"),
        (UDP, ("a-name.example", 5061), "<sip:192.0.2.1:5060>"),
        (TCP, ("203.0.113.9", 40_000), "<sip:203.0.113.9:40000;transport=tcp>"),
        (TCP, ("192.0.2.1", 40_000), "<sip:192.0.2.1:5060;transport=tcp>"),
    ],
)
def test_we_are_where_the_other_side_sees_us(
    flow: Flow, seen: tuple[str, int | None], contact: str
) -> None:
    ladder = CallingLadder(flow=flow)
    ladder.agent.learn(flow, seen)
    assert ladder.call().request("INVITE").headers.get("contact") == contact
    # Others may see us elsewhere.
    elsewhere = replace(flow, remote=("198.51.100.8", 5062))
    ladder.call(flows=(elsewhere,))
    assert "192.0.2.1:5060" in (ladder.request("INVITE").headers.get("contact") or "")


def test_what_has_answered_is_heard() -> None:
    ladder = CallingLadder().call()
    assert ladder.agent.unheard_since(ladder.usage) == ladder.now
    _ = ladder >> ladder.callee(100, "")
    assert ladder.agent.unheard_since(ladder.usage) is None
    # The next flow has its own silence.
    other = CallingLadder().call(flows=(UDP, replace(UDP, remote=("198.51.100.8", 5062))))
    other.wait(0.25)
    _ = other >> other.callee(503) << "ACK" << "INVITE"
    assert other.agent.unheard_since(other.usage) == other.now


def test_servers_that_rest_are_passed_over() -> None:
    ladder = CallingLadder().call(flows=flows(2))
    rest = [("Retry-After", "20;duration=60")]
    _ = ladder >> ladder.callee(503, headers=rest) << "ACK"
    assert [flow.remote[0] for _, flow, _ in ladder.sent] == ["198.51.100.2"]
    assert ladder.agent.resting.left_s(flows(2)[0], ladder.now) == 20.0  # type: ignore[arg-type]
    _ = ladder << "INVITE" >> ladder.callee(503) << "ACK"
    assert ladder.agent.resting.left_s(flows(2)[1], ladder.now) == 0.0  # type: ignore[arg-type]
    # Another call, in the middle of which the second has its rest too.
    ladder.agent.resting.rest(flows(3)[1], 20.0, ladder.now)  # type: ignore[arg-type]
    ladder.call(flows=(flows(3)[2], *flows(3)[:2]))
    _ = ladder >> ladder.callee(503) << "ACK" << None
    assert ends(ladder.events())[-1] == (503, None)

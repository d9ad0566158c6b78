import pytest

from bridge.errors import SipError
from bridge.sip.call_states import CALL, CallState, Step
from bridge.sip.events import (
    CallCancelled,
    CallConfirmed,
    CallEnded,
    InfoReceived,
    Reoffer,
)
from tests.sip.playbook import ANSWER, OFFER, TCP, UDP, Ladder, caller_request


def test_whole_call() -> None:
    ladder = Ladder()
    ladder.invite()
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << 180
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200
    ok = ladder.response(200)
    assert ok.body == ANSWER
    assert ok.content_type == "application/sdp"
    assert ok.headers.get("contact") == "<sip:192.0.2.1:5060>"
    assert ok.to_tag == ladder.response(180).to_tag
    assert len(ok.to_tag or "") == 32
    _ = ladder >> ladder.ack() << None
    assert ladder.events() == [CallConfirmed(ladder.usage, b"")]
    ladder.tag = ok.to_tag or ""
    _ = ladder >> ladder.in_dialog("BYE", contact=None) << 200
    assert ladder.events() == [CallEnded(ladder.usage, "bye")]
    assert len(ladder.agent) == 0
    ladder.wait(33)
    assert ladder.idle()


def test_every_state_ends_and_only_ended_is_final() -> None:
    assert set(CALL) == set(CallState)
    assert CALL[CallState.ENDED] == {}
    for state in CallState:
        reached, frontier = {state}, [state]
        while frontier:
            for follower in CALL[frontier.pop()].values():
                if follower not in reached:
                    reached.add(follower)
                    frontier.append(follower)
        assert CallState.ENDED in reached
    # Section 15: no way from the answer to our BYE but by ACK or by giving up on it.
    assert CALL[CallState.ANSWERED][Step.HANGUP] is CallState.LEAVING


def test_2xx_is_repeated_from_t1_to_t2_and_then_the_call_is_given_up() -> None:
    ladder = Ladder()
    ladder.invite().mark()
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    ladder.wait(31.9)
    times = [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert ladder.gaps() == [(at, "200") for at in times]
    ladder.wait(0.2)
    _ = ladder << "BYE"
    assert ladder.events() == [CallEnded(ladder.usage, "no_ack")]
    _ = ladder >> ladder.reply("BYE", 200)
    ladder.wait(33)
    assert ladder.idle()


def test_2xx_is_repeated_on_connections_too() -> None:
    ladder = Ladder(flow=TCP)
    ladder.invite().mark()
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    ladder.wait(1)
    assert ladder.gaps() == [(0.0, "200"), (0.5, "200")]


def test_ack_stops_the_repeats_and_counts_once() -> None:
    ladder = Ladder().established().mark()
    _ = ladder >> ladder.ack()
    assert ladder.events() == []
    ladder.wait(31)
    assert ladder.gaps() == []


def test_ack_that_reuses_the_branch_of_its_invite() -> None:
    ladder = Ladder().invite()
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200
    tag = ladder.response(200).to_tag
    _ = ladder >> caller_request("ACK", to_tag=tag, branch="z9hG4bK-INVITE-1")
    assert ladder.events() == [CallConfirmed(ladder.usage, b"")]


@pytest.mark.parametrize("status", [302, 404, 486, 503, 603])
def test_reject_is_repeated_until_ack(status: int) -> None:
    ladder = Ladder().invite().mark()
    ladder.agent.reject(ladder.usage, status, ladder.now, headers=[("Retry-After", "9")])
    assert ladder.events() == [CallEnded(ladder.usage, "rejected")]
    ladder.wait(4)
    assert ladder.gaps() == [(at, str(status)) for at in (0.0, 0.5, 1.5, 3.5)]
    _ = ladder >> caller_request("ACK", branch="z9hG4bK-INVITE-1", to_tag="any")
    ladder.wait(33)
    assert ladder.gaps() == []
    assert ladder.idle()


def test_commands_of_wrong_status_are_programming_errors() -> None:
    ladder = Ladder().invite()
    with pytest.raises(ValueError, match="200"):
        ladder.agent.reject(ladder.usage, 200, ladder.now)
    with pytest.raises(ValueError, match="100"):
        ladder.agent.provisional(ladder.usage, 100, ladder.now)
    with pytest.raises(ValueError, match="100"):
        ladder.agent.reinvite_answer(ladder.usage, 100, b"", ladder.now)


def test_header_injection_changes_nothing() -> None:
    ladder = Ladder().invite()
    with pytest.raises(SipError):
        ladder.agent.reject(ladder.usage, 486, ladder.now, headers=[("X", "a\r\nVia: b")])
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200
    with pytest.raises(SipError):
        ladder.agent.hangup(ladder.usage, ladder.now, reason_header="a\nb")
    ladder.tag = ladder.response(200).to_tag or ""
    _ = ladder >> ladder.ack() << None
    assert ladder.events() == [CallConfirmed(ladder.usage, b"")]


def test_commands_on_a_call_that_is_over_do_nothing() -> None:
    ladder = Ladder().invite()
    ladder.agent.reject(ladder.usage, 486, ladder.now)
    _ = ladder << 486
    ladder.events()
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    ladder.agent.reject(ladder.usage, 486, ladder.now)
    ladder.agent.hangup(ladder.usage, ladder.now)
    ladder.agent.reinvite_answer(ladder.usage, 200, b"", ladder.now)
    _ = ladder << None
    assert ladder.events() == []


def test_provisional_is_refreshed_every_minute() -> None:
    ladder = Ladder().invite().mark()
    ladder.agent.provisional(ladder.usage, 183, ladder.now, body=ANSWER)
    ladder.wait(130)
    assert ladder.gaps() == [(0.0, "183"), (60.0, "183"), (120.0, "183")]
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << None


def test_cancel_while_ringing() -> None:
    ladder = Ladder().invite()
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << 180 >> caller_request("CANCEL", branch="z9hG4bK-INVITE-1") << 200 << 487
    assert ladder.response(200).to_tag == ladder.response(180).to_tag
    assert ladder.response(487).to_tag == ladder.response(180).to_tag
    assert ladder.events() == [CallCancelled(ladder.usage)]
    _ = ladder >> caller_request("CANCEL", branch="z9hG4bK-INVITE-1") << 200 << None
    _ = ladder >> caller_request("ACK", branch="z9hG4bK-INVITE-1", to_tag="x") << None
    ladder.wait(33)
    assert ladder.idle()


def test_cancel_crossing_the_answer_leaves_the_call_up() -> None:
    ladder = Ladder().invite()
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200 >> caller_request("CANCEL", branch="z9hG4bK-INVITE-1") << 200 << None
    assert ladder.events() == []
    ladder.tag = ladder.response(200).to_tag or ""
    _ = ladder >> ladder.ack() >> ladder.in_dialog("BYE") << 200
    assert ladder.events() == [
        CallConfirmed(ladder.usage, b""),
        CallEnded(ladder.usage, "bye"),
    ]


def test_bye_before_the_answer() -> None:
    ladder = Ladder().invite()
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << 180
    ladder.tag = ladder.response(180).to_tag or ""
    _ = ladder >> ladder.in_dialog("BYE") << 200 << 487
    assert ladder.events() == [CallEnded(ladder.usage, "bye")]


def test_bye_before_ack() -> None:
    ladder = Ladder().invite()
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200
    ladder.tag = ladder.response(200).to_tag or ""
    _ = ladder >> ladder.in_dialog("BYE") << 200
    assert ladder.events() == [CallEnded(ladder.usage, "bye")]
    ladder.wait(33)
    _ = ladder << None
    assert ladder.idle()


def test_bye_is_replayed_and_later_ones_are_481() -> None:
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("BYE") << 200 >> ladder.in_dialog("BYE") << 200
    assert ladder.response(200).cseq.method == "BYE"
    _ = ladder >> ladder.in_dialog("BYE", 3) << 481


def test_hangup_before_the_answer() -> None:
    ladder = Ladder().invite()
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << 480
    assert ladder.events() == [CallEnded(ladder.usage, "hangup")]


def test_hangup() -> None:
    ladder = Ladder().established()
    ladder.agent.hangup(ladder.usage, ladder.now, reason_header="Q.850;cause=16")
    assert ladder.events() == [CallEnded(ladder.usage, "hangup")]
    _ = ladder << "BYE"
    bye = ladder.request("BYE")
    assert bye.uri == "sip:alice@198.51.100.7:5062"
    assert bye.headers.get("reason") == "Q.850;cause=16"
    assert bye.from_tag == ladder.tag
    assert bye.to_tag == "alice"
    assert str(bye.to) == '"Alice" <sip:alice@example.com>;tag=alice'
    _ = ladder >> ladder.in_dialog("INFO") << 481
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << None
    _ = ladder >> ladder.reply("BYE", 200)
    assert len(ladder.agent) == 0
    ladder.wait(33)
    assert ladder.idle()
    assert ladder.events() == []


def test_hangup_before_ack_waits_for_it() -> None:
    ladder = Ladder().invite()
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    ladder.agent.hangup(ladder.usage, ladder.now, reason_header="SIP;cause=200")
    _ = ladder << 200 << None
    assert ladder.events() == [CallEnded(ladder.usage, "hangup")]
    _ = ladder >> ladder.ack() << "BYE"
    assert ladder.request("BYE").headers.get("reason") == "SIP;cause=200"
    assert ladder.events() == []


def test_hangup_without_an_ack_at_all() -> None:
    ladder = Ladder().invite()
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    ladder.agent.hangup(ladder.usage, ladder.now)
    ladder.events()
    ladder.mark().wait(32.1)
    assert ladder.gaps()[-1] == (32.0, "BYE")
    assert ladder.events() == []
    ladder.wait(65)
    assert ladder.idle()


def test_bye_of_both_ends_crossing() -> None:
    ladder = Ladder().established()
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE" >> ladder.in_dialog("BYE") << 200
    _ = ladder >> ladder.reply("BYE", 481) << None
    assert ladder.events() == [CallEnded(ladder.usage, "hangup")]
    ladder.wait(33)
    assert ladder.idle()


def test_bye_that_nobody_answers() -> None:
    ladder = Ladder().established()
    ladder.agent.hangup(ladder.usage, ladder.now)
    ladder.mark().wait(32.5)
    assert [name for _, name in ladder.gaps()] == ["BYE"] * 10
    assert ladder.idle()


def test_challenged_bye_is_not_answered_with_credentials() -> None:
    ladder = Ladder().established()
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE" >> ladder.reply("BYE", 407) << None
    assert len(ladder.agent) == 0


def test_info_and_options_in_the_dialog() -> None:
    ladder = Ladder().established()
    digits = [("Content-Type", "application/dtmf-relay")]
    _ = ladder >> ladder.in_dialog("INFO", headers=digits, body=b"Signal=5") << 200
    assert ladder.events() == [InfoReceived(ladder.usage, "application/dtmf-relay", b"Signal=5")]
    _ = ladder >> ladder.in_dialog("OPTIONS", 3) << 200
    assert "INVITE" in ladder.response(200).allow


def test_sequence_numbers() -> None:
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("INFO", 50) << 200
    _ = ladder >> ladder.in_dialog("INFO", 49) << 500
    _ = ladder >> ladder.in_dialog("INFO", 50, branch="z9hG4bKother") << 500
    _ = ladder >> ladder.in_dialog("BYE", 49) << 500
    _ = ladder >> ladder.in_dialog("BYE", 50) << 200


def test_reinvite() -> None:
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("INVITE", body=OFFER, contact="<sip:alice@198.51.100.9>") << 100
    assert ladder.events() == [Reoffer(ladder.usage, OFFER, "INVITE")]
    ladder.agent.reinvite_answer(ladder.usage, 200, ANSWER, ladder.now)
    _ = ladder << 200
    assert ladder.response(200).body == ANSWER
    ladder.wait(0.5)
    _ = ladder << 200 >> ladder.ack(cseq=2) << None
    assert ladder.events() == [CallConfirmed(ladder.usage, b"")]
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE"
    assert ladder.request("BYE").uri == "sip:alice@198.51.100.9"


def test_refused_reinvite_keeps_the_call_and_its_target() -> None:
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("INVITE", body=OFFER, contact="<sip:alice@198.51.100.9>") << 100
    ladder.agent.reinvite_answer(ladder.usage, 488, b"", ladder.now)
    _ = ladder << 488 >> caller_request("ACK", cseq=2, branch="z9hG4bK-INVITE-2", to_tag=ladder.tag)
    ladder.events()
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE"
    assert ladder.request("BYE").uri == "sip:alice@198.51.100.7:5062"


def test_offerless_reinvite_brings_the_answer_in_its_ack() -> None:
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("INVITE") << 100
    assert ladder.events() == [Reoffer(ladder.usage, b"", "INVITE")]
    ladder.agent.reinvite_answer(ladder.usage, 200, OFFER, ladder.now)
    _ = ladder << 200
    # Our offer is out: glare.
    _ = ladder >> ladder.in_dialog("UPDATE", 3, body=OFFER) << 491
    _ = ladder >> ladder.ack(cseq=2, body=ANSWER)
    assert ladder.events() == [CallConfirmed(ladder.usage, ANSWER)]
    _ = ladder >> ladder.in_dialog("UPDATE", 4, body=OFFER) << None
    assert ladder.events() == [Reoffer(ladder.usage, OFFER, "UPDATE")]
    ladder.agent.reinvite_answer(ladder.usage, 200, ANSWER, ladder.now)
    _ = ladder << 200
    assert ladder.response(200).body == ANSWER


def test_offer_inside_a_multipart() -> None:
    ladder = Ladder().established()
    headers = [("Content-Type", "multipart/mixed;boundary=b")]
    body = b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--b--\r\n"
    _ = ladder >> ladder.in_dialog("UPDATE", headers=headers, body=body)
    assert ladder.events() == [Reoffer(ladder.usage, b"v=0\r\n", "UPDATE")]


def test_offerless_invite_brings_the_answer_in_its_ack() -> None:
    ladder = Ladder().invite(body=b"")
    ladder.agent.answer(ladder.usage, OFFER, ladder.now)
    _ = ladder << 200
    assert ladder.response(200).body == OFFER
    _ = ladder >> ladder.ack(body=ANSWER)
    assert ladder.events() == [CallConfirmed(ladder.usage, ANSWER)]


def test_reinvite_before_the_ack_as_mobile_carriers_send() -> None:
    ladder = Ladder().invite()
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200
    ladder.tag = ladder.response(200).to_tag or ""
    _ = ladder >> ladder.in_dialog("INVITE", body=OFFER) << 100
    assert ladder.events() == [Reoffer(ladder.usage, OFFER, "INVITE")]
    ladder.agent.reinvite_answer(ladder.usage, 200, ANSWER, ladder.now)
    _ = ladder << 200 >> ladder.ack(cseq=2) >> ladder.ack(cseq=1)
    assert ladder.events() == [CallConfirmed(ladder.usage, b"")] * 2
    ladder.mark().wait(40)
    assert ladder.gaps() == []


def test_second_offer_while_the_first_is_pending() -> None:
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("INVITE", body=OFFER) << 100
    _ = ladder >> ladder.in_dialog("INVITE", 3, body=OFFER) << 100 << 500
    assert ladder.response(500).retry_after in range(11)
    _ = ladder >> ladder.in_dialog("UPDATE", 4, body=OFFER) << 500
    assert ladder.response(500).retry_after in range(11)
    assert len(ladder.events()) == 1


def test_update_without_a_body_refreshes_at_once() -> None:
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("UPDATE", contact="<sip:alice@198.51.100.9:5070>") << 200
    assert ladder.events() == []
    _ = ladder >> ladder.in_dialog("UPDATE", 3, body=OFFER) << None
    _ = ladder >> ladder.in_dialog("UPDATE", 4) << 500
    ladder.agent.hangup(ladder.usage, ladder.now)
    # The pending UPDATE is not left without an answer.
    _ = ladder << "BYE" << 487
    assert ladder.request("BYE").uri == "sip:alice@198.51.100.9:5070"


def test_update_before_the_answer() -> None:
    ladder = Ladder().invite()
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << 180
    ladder.tag = ladder.response(180).to_tag or ""
    _ = ladder >> ladder.in_dialog("UPDATE", body=OFFER) << 500
    _ = ladder >> ladder.in_dialog("UPDATE", 3) << 200


def test_bye_and_cancel_during_reinvite() -> None:
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("INVITE", body=OFFER) << 100
    _ = ladder >> caller_request("CANCEL", cseq=2, branch="z9hG4bK-INVITE-2") << 200 << 487
    ladder.agent.reinvite_answer(ladder.usage, 200, ANSWER, ladder.now)
    _ = ladder << None
    _ = ladder >> ladder.in_dialog("INVITE", 3, body=OFFER) << 100
    ladder.events()
    _ = ladder >> ladder.in_dialog("BYE", 4) << 200 << 487
    assert ladder.events() == [CallEnded(ladder.usage, "bye")]


def test_unacknowledged_reinvite_ends_the_call() -> None:
    ladder = Ladder().established()
    _ = ladder >> ladder.in_dialog("INVITE", body=OFFER) << 100
    ladder.agent.reinvite_answer(ladder.usage, 200, ANSWER, ladder.now)
    ladder.events()
    ladder.mark().wait(32.1)
    assert ladder.gaps()[-1] == (32.0, "BYE")
    assert ladder.events() == [CallEnded(ladder.usage, "no_ack")]


def test_connection_lost() -> None:
    ladder = Ladder(flow=TCP).invite()
    assert ladder.agent.flow_in_use(TCP)
    ladder.agent.flow_failed(UDP, ladder.now)
    assert ladder.events() == []
    ladder.agent.flow_failed(TCP, ladder.now)
    assert ladder.events() == [CallEnded(ladder.usage, "transport")]
    assert not ladder.agent.flow_in_use(TCP)


def test_connection_lost_during_the_call() -> None:
    ladder = Ladder(flow=TCP).established()
    ladder.agent.flow_failed(TCP, ladder.now)
    assert ladder.events() == []
    ladder.agent.hangup(ladder.usage, ladder.now)
    ((_, flow, _),) = ladder.wait(0).sent
    assert (flow.remote, flow.key) == (("198.51.100.7", 5062), 0)
    ladder.agent.flow_failed(flow, ladder.now)
    assert len(ladder.agent) == 0

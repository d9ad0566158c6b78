import pytest

from bridge.sip.events import (
    CallEnded,
    OutgoingAnswered,
    OutgoingFailed,
    OutgoingProgress,
    Reoffer,
)
from tests.sip.playbook import ANSWER, OFFER, CallingLadder

SECOND_OFFER = b"v=0\r\nsecond offer"


def reliable(rseq: int) -> list[tuple[str, str]]:
    return [("Require", "100rel"), ("RSeq", str(rseq))]


def ringing(*, required: bool = True, body: bytes = ANSWER, **call: object) -> CallingLadder:
    """A phone rings, and its answer to our offer is there."""
    ladder = CallingLadder()
    ladder.call(**call)
    _ = ladder >> ladder.callee(183, headers=reliable(1) if required else (), body=body)
    if required:
        _ = ladder << "PRACK" >> ladder.callee(200, method="PRACK")
    ladder.events()
    return ladder


def answered(ladder: CallingLadder) -> bytes:
    (event,) = (e for e in ladder.events() if isinstance(e, OutgoingAnswered))
    return event.body


@pytest.mark.parametrize("required", [True, False])
def test_answer_that_came_before_the_call_was_taken(required: bool) -> None:
    ladder = ringing(required=required)
    _ = ladder >> ladder.callee(200) << "ACK"
    assert ladder.request("ACK").body == b""
    assert answered(ladder) == ANSWER


def test_answer_of_the_phone_that_takes_the_call() -> None:
    ladder = ringing()
    _ = ladder >> ladder.callee(200, "carol") << "ACK"
    assert answered(ladder) == b""


def test_reliable_responses_that_we_did_not_ask_for() -> None:
    ladder = CallingLadder()
    ladder.call(reliable=False)
    assert "100rel" not in ladder.request("INVITE").supported
    _ = ladder >> ladder.callee(180, headers=reliable(5)) << "PRACK"
    assert ladder.request("PRACK").rack == (5, ladder.request("INVITE").cseq.number, "INVITE")
    assert [type(event) for event in ladder.events()] == [OutgoingProgress]


def test_update_of_a_phone_that_rings() -> None:
    ladder = ringing()
    _ = ladder >> ladder.from_callee("UPDATE", 1, body=SECOND_OFFER) << None
    assert ladder.events() == [Reoffer(ladder.usage, SECOND_OFFER, "UPDATE")]
    _ = ladder >> ladder.from_callee("UPDATE", 2, body=SECOND_OFFER) << 500
    assert ladder.response(500).retry_after in range(11)
    ladder.agent.reinvite_answer(ladder.usage, 200, ANSWER, ladder.now)
    _ = ladder << 200
    assert ladder.response(200).body == ANSWER
    assert ladder.response(200).contact is not None
    _ = ladder >> ladder.callee(200) << "ACK"
    assert answered(ladder) == SECOND_OFFER


def test_refused_update_changes_nothing() -> None:
    ladder = ringing()
    _ = ladder >> ladder.from_callee("UPDATE", 1, body=SECOND_OFFER)
    ladder.agent.reinvite_answer(ladder.usage, 488, b"", ladder.now)
    _ = ladder << 488 >> ladder.callee(200) << "ACK"
    assert answered(ladder) == ANSWER


def test_update_while_our_offer_has_no_answer() -> None:
    for ladder in (ringing(required=False), ringing(body=b"")):
        _ = ladder >> ladder.from_callee("UPDATE", 1, body=SECOND_OFFER) << 491
        assert ladder.events() == []


def test_update_without_an_offer_moves_the_target() -> None:
    ladder = ringing()
    _ = ladder >> ladder.from_callee("UPDATE", 1, contact="<sip:bob@198.51.100.9>") << 200
    _ = ladder >> ladder.callee(180, headers=reliable(2), contact=None) << "PRACK"
    assert ladder.request("PRACK").uri == "sip:bob@198.51.100.9"


def test_other_requests_of_a_phone_that_rings_wait_for_its_answer() -> None:
    ladder = ringing()
    _ = ladder >> ladder.from_callee("INFO", 1) << 500
    _ = ladder >> ladder.from_callee("UPDATE", 1) << 500


def test_update_that_waits_while_the_call_is_answered() -> None:
    ladder = ringing()
    _ = ladder >> ladder.from_callee("UPDATE", 1, body=SECOND_OFFER)
    _ = ladder >> ladder.callee(200, body=ANSWER) << "ACK"
    ladder.agent.reinvite_answer(ladder.usage, 200, OFFER, ladder.now)
    _ = ladder << 200
    assert ladder.response(200).cseq.method == "UPDATE"


def test_update_that_waits_while_another_phone_answers() -> None:
    ladder = ringing()
    _ = ladder >> ladder.from_callee("UPDATE", 1, body=SECOND_OFFER)
    _ = ladder >> ladder.callee(200, "carol", body=ANSWER) << 481 << "ACK"
    ladder.agent.reinvite_answer(ladder.usage, 200, OFFER, ladder.now)
    _ = ladder << None


def test_update_that_waits_when_the_call_is_given_up() -> None:
    ladder = ringing()
    _ = ladder >> ladder.from_callee("UPDATE", 1, body=SECOND_OFFER)
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << 487 << "CANCEL"
    assert ladder.events()[-1] == CallEnded(ladder.usage, "hangup")
    _ = ladder >> ladder.from_callee("UPDATE", 2, body=SECOND_OFFER) << 500
    _ = ladder >> ladder.callee(200, method="CANCEL") >> ladder.callee(487) << "ACK"
    ladder.wait(65)
    assert ladder.idle()


def test_update_that_waits_when_the_call_fails() -> None:
    ladder = ringing()
    _ = ladder >> ladder.from_callee("UPDATE", 1, body=SECOND_OFFER)
    _ = ladder >> ladder.callee(486) << "ACK" << 481
    assert [type(event) for event in ladder.events()] == [Reoffer, OutgoingFailed]
    ladder.wait(65)
    assert ladder.idle()


def test_numbers_of_a_phone_that_loses_the_race_go_on() -> None:
    ladder = ringing()
    number = ladder.request("PRACK").cseq.number
    _ = ladder >> ladder.callee(200, "carol", body=ANSWER) << "ACK"
    _ = ladder >> ladder.callee(200, body=ANSWER) << "ACK" << "BYE"
    assert ladder.request("BYE").to_tag == "bob"
    assert ladder.request("BYE").cseq.number == number + 1

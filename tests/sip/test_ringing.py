import pytest

from bridge.sip.events import CallCancelled, CallConfirmed, EarlyAnswer, Reoffer
from tests.sip.playbook import ANSWER, OFFER, Ladder, caller_request

REQUIRED = ("Require", "100rel")
SUPPORTED = ("Supported", "100rel")
SECOND_OFFER = b"v=0\r\nsecond offer"
SECOND_ANSWER = b"v=0\r\nsecond answer"


def ringing(
    option: tuple[str, str] = REQUIRED, *, offer: bytes = OFFER, body: bytes = ANSWER
) -> Ladder:
    ladder = Ladder().invite(headers=[option], body=offer)
    ladder.agent.provisional(ladder.usage, 183, ladder.now, body=body)
    _ = ladder << 183
    ladder.tag = ladder.response(183).to_tag or ""
    return ladder


def prack(ladder: Ladder, cseq: int = 2, body: bytes = b"", status: int = 183) -> None:
    rack = ("RAck", f"{ladder.response(status).rseq} 1 INVITE")
    _ = ladder >> ladder.in_dialog("PRACK", cseq, headers=[rack], body=body)


def pick_up(ladder: Ladder) -> bytes:
    """What the 200 to the INVITE brings."""
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200
    assert ladder.response(200).cseq.method == "INVITE"
    return ladder.response(200).body


@pytest.mark.parametrize("option", [REQUIRED, SUPPORTED])
def test_our_offer_in_a_reliable_response(option: tuple[str, str]) -> None:
    ladder = ringing(option, offer=b"", body=OFFER)
    assert ladder.response(183).require == ["100rel"]
    assert ladder.response(183).body == OFFER
    # Two offers cannot be under way at once.
    _ = ladder >> ladder.in_dialog("UPDATE", 2, body=SECOND_OFFER) << 491
    prack(ladder, 3, ANSWER)
    _ = ladder << 200
    assert ladder.events() == [EarlyAnswer(ladder.usage, ANSWER)]
    assert pick_up(ladder) == b""
    _ = ladder >> ladder.ack()
    assert ladder.events() == [CallConfirmed(ladder.usage, b"")]


def test_caller_who_leaves_the_answer_out_of_the_prack() -> None:
    ladder = ringing(offer=b"", body=OFFER)
    prack(ladder)
    _ = ladder << 200
    assert ladder.events() == []
    assert pick_up(ladder) == ANSWER


def test_no_offer_where_it_might_get_lost() -> None:
    ladder = Ladder().invite(body=b"")
    ladder.agent.provisional(ladder.usage, 183, ladder.now, body=OFFER)
    _ = ladder << 183
    assert ladder.response(183).body == b""
    assert ladder.response(183).rseq is None
    ringing = Ladder().invite(headers=[SUPPORTED], body=b"")
    ringing.agent.provisional(ringing.usage, 180, ringing.now)
    _ = ringing << 180
    assert ringing.response(180).rseq is None


def test_ringing_after_our_early_offer_is_reliable_and_bare() -> None:
    ladder = ringing(offer=b"", body=OFFER)
    ladder.agent.provisional(ladder.usage, 180, ladder.now, body=OFFER)
    prack(ladder, 2, ANSWER)
    _ = ladder << 200 << 180
    assert ladder.response(180).body == b""
    prack(ladder, 3, status=180)
    _ = ladder << 200


def test_offer_in_a_prack_is_answered_in_its_200() -> None:
    ladder = ringing()
    prack(ladder, 2, SECOND_OFFER)
    _ = ladder << None
    assert ladder.events() == [Reoffer(ladder.usage, SECOND_OFFER, "PRACK")]
    # Neither the next response nor the answer overtakes it.
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << None
    ladder.agent.reinvite_answer(ladder.usage, 200, SECOND_ANSWER, ladder.now)
    _ = ladder << 200 << 180
    assert ladder.response(200).cseq.method == "PRACK"
    assert ladder.response(200).body == SECOND_ANSWER
    prack(ladder, 3, status=180)
    _ = ladder << 200 << 200
    assert ladder.response(200).cseq.method == "INVITE"
    assert ladder.response(200).body == b""


def test_refused_offer_in_a_prack_is_an_acknowledgement() -> None:
    ladder = ringing()
    prack(ladder, 2, SECOND_OFFER)
    ladder.agent.reinvite_answer(ladder.usage, 488, b"", ladder.now)
    _ = ladder << 488
    ladder.mark().wait(5)
    assert ladder.gaps() == []
    assert pick_up(ladder) == ANSWER


def test_update_changes_the_session_before_the_answer() -> None:
    ladder = ringing()
    prack(ladder)
    _ = ladder << 200
    _ = ladder >> ladder.in_dialog("UPDATE", 3, body=SECOND_OFFER) << None
    assert ladder.events() == [Reoffer(ladder.usage, SECOND_OFFER, "UPDATE")]
    _ = ladder >> ladder.in_dialog("UPDATE", 4, body=SECOND_OFFER) << 500
    assert ladder.response(500).retry_after in range(11)
    ladder.agent.reinvite_answer(ladder.usage, 200, SECOND_ANSWER, ladder.now)
    _ = ladder << 200
    assert ladder.response(200).body == SECOND_ANSWER
    assert ladder.response(200).contact is not None
    assert pick_up(ladder) == b""


def test_update_before_the_prack_waits_for_its_turn() -> None:
    ladder = ringing()
    _ = ladder >> ladder.in_dialog("UPDATE", 2, body=SECOND_OFFER) << 500
    assert ladder.response(500).retry_after in range(11)
    assert ladder.events() == []


def test_prack_with_an_offer_while_an_update_waits() -> None:
    ladder = ringing()
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    prack(ladder)
    _ = ladder << 200 << 180 >> ladder.in_dialog("UPDATE", 3, body=SECOND_OFFER)
    prack(ladder, 4, SECOND_OFFER, status=180)
    _ = ladder << 500
    assert ladder.response(500).retry_after in range(11)


def test_cancel_leaves_no_offer_without_an_answer() -> None:
    ladder = ringing()
    prack(ladder, 2, SECOND_OFFER)
    _ = ladder >> caller_request("CANCEL", branch="z9hG4bK-INVITE-1") << 200 << 487 << 487
    assert ladder.events()[-1] == CallCancelled(ladder.usage)
    _ = ladder >> caller_request("ACK", branch="z9hG4bK-INVITE-1", to_tag=ladder.tag)
    ladder.wait(33)
    assert ladder.idle()

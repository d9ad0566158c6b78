from bridge.sip.events import CallEnded
from tests.sip.playbook import ANSWER, OFFER, Ladder, caller_request

REQUIRED = [("Require", "100rel")]


def ringing() -> Ladder:
    ladder = Ladder().invite(headers=REQUIRED)
    ladder.agent.provisional(ladder.usage, 183, ladder.now, body=ANSWER)
    _ = ladder << 183
    ladder.tag = ladder.response(183).to_tag or ""
    return ladder


def prack(ladder: Ladder, status: int, cseq: int = 2, *, off: int = 0, body: bytes = b"") -> None:
    number = (ladder.response(status).rseq or 0) + off
    _ = ladder >> ladder.in_dialog(
        "PRACK", cseq, headers=[("RAck", f"{number} 1 INVITE")], body=body
    )


def test_response_is_repeated_until_the_prack_and_holds_the_answer() -> None:
    ladder = ringing()
    assert ladder.response(183).require == ["100rel"]
    ladder.mark().agent.answer(ladder.usage, ANSWER, ladder.now)
    ladder.wait(8)
    assert ladder.gaps() == [(0.5, "183"), (1.5, "183"), (3.5, "183"), (7.5, "183")]
    prack(ladder, 183)
    _ = ladder << 200 << 200
    assert ladder.response(200).cseq.method == "INVITE"
    _ = ladder >> ladder.ack() >> ladder.in_dialog("BYE", 3) << 200
    ladder.wait(33)
    assert ladder.idle()


def test_one_at_a_time() -> None:
    ladder = ringing()
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << None
    prack(ladder, 183)
    _ = ladder << 200 << 180
    assert ladder.response(180).rseq == (ladder.response(183).rseq or 0) + 1
    prack(ladder, 180, 3)
    _ = ladder << 200 << None


def test_prack_that_matches_nothing() -> None:
    ladder = ringing()
    prack(ladder, 183, off=1)
    _ = ladder << 481
    prack(ladder, 183, 3)
    _ = ladder << 200
    prack(ladder, 183, 4)
    _ = ladder << 481
    plain = Ladder().invite()
    plain.agent.provisional(plain.usage, 180, plain.now)
    _ = plain << 180
    plain.tag = plain.response(180).to_tag or ""
    prack(plain, 180)
    _ = plain << 481


def test_prack_for_a_response_without_an_answer_makes_no_offer() -> None:
    ladder = Ladder().invite(headers=REQUIRED)
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << 180
    ladder.tag = ladder.response(180).to_tag or ""
    prack(ladder, 180, body=OFFER)
    _ = ladder << 488
    ladder.mark().wait(5)
    assert ladder.gaps() == []


def test_no_prack_at_all() -> None:
    ladder = ringing()
    ladder.wait(32.1)
    assert ladder.events() == [CallEnded(ladder.usage, "no_prack")]
    ladder.sent = [sent for sent in ladder.sent if sent[2].cseq.method == "INVITE"]
    while str(getattr(ladder.sent[0][2], "status", "")) == "183":
        ladder.sent.pop(0)
    _ = ladder << 504
    ladder.wait(33)
    assert ladder.idle()


def test_cancel_ends_the_repeats() -> None:
    ladder = ringing()
    _ = ladder >> caller_request("CANCEL", branch="z9hG4bK-INVITE-1") << 200 << 487
    _ = ladder >> caller_request("ACK", branch="z9hG4bK-INVITE-1", to_tag=ladder.tag)
    ladder.mark().wait(33)
    assert ladder.gaps() == []
    assert ladder.idle()


def test_no_reliable_ringing_for_an_invite_without_an_offer() -> None:
    ladder = Ladder().invite(headers=REQUIRED, body=b"")
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << None
    ladder.agent.answer(ladder.usage, OFFER, ladder.now)
    _ = ladder << 200


def test_who_only_supports_it_is_not_asked_to() -> None:
    ladder = Ladder().invite(headers=[("Supported", "100rel")])
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << 180
    assert ladder.response(180).rseq is None

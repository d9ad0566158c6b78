import random

import pytest

from bridge.sip.events import CallConfirmed, CallEnded, Event, Reoffer, ReofferDone
from bridge.sip.offers import MAX_TRIES, glare_delay
from tests.sip.playbook import ANSWER, OFFER, CallingLadder, Ladder

HOLD = b"v=0\r\nhold"


def done(events: list[Event]) -> list[tuple[int, bytes]]:
    return [(e.status, e.body) for e in events if isinstance(e, ReofferDone)]


def test_reinvite() -> None:
    ladder = CallingLadder().answered()
    ladder.agent.reoffer(ladder.usage, HOLD, ladder.now)
    _ = ladder << "INVITE"
    invite = ladder.request("INVITE")
    assert invite.body == HOLD
    assert invite.to_tag == "bob"
    assert invite.contact is not None
    ok = ladder.callee(200, body=ANSWER, contact="<sip:bob@198.51.100.7:9999>")
    _ = ladder >> ok << "ACK"
    assert done(ladder.events()) == [(200, ANSWER)]
    assert ladder.request("ACK").cseq.number == invite.cseq.number
    assert ladder.request("ACK").uri == "sip:bob@198.51.100.7:9999"
    _ = ladder >> ok << "ACK" << None
    assert ladder.events() == []


def test_reinvite_without_an_offer() -> None:
    ladder = CallingLadder().answered()
    ladder.agent.reoffer(ladder.usage, b"", ladder.now)
    _ = ladder << "INVITE" >> ladder.callee(200, body=OFFER) << None
    assert done(ladder.events()) == [(200, OFFER)]
    ladder.agent.acknowledge_offer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << "ACK"
    assert ladder.request("ACK").body == ANSWER


@pytest.mark.parametrize("status", [415, 488, 500, 606])
def test_failure_keeps_the_call(status: int) -> None:
    ladder = CallingLadder().answered()
    ladder.agent.reoffer(ladder.usage, HOLD, ladder.now)
    _ = ladder << "INVITE" >> ladder.callee(status) << "ACK"
    assert done(ladder.events()) == [(status, b"")]
    assert len(ladder.agent) == 1


@pytest.mark.parametrize(("status", "cause"), [(408, "timeout"), (481, "gone")])
def test_failure_that_ends_the_call(status: int, cause: str) -> None:
    ladder = CallingLadder().answered()
    ladder.agent.reoffer(ladder.usage, HOLD, ladder.now)
    _ = ladder << "INVITE" >> ladder.callee(status) << "ACK" << "BYE"
    assert ladder.events() == [CallEnded(ladder.usage, cause)]  # type: ignore[arg-type]


def test_silence_ends_the_call() -> None:
    ladder = CallingLadder().answered()
    ladder.agent.update(ladder.usage, HOLD, ladder.now)
    ladder.wait(32.1)
    assert ladder.events() == [CallEnded(ladder.usage, "timeout")]
    ladder.wait(33)
    assert ladder.idle()


def test_update() -> None:
    ladder = CallingLadder().answered()
    ladder.agent.update(ladder.usage, HOLD, ladder.now)
    _ = ladder << "UPDATE"
    _ = ladder >> ladder.callee(200, method="UPDATE", body=ANSWER) << None
    assert done(ladder.events()) == [(200, ANSWER)]


def test_offers_wait_for_each_other() -> None:
    ladder = CallingLadder().answered()
    ladder.agent.reoffer(ladder.usage, HOLD, ladder.now)
    ladder.agent.update(ladder.usage, OFFER, ladder.now)
    _ = ladder << "INVITE" << None
    _ = ladder >> ladder.callee(200, body=ANSWER) << "ACK" << "UPDATE"


def test_offer_waits_for_the_ack_and_for_the_peers_offer() -> None:
    ladder = Ladder().invite()
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    ladder.agent.reoffer(ladder.usage, HOLD, ladder.now)
    _ = ladder << 200 << None
    ladder.tag = ladder.response(200).to_tag or ""
    _ = ladder >> ladder.ack() << "INVITE"
    assert ladder.events()[-1] == CallConfirmed(ladder.usage, b"")
    other = Ladder().established()
    _ = other >> other.in_dialog("INVITE", body=OFFER) << 100
    other.agent.reoffer(other.usage, HOLD, other.now)
    _ = other << None
    other.agent.reinvite_answer(other.usage, 488, b"", other.now)
    _ = other << 488 << "INVITE"


def test_glare() -> None:
    ladder = CallingLadder().answered()
    ladder.agent.reoffer(ladder.usage, HOLD, ladder.now)
    _ = ladder << "INVITE" >> ladder.from_callee("INVITE", 5, body=OFFER) << 100 << 491
    _ = ladder >> ladder.from_callee("ACK", 5, branch="z9hG4bK-INVITE-5")
    _ = ladder >> ladder.callee(491) << "ACK"
    # Having made the Call-ID we wait longer than the peer, who gets through meanwhile.
    ladder.wait(2.0)
    _ = ladder << None
    _ = ladder >> ladder.from_callee("INVITE", 6, body=OFFER) << 100
    assert isinstance(ladder.events()[-1], Reoffer)
    ladder.agent.reinvite_answer(ladder.usage, 200, ANSWER, ladder.now)
    _ = ladder << 200
    ladder.wait(0.1)
    _ = ladder >> ladder.from_callee("ACK", 6, branch="z9hG4bKx")
    ladder.sent.clear()
    ladder.wait(2.0)
    _ = ladder << "INVITE"
    assert ladder.request("INVITE").body == HOLD


def test_glare_delays_never_meet() -> None:
    rng = random.Random(1)
    ours = [glare_delay(rng, calling=True) for _ in range(1000)]
    theirs = [glare_delay(rng, calling=False) for _ in range(1000)]
    assert 2.1 <= min(ours) <= max(ours) <= 4.0
    assert 0.0 <= min(theirs) <= max(theirs) <= 2.0


def test_glare_does_not_go_on_for_ever() -> None:
    ladder = CallingLadder().answered()
    ladder.agent.reoffer(ladder.usage, HOLD, ladder.now)
    for _ in range(MAX_TRIES):
        _ = ladder << "INVITE"
        ladder.sent.clear()
        _ = ladder >> ladder.callee(491) << "ACK"
        ladder.wait(4.1)
    _ = ladder << None
    assert done(ladder.events()) == [(491, b"")]


def test_hangup_during_a_reinvite_and_the_answer_that_crosses_it() -> None:
    ladder = CallingLadder().answered()
    ladder.agent.reoffer(ladder.usage, HOLD, ladder.now)
    _ = ladder << "INVITE" >> ladder.callee(100)
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE" >> ladder.callee(200, body=ANSWER) << "ACK"
    _ = ladder >> ladder.reply("BYE", 200)
    assert ladder.events() == [CallEnded(ladder.usage, "hangup")]
    ladder.wait(33)
    assert ladder.idle()


def test_reinvite_that_is_never_answered_does_not_outlive_the_call() -> None:
    ladder = CallingLadder().answered()
    ladder.agent.reoffer(ladder.usage, HOLD, ladder.now)
    _ = ladder << "INVITE" >> ladder.callee(100) >> ladder.from_callee("BYE") << 200
    ladder.wait(33)
    assert ladder.idle()

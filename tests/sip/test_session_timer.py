import pytest

from bridge.sip.agent import AgentConfig
from bridge.sip.events import CallEnded
from bridge.sip.session_timer import expiry_delay
from tests.sip.playbook import ANSWER, OFFER, CallingLadder, Ladder, caller_request

TIMER = ("Supported", "timer")


@pytest.mark.parametrize(("seconds", "delay"), [(90, 60), (96, 64), (1800, 1768)])
def test_expiry(seconds: int, delay: float) -> None:
    assert expiry_delay(seconds) == delay


@pytest.mark.parametrize(
    ("asks", "supports", "wants", "answer", "require"),
    [
        # RFC 4028 table 2, and what we ask of callers who ask for nothing.
        ("1800", True, 0, (1800, "uac"), ["timer"]),
        ("1800;refresher=uac", True, 0, (1800, "uac"), ["timer"]),
        ("1800;refresher=uas", True, 0, (1800, "uas"), []),
        ("1800", False, 0, (1800, "uas"), []),
        (None, True, 600, (600, "uas"), []),
        (None, True, 0, None, []),
        (None, False, 600, None, []),
    ],
)
def test_answer(
    asks: str | None,
    supports: bool,
    wants: int,
    answer: tuple[int, str] | None,
    require: list[str],
) -> None:
    ladder = Ladder(AgentConfig(session_expires=wants))
    headers = [("Session-Expires", asks)] if asks else []
    ladder.invite(headers=[*headers, TIMER] if supports else headers)
    ladder.agent.answer(ladder.usage, ANSWER, ladder.now)
    _ = ladder << 200
    assert ladder.response(200).session_expires == answer
    assert ladder.response(200).require == require


def test_too_short_an_interval() -> None:
    ladder = Ladder()
    short = caller_request(headers=[("Session-Expires", "60"), TIMER], body=OFFER)
    _ = ladder >> short << 422
    assert ladder.response(422).min_se == 90
    assert ladder.events() == []
    established = Ladder().established()
    update = established.in_dialog("UPDATE", headers=[("Session-Expires", "60"), TIMER])
    _ = established >> update << 422


def test_caller_who_does_not_refresh_is_hung_up_on() -> None:
    ladder = Ladder().established(headers=[("Session-Expires", "90"), TIMER])
    ladder.mark().wait(59.9)
    assert ladder.gaps() == []
    ladder.wait(0.2)
    _ = ladder << "BYE"
    assert ladder.events() == [CallEnded(ladder.usage, "expired")]


def test_caller_who_refreshes() -> None:
    ladder = Ladder().established(headers=[("Session-Expires", "90"), TIMER])
    refresh = [("Session-Expires", "90;refresher=uac"), TIMER]
    for number in range(2, 22):
        ladder.wait(45)
        _ = ladder >> ladder.in_dialog("UPDATE", number, headers=refresh) << 200
        assert ladder.response(200).session_expires == (90, "uac")
    ladder.wait(61)
    _ = ladder << "BYE"


@pytest.mark.parametrize("status", [405, 501])
def test_update_that_is_refused_is_made_good_by_an_invite(status: int) -> None:
    ladder = CallingLadder().call(session_expires=120)
    agreed = [("Session-Expires", "120;refresher=uac"), ("Allow", "INVITE, UPDATE")]
    _ = ladder >> ladder.callee(200, headers=agreed, body=ANSWER) << "ACK"
    ladder.events()
    ladder.wait(60)
    _ = ladder << "UPDATE" >> ladder.callee(status, method="UPDATE") << "INVITE"
    assert ladder.request("INVITE").body == OFFER
    _ = ladder >> ladder.callee(200, headers=agreed, body=ANSWER) << "ACK"
    ladder.wait(60)
    _ = ladder << "INVITE"
    assert ladder.events() == []


def test_we_refresh_for_twenty_minutes_by_update() -> None:
    ladder = CallingLadder().call(session_expires=120)
    agreed = [("Session-Expires", "120;refresher=uac"), ("Allow", "INVITE, UPDATE")]
    _ = ladder >> ladder.callee(200, headers=agreed, body=ANSWER) << "ACK"
    ladder.events()
    for _ in range(20):
        ladder.mark().wait(60)
        _ = ladder << "UPDATE"
        update = ladder.request("UPDATE")
        assert update.session_expires == (120, "uac")
        assert update.body == b""
        _ = ladder >> ladder.callee(200, method="UPDATE", headers=agreed)
    assert ladder.events() == []
    ladder.wait(88.1)
    assert ladder.events() == [CallEnded(ladder.usage, "expired")]


def test_we_refresh_by_reinvite_with_what_we_last_said() -> None:
    ladder = CallingLadder().call(session_expires=120)
    agreed = [("Session-Expires", "120;refresher=uac")]
    _ = ladder >> ladder.callee(200, headers=agreed, body=ANSWER) << "ACK"
    ladder.events()
    ladder.mark().wait(60)
    _ = ladder << "INVITE"
    assert ladder.request("INVITE").body == OFFER
    _ = ladder >> ladder.callee(200, headers=agreed, body=ANSWER) << "ACK"
    assert ladder.events() == []


def test_422_to_a_refresh() -> None:
    ladder = CallingLadder().call(session_expires=90)
    agreed = [("Session-Expires", "90;refresher=uac"), ("Allow", "UPDATE")]
    _ = ladder >> ladder.callee(200, headers=agreed, body=ANSWER) << "ACK"
    ladder.wait(45)
    short = [("Min-SE", "300")]
    _ = ladder << "UPDATE" >> ladder.callee(422, method="UPDATE", headers=short) << "UPDATE"
    assert ladder.request("UPDATE").session_expires == (300, "uac")
    assert ladder.request("UPDATE").min_se == 300


def test_peer_without_a_timer() -> None:
    ladder = CallingLadder().answered(session_expires=120)
    ladder.mark().wait(3600)
    assert ladder.gaps() == []
    assert ladder.events() == []

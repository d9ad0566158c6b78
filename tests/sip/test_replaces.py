import pytest

from bridge.errors import SipError
from bridge.sip.agent_config import AgentConfig
from bridge.sip.events import CallEnded, IncomingCall
from bridge.sip.message import Request
from bridge.sip.replaces import Replaces
from tests.sip.playbook import ANSWER, OFFER, CallingLadder, Ladder, caller_request

CONFIG = AgentConfig(replaces=True)


def taking(replaces: str, *more: tuple[str, str], call_id: str = "other") -> Request:
    return caller_request(
        call_id=call_id,
        branch=f"z9hG4bK{call_id}",
        from_tag="carol",
        headers=[("Replaces", replaces), *more],
        body=OFFER,
    )


def named(ladder: Ladder, more: str = "") -> str:
    return f"call-1;to-tag={ladder.tag};from-tag=alice{more}"


def named_by_callee(ladder: CallingLadder, more: str = "") -> str:
    invite = ladder.request("INVITE")
    return f"{invite.sip_call_id};to-tag={invite.from_tag};from-tag=bob{more}"


@pytest.mark.parametrize("required", [(), (("Require", "replaces"),)])
def test_answered_call_takes_the_place_of_another(required: tuple[tuple[str, str], ...]) -> None:
    ladder = Ladder(CONFIG).established()
    first = ladder.usage
    _ = ladder >> taking(named(ladder), *required) << 100
    (call,) = ladder.events()
    assert isinstance(call, IncomingCall)
    assert call.replaces == first
    ladder.agent.provisional(call.usage, 180, ladder.now)
    _ = ladder << 180 << None
    ladder.agent.answer(call.usage, ANSWER, ladder.now)
    _ = ladder << 200 << "BYE"
    assert ladder.request("BYE").sip_call_id == "call-1"
    assert ladder.events() == [CallEnded(first, "replaced")]
    _ = ladder >> ladder.reply("BYE", 200)
    assert len(ladder.agent) == 1


def test_refused_call_leaves_the_other_alone() -> None:
    ladder = Ladder(CONFIG).established()
    _ = ladder >> taking(named(ladder)) << 100
    (call,) = ladder.events()
    assert isinstance(call, IncomingCall)
    ladder.agent.reject(call.usage, 603, ladder.now)
    _ = ladder << 603 << None
    assert ladder.events() == [CallEnded(call.usage, "rejected")]


def test_call_that_is_gone_when_the_new_one_is_answered() -> None:
    ladder = Ladder(CONFIG).established()
    _ = ladder >> taking(named(ladder)) << 100
    (call,) = ladder.events()
    assert isinstance(call, IncomingCall)
    _ = ladder >> ladder.in_dialog("BYE") << 200
    ladder.events()
    ladder.agent.answer(call.usage, ANSWER, ladder.now)
    _ = ladder << 200 << None
    assert ladder.events() == []


def test_call_that_we_made() -> None:
    ladder = CallingLadder(CONFIG).answered()
    _ = ladder >> taking(named_by_callee(ladder)) << 100
    (call,) = ladder.events()
    assert isinstance(call, IncomingCall)
    ladder.agent.answer(call.usage, ANSWER, ladder.now)
    _ = ladder << 200 << "BYE"
    assert ladder.events() == [CallEnded(ladder.usage, "replaced")]


@pytest.mark.parametrize("early", ["", ";early-only"])
def test_call_of_ours_that_rings_is_cancelled(early: str) -> None:
    ladder = CallingLadder(CONFIG)
    ladder.call()
    _ = ladder >> ladder.callee(180)
    _ = ladder >> taking(named_by_callee(ladder, early)) << 100
    _, call = ladder.events()
    assert isinstance(call, IncomingCall)
    assert call.replaces == ladder.usage
    ladder.agent.answer(call.usage, ANSWER, ladder.now)
    _ = ladder << 200 << "CANCEL"
    assert ladder.events() == [CallEnded(ladder.usage, "replaced")]


def test_ringing_call_that_is_answered_meanwhile() -> None:
    ladder = CallingLadder(CONFIG)
    ladder.call()
    _ = ladder >> ladder.callee(180) >> taking(named_by_callee(ladder)) << 100
    _, call = ladder.events()
    assert isinstance(call, IncomingCall)
    _ = ladder >> ladder.callee(200, body=ANSWER) << "ACK"
    ladder.agent.answer(call.usage, ANSWER, ladder.now)
    _ = ladder << 200 << "BYE"


def test_early_only_finds_an_answered_call() -> None:
    ladder = Ladder(CONFIG).established()
    _ = ladder >> taking(named(ladder, ";early-only")) << 486
    assert ladder.events() == []


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("call-1;to-tag=x;from-tag=alice", 481),
        ("call-2;to-tag={tag};from-tag=alice", 481),
        ("call-1;to-tag={tag};from-tag=alicia", 481),
        ("call-1;to-tag={tag}", 400),
        ("nonsense", 400),
    ],
)
def test_calls_that_are_not_found(text: str, status: int) -> None:
    ladder = Ladder(CONFIG).established()
    _ = ladder >> taking(text.format(tag=ladder.tag)) << status
    assert ladder.events() == []


def test_call_that_rings_here_has_nobody_to_replace() -> None:
    ladder = Ladder(CONFIG).invite()
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << 180
    ladder.tag = ladder.response(180).to_tag or ""
    _ = ladder >> taking(named(ladder)) << 481


def test_call_that_is_ending() -> None:
    ladder = Ladder(CONFIG).established()
    ladder.agent.hangup(ladder.usage, ladder.now)
    _ = ladder << "BYE" >> taking(named(ladder)) << 603


def test_off_by_default() -> None:
    ladder = Ladder().established()
    _ = ladder >> taking(named(ladder)) << 603
    _ = ladder >> taking("no;to-tag=such;from-tag=call", call_id="o2") << 481
    _ = ladder >> taking(named(ladder), ("Require", "replaces"), call_id="o3") << 420
    assert ladder.events() == []


def test_only_once_and_only_in_an_invite() -> None:
    ladder = Ladder(CONFIG).established()
    _ = ladder >> taking(named(ladder), ("Replaces", named(ladder))) << 400
    options = caller_request("OPTIONS", headers=[("Replaces", named(ladder))])
    _ = ladder >> options << 400


def test_peers_without_a_tag() -> None:
    ladder = Ladder(CONFIG)
    from_old = caller_request(body=OFFER)
    headers = from_old.headers.replaced("From", "<sip:alice@example.com>")
    _ = ladder >> Request("INVITE", from_old.uri, headers, OFFER) << 100
    (call,) = ladder.events()
    assert isinstance(call, IncomingCall)
    ladder.agent.answer(call.usage, ANSWER, ladder.now)
    _ = ladder << 200
    tag = ladder.response(200).to_tag
    _ = ladder >> taking(f"call-1;to-tag={tag};from-tag=0") << 100


def test_round_trip() -> None:
    text = "c@h;to-tag=1;from-tag=2;early-only"
    assert str(Replaces.parse(" c@h ; from-tag=2;early-only;x=y; to-tag=1")) == text
    assert str(Replaces.parse(text)) == text
    for bad in ("", ";to-tag=1;from-tag=2", "c;to-tag=;from-tag=2"):
        with pytest.raises(SipError):
            Replaces.parse(bad)

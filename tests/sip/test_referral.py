import pytest

from bridge.errors import SipError
from bridge.sip.events import CallEnded, Event, ReferProgress
from bridge.sip.message import Request
from bridge.sip.referral import sipfrag_status
from tests.sip.playbook import CallingLadder

TARGET = "sip:carol@example.com"


def referred() -> CallingLadder:
    ladder = CallingLadder().answered()
    ladder.agent.refer(ladder.usage, TARGET, ladder.now, referred_by="<sip:bot@192.0.2.1>")
    _ = ladder << "REFER"
    return ladder


def notify(ladder: CallingLadder, number: int, fragment: str, state: str = "active") -> Request:
    headers = [
        ("Event", "refer"),
        ("Subscription-State", f"{state};expires=60"),
        ("Content-Type", "message/sipfrag;version=2.0"),
    ]
    return ladder.from_callee("NOTIFY", number, headers=headers, body=fragment.encode())


def progress(events: list[Event]) -> list[tuple[int, bool]]:
    return [(e.status, e.final) for e in events if isinstance(e, ReferProgress)]


def test_transfer_is_followed_to_its_end() -> None:
    ladder = referred()
    refer = ladder.request("REFER")
    assert refer.headers.get("refer-to") == f"<{TARGET}>"
    assert refer.headers.get("referred-by") == "<sip:bot@192.0.2.1>"
    _ = ladder >> ladder.callee(202, method="REFER")
    _ = ladder >> notify(ladder, 1, "SIP/2.0 100 Trying\r\n") << 200
    _ = ladder >> notify(ladder, 2, "SIP/2.0 180 Ringing\r\n") << 200
    _ = ladder >> notify(ladder, 3, "SIP/2.0 200 OK\r\n", "terminated") << 200
    assert progress(ladder.events()) == [(202, False), (100, False), (180, False), (200, True)]
    _ = ladder >> notify(ladder, 4, "SIP/2.0 200 OK\r\n", "terminated") << 200
    assert ladder.events() == []
    ladder.wait(33)
    assert len(ladder.agent) == 1


@pytest.mark.parametrize(
    ("fragment", "state", "outcome"),
    [
        ("SIP/2.0 486 Busy Here", "terminated", (486, True)),
        ("SIP/2.0 486 Busy Here", "active", (486, True)),
        ("", "terminated;reason=timeout", (408, True)),
        ("nonsense", "active", (100, False)),
    ],
)
def test_what_a_notify_means(fragment: str, state: str, outcome: tuple[int, bool]) -> None:
    ladder = referred()
    _ = ladder >> ladder.callee(202, method="REFER") >> notify(ladder, 1, fragment, state) << 200
    assert progress(ladder.events())[1:] == [outcome]


def test_notify_before_the_202() -> None:
    ladder = referred()
    _ = ladder >> notify(ladder, 1, "SIP/2.0 200 OK", "terminated") << 200
    _ = ladder >> ladder.callee(202, method="REFER")
    assert progress(ladder.events()) == [(200, True)]


@pytest.mark.parametrize("status", [403, 501, 603])
def test_refused(status: int) -> None:
    ladder = referred()
    _ = ladder >> ladder.callee(status, method="REFER")
    assert progress(ladder.events()) == [(status, True)]
    _ = ladder >> notify(ladder, 1, "SIP/2.0 200 OK", "terminated") << 200
    assert ladder.events() == []


def test_peer_that_will_not_tell() -> None:
    ladder = referred()
    _ = ladder >> ladder.callee(202, method="REFER", headers=[("Refer-Sub", "false")])
    assert progress(ladder.events()) == [(202, True)]


def test_no_news_is_a_failure() -> None:
    ladder = referred()
    _ = ladder >> ladder.callee(202, method="REFER")
    ladder.wait(181)
    assert progress(ladder.events()) == [(202, False), (408, True)]
    unanswered = referred()
    unanswered.wait(33)
    assert progress(unanswered.events()) == [(408, True)]


def test_end_of_the_call_is_the_last_word() -> None:
    ladder = referred()
    _ = ladder >> ladder.callee(202, method="REFER") >> ladder.from_callee("BYE") << 200
    events = ladder.events()
    assert progress(events) == [(202, False), (202, True)]
    assert events[-1] == CallEnded(ladder.usage, "bye")
    ladder.wait(33)
    assert ladder.idle()
    assert ladder.events() == []


def test_end_of_the_call_before_any_answer() -> None:
    ladder = referred()
    ladder.agent.hangup(ladder.usage, ladder.now)
    events = ladder.events()
    assert progress(events) == [(487, True)]
    assert events[-1] == CallEnded(ladder.usage, "hangup")


def test_notify_without_a_refer() -> None:
    ladder = CallingLadder().answered()
    _ = ladder >> notify(ladder, 1, "SIP/2.0 200 OK") << 481


def test_attended_transfer_names_the_other_call() -> None:
    ladder = CallingLadder().answered()
    first = ladder.usage
    ladder.call()
    _ = ladder >> ladder.callee(200, "carol") << "ACK"
    call_id = ladder.request("INVITE").sip_call_id
    from_tag = ladder.request("INVITE").from_tag
    ladder.agent.refer(first, TARGET, ladder.now, replaces=ladder.usage)
    _ = ladder << "REFER"
    target = ladder.request("REFER").refer_to
    assert target is not None
    assert target.uri.header("replaces") == f"{call_id};to-tag=carol;from-tag={from_tag}"


@pytest.mark.parametrize("target", ["", "nonsense", "sip:a@b>\r\nX: y"])
def test_bad_target(target: str) -> None:
    ladder = CallingLadder().answered()
    with pytest.raises(SipError):
        ladder.agent.refer(ladder.usage, target, ladder.now)
    _ = ladder << None


def test_sipfrag() -> None:
    assert sipfrag_status(b"SIP/2.0 603\r\nTo: x") == (603, "")
    assert sipfrag_status(b"INVITE sip:a SIP/2.0") is None


def test_info() -> None:
    ladder = CallingLadder().answered()
    ladder.agent.info(ladder.usage, "application/dtmf-relay", b"Signal=5\r\n", ladder.now)
    _ = ladder << "INFO"
    assert ladder.request("INFO").content_type == "application/dtmf-relay"
    assert ladder.request("INFO").body == b"Signal=5\r\n"
    _ = ladder >> ladder.callee(200, method="INFO")
    assert ladder.events() == []

import pytest

from bridge.sip.agent_config import AgentConfig
from bridge.sip.auth import Credentials
from bridge.sip.dialog import Dialog
from bridge.sip.events import CallEnded, TransferRequested
from bridge.sip.outgoing import OutgoingInvite
from bridge.sip.referral import sipfrag_status
from tests.sip.playbook import OFFER, UDP, CallingLadder, Ladder

REFER_TO = ("Refer-To", "<sip:carol@example.com>")
CONFIG = AgentConfig(transfers=True)


def referred(*more: tuple[str, str], cseq: int = 2) -> Ladder:
    ladder = Ladder(CONFIG).established()
    _ = ladder >> ladder.in_dialog("REFER", cseq, headers=[REFER_TO, *more])
    return ladder


def accepted(*more: tuple[str, str]) -> Ladder:
    ladder = referred(*more)
    ladder.agent.refer_answer(ladder.usage, 202, ladder.now)
    _ = ladder << 202
    ladder.events()
    return ladder


def told(ladder: Ladder) -> tuple[int, str]:
    """The status of the last NOTIFY, and the state of the subscription."""
    notify = ladder.request("NOTIFY")
    assert notify.content_type == "message/sipfrag"
    status = sipfrag_status(notify.body)
    assert status is not None
    return status[0], notify.headers.get("subscription-state") or ""


def test_transfer_followed_to_its_end() -> None:
    ladder = referred(("Referred-By", "<sip:alice@example.com>"))
    assert ladder.events() == [
        TransferRequested(ladder.usage, "sip:carol@example.com", None, "<sip:alice@example.com>")
    ]
    _ = ladder << None
    agent, usage = ladder.agent, ladder.usage
    agent.refer_answer(usage, 202, ladder.now)
    _ = ladder << 202 << "NOTIFY"
    assert ladder.response(202).contact is not None
    assert ladder.request("NOTIFY").headers.get("event") == "refer"
    assert ladder.request("NOTIFY").contact is not None
    assert told(ladder) == (100, "active;expires=180")
    _ = ladder >> ladder.reply("NOTIFY", 200)
    ladder.wait(3)
    agent.notify_refer(usage, 180, "Ringing", ladder.now, final=False)
    _ = ladder << "NOTIFY"
    assert told(ladder) == (180, "active;expires=177")
    _ = ladder >> ladder.reply("NOTIFY", 200)
    agent.notify_refer(usage, 200, "OK", ladder.now, final=True)
    _ = ladder << "NOTIFY"
    assert told(ladder) == (200, "terminated;reason=noresource")
    assert ladder.request("NOTIFY").body == b"SIP/2.0 200 OK\r\n"
    _ = ladder >> ladder.reply("NOTIFY", 200) >> ladder.in_dialog("BYE", 3) << 200
    ladder.wait(33)
    assert ladder.idle()


def test_news_that_come_while_a_notify_is_out_are_told_once() -> None:
    ladder = accepted()
    _ = ladder << "NOTIFY"
    first = ladder.reply("NOTIFY", 200)
    for status in (180, 183, 486):
        ladder.agent.notify_refer(ladder.usage, status, "", ladder.now, final=status == 486)
    ladder.agent.notify_refer(ladder.usage, 200, "OK", ladder.now, final=True)
    _ = ladder << None >> first << "NOTIFY"
    assert told(ladder) == (486, "terminated;reason=noresource")
    _ = ladder >> ladder.reply("NOTIFY", 200) << None


def test_bye_right_after_the_202_leaves_the_outcome_owed() -> None:
    ladder = accepted()
    _ = ladder << "NOTIFY" >> ladder.reply("NOTIFY", 200)
    _ = ladder >> ladder.in_dialog("BYE", 3) << 200
    assert ladder.events() == [CallEnded(ladder.usage, "bye")]
    ladder.agent.notify_refer(ladder.usage, 603, "Decline", ladder.now, final=True)
    _ = ladder << "NOTIFY"
    assert told(ladder) == (603, "terminated;reason=noresource")
    _ = ladder >> ladder.reply("NOTIFY", 481)
    ladder.wait(33)
    assert ladder.idle()


@pytest.mark.parametrize("status", [481, 489])
def test_who_refuses_a_notify_hears_no_more(status: int) -> None:
    ladder = accepted()
    _ = ladder << "NOTIFY" >> ladder.reply("NOTIFY", status)
    ladder.agent.notify_refer(ladder.usage, 200, "OK", ladder.now, final=True)
    _ = ladder << None
    assert len(ladder.agent) == 1


def test_subscription_ends_by_itself() -> None:
    ladder = accepted()
    _ = ladder << "NOTIFY" >> ladder.reply("NOTIFY", 200)
    ladder.wait(181)
    _ = ladder << "NOTIFY"
    assert told(ladder) == (100, "terminated;reason=timeout")
    silent = accepted()
    silent.mark().wait(33)
    assert {name for _, name in silent.gaps()} == {"NOTIFY"}
    silent.agent.notify_refer(silent.usage, 200, "OK", silent.now, final=True)
    _ = silent << None


@pytest.mark.parametrize("flag", ["false", "False ;x"])
def test_peer_that_wants_no_news(flag: str) -> None:
    ladder = accepted(("Refer-Sub", flag), ("Require", "norefersub"))
    assert ladder.response(202).headers.get("refer-sub") == "false"
    ladder.agent.notify_refer(ladder.usage, 200, "OK", ladder.now, final=True)
    _ = ladder << None


@pytest.mark.parametrize("status", [403, 603])
def test_owner_declines(status: int) -> None:
    ladder = referred()
    ladder.agent.refer_answer(ladder.usage, status, ladder.now)
    _ = ladder << status << None
    ladder.agent.refer_answer(ladder.usage, 202, ladder.now)
    _ = ladder << None


def test_answers_that_are_none() -> None:
    ladder = referred()
    for status in (100, 204, 700):
        with pytest.raises(ValueError, match=str(status)):
            ladder.agent.refer_answer(ladder.usage, status, ladder.now)
    with pytest.raises(ValueError, match="99"):
        ladder.agent.notify_refer(ladder.usage, 99, "", ladder.now, final=False)


def test_one_transfer_at_a_time() -> None:
    ladder = referred()
    _ = ladder >> ladder.in_dialog("REFER", 3, headers=[REFER_TO]) << 491
    ladder.agent.refer_answer(ladder.usage, 202, ladder.now)
    _ = ladder << 202 << "NOTIFY" >> ladder.reply("NOTIFY", 200)
    _ = ladder >> ladder.in_dialog("REFER", 4, headers=[REFER_TO]) << 491
    ladder.agent.notify_refer(ladder.usage, 486, "Busy Here", ladder.now, final=True)
    _ = ladder << "NOTIFY" >> ladder.reply("NOTIFY", 200)
    _ = ladder >> ladder.in_dialog("REFER", 5, headers=[REFER_TO])
    ladder.agent.refer_answer(ladder.usage, 202, ladder.now)
    _ = ladder << 202 << "NOTIFY"
    assert ladder.request("NOTIFY").headers.get("event") == "refer;id=5"


def test_refer_that_waits_when_the_call_ends() -> None:
    ladder = referred()
    _ = ladder >> ladder.in_dialog("BYE", 3) << 200 << 481
    ladder.agent.refer_answer(ladder.usage, 202, ladder.now)
    _ = ladder << None


def test_refer_before_the_answer() -> None:
    ladder = Ladder(CONFIG).invite()
    ladder.agent.provisional(ladder.usage, 180, ladder.now)
    _ = ladder << 180
    ladder.tag = ladder.response(180).to_tag or ""
    _ = ladder >> ladder.in_dialog("REFER", headers=[REFER_TO]) << 500


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("", 400),
        ("<sip:a@b", 400),
        ("<sip:a@b>, <sip:c@d>", 400),
        ("<sip:a@b?Replaces=nonsense>", 400),
        ("<http://a.example/>", 416),
        ("<sip:a@b;method=BYE>", 603),
    ],
)
def test_targets_that_are_none(target: str, status: int) -> None:
    ladder = Ladder(CONFIG).established()
    _ = ladder >> ladder.in_dialog("REFER", headers=[("Refer-To", target)]) << status
    assert ladder.events() == []


def test_refer_without_a_target() -> None:
    ladder = Ladder(CONFIG).established()
    _ = ladder >> ladder.in_dialog("REFER") << 400
    _ = ladder >> ladder.in_dialog("REFER", 3, headers=[REFER_TO, ("Referred-By", "<x")]) << 400


def test_attended_transfer_to_us_is_carried_out_by_an_invite_with_replaces() -> None:
    ladder = Ladder(CONFIG).established()
    target = "<sip:carol@example.com;method=INVITE?Replaces=x%40y%3Bfrom-tag%3D1%3Bto-tag%3D2>"
    _ = ladder >> ladder.in_dialog("REFER", headers=[("Refer-To", target)])
    (event,) = ladder.events()
    assert event == TransferRequested(
        ladder.usage, "sip:carol@example.com", "x@y;to-tag=2;from-tag=1", None
    )
    assert isinstance(event, TransferRequested)
    call = OutgoingInvite(
        event.refer_to,
        (UDP,),
        "<sip:bot@192.0.2.1>",
        f"<{event.refer_to}>",
        body=OFFER,
        replaces=event.replaces or "",
    )
    ladder.agent.invite(call, ladder.now)
    _ = ladder << "INVITE"
    assert ladder.request("INVITE").headers.get("replaces") == "x@y;to-tag=2;from-tag=1"
    assert ladder.request("INVITE").require == ["replaces"]


def test_what_is_offered_follows_the_flag() -> None:
    assert "REFER" not in AgentConfig().allow
    assert "REFER" in CONFIG.allow
    assert "norefersub" in CONFIG.supported


def test_challenged_notify_is_answered_on_calls_of_ours() -> None:
    ladder = CallingLadder(CONFIG)
    ladder.answered(credentials=Credentials("bot", "secret"))
    _ = ladder >> ladder.from_callee("REFER", headers=[REFER_TO])
    ladder.agent.refer_answer(ladder.usage, 202, ladder.now)
    _ = ladder << 202 << "NOTIFY"
    challenge = ("Proxy-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')
    asked = ladder.callee(407, method="NOTIFY", headers=[challenge], contact=None)
    _ = ladder >> asked << "NOTIFY"
    assert ladder.request("NOTIFY").headers.get("proxy-authorization") is not None
    assert ladder.request("NOTIFY").cseq.number == asked.cseq.number + 1


def test_dialogs_name_themselves_for_the_peer() -> None:
    ladder = CallingLadder().answered()
    invite = ladder.request("INVITE")
    dialog = Dialog.from_response(invite, ladder.callee(200), UDP)
    assert dialog.replaces == f"{invite.sip_call_id};to-tag=bob;from-tag={invite.from_tag}"


def test_bye_that_a_notify_has_overtaken_is_said_again() -> None:
    ladder = accepted()
    _ = ladder << "NOTIFY" >> ladder.reply("NOTIFY", 200)
    ladder.agent.hangup(ladder.usage, ladder.now)
    ladder.agent.notify_refer(ladder.usage, 200, "OK", ladder.now, final=True)
    _ = ladder << "BYE" << "NOTIFY" >> ladder.reply("NOTIFY", 200)
    number = ladder.request("BYE").cseq.number
    for more in (2, 3):
        _ = ladder >> ladder.reply("BYE", 500) << "BYE"
        assert ladder.request("BYE").cseq.number == number + more
    _ = ladder >> ladder.reply("BYE", 500) << None
    assert len(ladder.agent) == 0


def owing() -> Ladder:
    """Hung up by us while the outcome waits for an answer to the first NOTIFY."""
    ladder = accepted()
    _ = ladder << "NOTIFY"
    ladder.agent.notify_refer(ladder.usage, 200, "OK", ladder.now, final=True)
    ladder.agent.hangup(ladder.usage, ladder.now)
    assert ladder.events() == [CallEnded(ladder.usage, "hangup")]
    _ = ladder << None
    return ladder


def test_outcome_is_told_before_the_bye() -> None:
    ladder = owing()
    _ = ladder >> ladder.reply("NOTIFY", 200) << "NOTIFY"
    assert told(ladder) == (200, "terminated;reason=noresource")
    _ = ladder << "BYE" >> ladder.reply("NOTIFY", 200) >> ladder.reply("BYE", 200)
    ladder.wait(33)
    assert ladder.idle()
    assert ladder.events() == []


@pytest.mark.parametrize("status", [481, 489])
def test_bye_to_who_refuses_the_news(status: int) -> None:
    ladder = owing()
    _ = ladder >> ladder.reply("NOTIFY", status) << "BYE" << None


def test_bye_to_who_never_answers_the_news() -> None:
    ladder = owing()
    ladder.mark().wait(33)
    names = [name for _, name in ladder.gaps()]
    first = names.index("BYE")
    assert (set(names[:first]), set(names[first:])) == ({"NOTIFY"}, {"BYE"})
    assert ladder.events() == []


def test_peer_hangs_up_while_it_is_owed_the_outcome() -> None:
    ladder = owing()
    _ = ladder >> ladder.in_dialog("INFO", 3) << 481 >> ladder.in_dialog("BYE", 4) << 200
    _ = ladder >> ladder.reply("NOTIFY", 200) << "NOTIFY" >> ladder.reply("NOTIFY", 200) << None
    ladder.wait(33)
    assert ladder.idle()

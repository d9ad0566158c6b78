import random
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from bridge.errors import SipError
from bridge.sip.message import Request, Response
from bridge.sip.register import (
    MAX_MOVES,
    TABLE,
    Closed,
    Input,
    Registered,
    Registration,
    RegistrationFailed,
    SendKeepAlive,
    SendRegister,
    State,
)
from tests.sip.registering import (
    CONFIG,
    Lines,
    authorization,
    challenge,
    due,
    make,
    only,
    registered,
    reply,
    sent_by,
)


def test_every_input_that_can_come_has_its_row() -> None:
    assert set(TABLE) == set(State)
    for state in (State.REGISTERING, State.REFRESHING):
        assert {Input.SUCCESS, Input.TRY_AGAIN, Input.REFUSED, Input.FAILURE} <= set(TABLE[state])
    reachable = {next_state for row in TABLE.values() for next_state, _ in row.values()}
    assert reachable == set(State) - {State.IDLE}


def test_registers_with_a_password() -> None:
    registration = make()
    registration.start(0.0)
    first = sent_by(registration)
    assert (first.method, first.uri) == ("REGISTER", "sip:pbx.example")
    assert first.to.uri == first.from_.uri
    assert first.headers.get("contact") == "<sip:1000@192.0.2.1:5060>;expires=3600"
    assert first.headers.get("supported") == "path"
    assert "authorization" not in first.headers
    registration.receive(reply(first, 100), 0.1)
    registration.receive(reply(first, 401, challenge()), 0.2)
    second = sent_by(registration)
    assert second.sip_call_id == first.sip_call_id
    assert second.from_tag == first.from_tag
    assert second.cseq.number == first.cseq.number + 1
    proof = authorization(second)
    assert proof.response == proof.expected("secret", "REGISTER", b"")
    contact = ("Contact", f"<sip:other@198.51.100.9>;expires=5, {CONFIG.contact};expires=600")
    registration.receive(
        reply(
            second, 200, contact, ("Service-Route", "<sip:a;lr>, <sip:b;lr>"), ("Path", "<sip:p>")
        ),
        1.0,
    )
    assert only(registration) == Registered(
        "sip:pbx.example", 600, ("<sip:a;lr>", "<sip:b;lr>"), ("<sip:p>",), None, refreshed=False
    )
    assert registration.bound_until == 601.0


def test_refreshes_with_the_known_nonce() -> None:
    registration = make()
    registration.start(0.0)
    registration.receive(reply(sent_by(registration), 401, challenge()), 0.0)
    registration.receive(reply(sent_by(registration), 200, ("Expires", "3600")), 0.0)
    registration.take()
    assert due(registration) == pytest.approx(3240.0)
    registration.handle_timer(3239.0)
    assert registration.take() == []
    registration.handle_timer(3240.0)
    refresh = sent_by(registration)
    assert (authorization(refresh).nonce, authorization(refresh).nc) == ("n1", 2)
    assert registration.state is State.REFRESHING
    info = ("Authentication-Info", 'nextnonce="n2"')
    registration.receive(reply(refresh, 200, ("Expires", "3600"), info), 3241.0)
    output = only(registration)
    assert isinstance(output, Registered)
    assert output.refreshed
    registration.handle_timer(due(registration))
    refresh = sent_by(registration)
    assert (authorization(refresh).nonce, authorization(refresh).nc) == ("n2", 1)


@pytest.mark.parametrize(
    ("granted", "refresh"), [(3600, 3240), (300, 268), (120, 88), (60, 30), (10, 5), (1, 0.5)]
)
def test_refresh_leaves_time_for_a_retry(granted: int, refresh: float) -> None:
    assert due(registered(expires=granted)) == pytest.approx(refresh)


def test_interval_too_brief() -> None:
    registration = make(replace(CONFIG, expires_s=60))
    registration.start(0.0)
    registration.receive(reply(sent_by(registration), 423, ("Min-Expires", "1800")), 0.0)
    raised = sent_by(registration)
    assert raised.expires == 1800
    registration.receive(reply(raised, 423, ("Min-Expires", "3600")), 0.0)
    output = only(registration)
    assert isinstance(output, RegistrationFailed)
    assert output.status == 423


@pytest.mark.parametrize("headers", [(), (("Min-Expires", "60"),), (("Min-Expires", "x"),)])
def test_interval_too_brief_without_a_better_one(headers: Lines) -> None:
    registration = make(replace(CONFIG, expires_s=60))
    registration.start(0.0)
    registration.receive(reply(sent_by(registration), 423, *headers), 0.0)
    assert registration.state is State.WAITING


def test_waits_longer_each_time() -> None:
    registration = make()
    registration.start(0.0)
    now, waits = 0.0, []
    for _ in range(9):
        registration.no_answer(sent_by(registration), now)
        failure = only(registration)
        assert isinstance(failure, RegistrationFailed)
        assert failure.status is None
        assert failure.retry_at == due(registration)
        waits.append(due(registration) - now)
        now = due(registration)
        registration.handle_timer(now)
    for number, wait in enumerate(waits):
        full = min(30.0 * 2**number, 1800.0)
        assert full / 2 <= wait <= full


def test_retry_after_is_kept_within_reason() -> None:
    for asked, least, most in (("120", 120, 120), ("4000000000", 3600, 3600), ("1", 15, 30)):
        registration = make()
        registration.start(0.0)
        registration.receive(reply(sent_by(registration), 503, ("Retry-After", asked)), 0.0)
        assert least <= due(registration) <= most


def test_fails_over_and_comes_back_to_the_first() -> None:
    targets = ("sip:a.example", "sip:b.example;transport=tcp")
    registration = make(replace(CONFIG, targets=targets))
    registration.start(0.0)
    registration.no_answer(sent_by(registration), 32.0)
    assert only(registration) == RegistrationFailed("sip:a.example", None, "No Answer", 32.0)
    registration.handle_timer(32.0)
    (output,) = registration.take()
    assert isinstance(output, SendRegister)
    assert (output.target, output.request.uri) == (targets[1], "sip:pbx.example")
    registration.receive(reply(output.request, 200), 32.0)
    assert isinstance(only(registration), Registered)
    # It stays where it is while that works.
    registration.handle_timer(due(registration))
    (output,) = registration.take()
    assert isinstance(output, SendRegister)
    assert output.target == targets[1]
    now = 4000.0
    registration.receive(reply(output.request, 503), now)
    registration.take()
    registration.handle_timer(now)
    (output,) = registration.take()
    assert isinstance(output, SendRegister)
    assert output.target == targets[0]
    registration.receive(reply(output.request, 500), now)
    registration.take()
    assert 15.0 <= due(registration) - now <= 30.0
    assert registration.target == targets[0]


def test_a_lost_connection_is_made_up_for_soon() -> None:
    registration = registered()
    registration.flow_lost(100.0)
    failure = only(registration)
    assert isinstance(failure, RegistrationFailed)
    assert failure.reason == "Connection Lost"
    assert 100.0 < due(registration) <= 102.0
    registration.handle_timer(due(registration))
    request = sent_by(registration)
    registration.flow_lost(101.0)
    registration.take()
    assert registration.state is State.WAITING
    registration.receive(reply(request, 200), 101.0)
    assert registration.take() == []
    assert due(registration) >= 116.0


def test_takes_its_binding_back() -> None:
    registration = registered()
    registration.close(10.0)
    leaving = sent_by(registration)
    assert leaving.headers.get("contact") == "<sip:1000@192.0.2.1:5060>;expires=0"
    assert leaving.expires == 0
    assert registration.next_timer() is None
    registration.receive(reply(leaving, 401, challenge()), 10.0)
    leaving = sent_by(registration)
    assert leaving.expires == 0
    registration.receive(reply(leaving, 200), 10.0)
    assert registration.take() == [Closed()]
    assert registration.bound_until is None
    for act in (registration.start, registration.close, registration.flow_lost):
        act(11.0)
    assert registration.take() == []


def test_close_overtakes_a_pending_register() -> None:
    registration = make()
    registration.start(0.0)
    pending = sent_by(registration)
    registration.close(1.0)
    leaving = sent_by(registration)
    assert leaving.cseq.number > pending.cseq.number
    registration.receive(reply(pending, 200), 1.0)
    registration.no_answer(pending, 1.0)
    assert registration.take() == []
    registration.no_answer(leaving, 33.0)
    assert registration.take() == [Closed()]


def test_close_with_nothing_to_take_back() -> None:
    for registration in (make(), make()):
        registration.close(0.0)
        assert registration.take() == [Closed()]
    waiting = make()
    waiting.start(0.0)
    waiting.no_answer(sent_by(waiting), 0.0)
    waiting.take()
    waiting.close(1.0)
    assert waiting.take() == [Closed()]
    assert waiting.next_timer() is None


@pytest.mark.parametrize(
    ("transport", "headers", "least", "most"),
    [
        ("udp", (), 24.0, 29.0),
        ("tcp", (), 95.0, 120.0),
        ("udp", (("Flow-Timer", "120"),), 96.0, 120.0),
        ("tls", (("Flow-Timer", "0"),), 95.0, 120.0),
    ],
)
def test_keepalives(transport: str, headers: Lines, least: float, most: float) -> None:
    registration = make(replace(CONFIG, transport=transport, keepalive=True))
    registration.start(0.0)
    registration.receive(reply(sent_by(registration), 200, *headers), 0.0)
    registration.take()
    now = 0.0
    for _ in range(5):
        assert least <= due(registration) - now <= most
        now = due(registration)
        registration.handle_timer(now)
        assert only(registration) == SendKeepAlive("sip:pbx.example")
    registration.flow_lost(now)
    registration.take()
    assert due(registration) <= now + 2.0


def test_outbound_and_the_public_address() -> None:
    registration = make(replace(CONFIG, instance="urn:uuid:0-1", user_agent="x"))
    registration.start(0.0)
    request = sent_by(registration)
    contact = request.contact
    assert contact is not None
    assert contact.params.get("+sip.instance") == '"<urn:uuid:0-1>"'
    assert contact.params.get("reg-id") == "1"
    assert request.headers.get("supported") == "path, outbound"
    ok = reply(request, 200)
    via = "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx;received=203.0.113.5;rport=6060"
    registration.receive(replace(ok, headers=ok.headers.replaced("via", via)), 0.0)
    output = only(registration)
    assert isinstance(output, Registered)
    assert output.public_address == ("203.0.113.5", 6060)


# Everybody at the office registers by one name.
OTHERS = ", ".join(f"<sip:1000@192.0.2.{host}>;expires=3599" for host in range(10, 50))
PHONES = [("Contact", f"<sip:1000@192.0.2.{host}>;expires=3599") for host in range(50, 90)]


@pytest.mark.parametrize(
    ("headers", "granted"),
    [
        ((), 3600),
        ((("Expires", "90"),), 90),
        ((("Contact", "<sip:1000@NAT.example:99>;expires=70"), ("Expires", "90")), 70),
        ((("Contact", "<sip:1000@192.0.2.1:5060>"), ("Expires", "90")), 90),
        ((("Contact", "<sip:1000@192.0.2.1:5060>;expires=9999999999"),), 3600),
        ((("Contact", "<nonsense"),), 3600),
        ((("Contact", f"{OTHERS}, <nonsense>, <sip:1000@192.0.2.1:5060>;expires=75"),), 75),
        ((("Contact", f"{OTHERS}, <sip:1000@192.0.2.1:5060>;expires=75"), *PHONES), 75),
        ((("Expires", "4294967295"),), 86400),
    ],
)
def test_what_was_granted(headers: Lines, granted: int) -> None:
    registration = make()
    registration.start(0.0)
    registration.receive(reply(sent_by(registration), 200, *headers), 0.0)
    output = only(registration)
    assert isinstance(output, Registered)
    assert output.expires_s == granted


def test_a_binding_granted_for_no_time_is_none() -> None:
    registration = make()
    registration.start(0.0)
    registration.receive(reply(sent_by(registration), 200, ("Expires", "0")), 0.0)
    assert registration.state is State.WAITING


def test_foreign_responses_are_ignored() -> None:
    registration = make()
    registration.start(0.0)
    request = sent_by(registration)
    other = replace(request, headers=request.headers.replaced("call-id", "other"))
    registration.receive(reply(other, 200), 0.0)
    other = replace(request, headers=request.headers.replaced("cseq", "77 REGISTER"))
    registration.receive(reply(other, 200), 0.0)
    assert registration.state is State.REGISTERING


@pytest.mark.parametrize("aor", ["", "1000", "tel:+4930", "sip:pbx.example"])
def test_not_an_address_of_record(aor: str) -> None:
    with pytest.raises(SipError):
        make(replace(CONFIG, aor=aor))


ANSWERS = st.sampled_from([None, 200, 302, 401, 403, 407, 423, 500, 503, "lost", "late", "close"])


@settings(max_examples=200)
@given(st.lists(ANSWERS, max_size=40), st.integers(0, 2**32))
def test_never_stuck(answers: list[int | str | None], seed: int) -> None:
    """Whatever is answered, it waits for an answer or a timer, or has said why it stopped."""
    config = replace(CONFIG, targets=("sip:a", "sip:b"), keepalive=True)
    registration = Registration(config, random.Random(seed))
    registration.start(0.0)
    now, pending = 0.0, None
    for answer in [*answers, None, "close", None]:
        for output in registration.take():
            pending = output.request if isinstance(output, SendRegister) else pending
        if answer == "lost":
            registration.flow_lost(now)
        elif answer == "close":
            registration.close(now)
        elif answer == "late" or pending is None:
            now = max(now, registration.next_timer() or now)
            registration.handle_timer(now)
        elif answer is None:
            now += 32.0
            registration.no_answer(pending, now)
            pending = None
        else:
            status = int(answer)
            headers = [challenge(status=status)] if status in (401, 407) else []
            registration.receive(reply(pending, status, *headers), now)
            pending = None
        waits_for_answer = any(isinstance(o, SendRegister) for o in registration._outputs)
        assert (
            registration.state in (State.REFUSED, State.CLOSED)
            or registration.next_timer() is not None
            or waits_for_answer
            or pending is not None
        )
    if registration.state is State.LEAVING:
        for output in registration.take():
            if isinstance(output, SendRegister):
                registration.no_answer(output.request, now)
    assert registration.state is State.CLOSED


def test_headers_cannot_be_injected() -> None:
    registration = make(replace(CONFIG, contact="sip:x@y>\r\nEvil: 1"))
    registration.start(0.0)
    with pytest.raises(SipError):
        bytes(sent_by(registration))


def seen_at(sent: Request, address: str, port: int) -> Response:
    """A 200 of a registrar that has seen us there."""
    via = f"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx;received={address};rport={port}"
    answered = reply(sent, 200, ("Expires", "3600"))
    return replace(answered, headers=answered.headers.replaced("Via", via))


def test_behind_a_nat_it_registers_where_it_is_seen() -> None:
    registration = make(replace(CONFIG, learns=True))
    registration.start(0.0)
    registration.receive(seen_at(sent_by(registration), "203.0.113.9", 40_000), 1.0)
    assert isinstance(only(registration), Registered)
    assert due(registration) == 1.0
    registration.handle_timer(1.0)
    moved = sent_by(registration)
    assert moved.headers.get_all("contact") == [
        "<sip:1000@203.0.113.9:40000>;expires=3600",
        "<sip:1000@192.0.2.1:5060>;expires=0",
    ]
    registration.receive(seen_at(moved, "203.0.113.9", 40_000), 2.0)
    assert isinstance(only(registration), Registered)
    # It stays there, and what it takes back is the new one.
    assert due(registration) > 1000
    registration.close(3.0)
    assert sent_by(registration).headers.get_all("contact") == [
        "<sip:1000@203.0.113.9:40000>;expires=0"
    ]


def test_a_nat_that_moves_it_each_time_is_not_followed_for_ever() -> None:
    registration = make(replace(CONFIG, learns=True))
    registration.start(0.0)
    now = 0.0
    for port in range(40_000, 40_100):
        registration.receive(seen_at(sent_by(registration), "203.0.113.9", port), now)
        assert isinstance(only(registration), Registered)
        if due(registration) > now:
            break
        registration.handle_timer(now)
    assert port - 40_000 == MAX_MOVES


@pytest.mark.parametrize("address", ["192.0.2.1", "a-name.example"])
def test_nothing_is_learned(address: str) -> None:
    registration = make(replace(CONFIG, learns=True))
    registration.start(0.0)
    registration.receive(seen_at(sent_by(registration), address, 5060), 0.0)
    assert isinstance(only(registration), Registered)
    assert due(registration) > 1000


def test_a_connection_without_a_nat_is_no_move() -> None:
    registration = make(replace(CONFIG, learns=True, transport="tcp"))
    registration.start(0.0)
    registration.receive(seen_at(sent_by(registration), "192.0.2.1", 40_000), 0.0)
    assert isinstance(only(registration), Registered)
    assert due(registration) > 1000

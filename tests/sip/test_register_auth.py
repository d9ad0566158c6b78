import random
from dataclasses import replace

import pytest

from bridge.sip.auth import Credentials
from bridge.sip.digest_gate import DigestGate
from bridge.sip.message import Rejection
from bridge.sip.register import (
    RegistrationFailed,
    State,
)
from tests.sip.registering import (
    CONFIG,
    CREDENTIALS,
    authorization,
    challenge,
    due,
    make,
    only,
    registered,
    reply,
    sent_by,
)


def test_a_restarted_registrar_has_new_nonces() -> None:
    registration = registered()
    registration.handle_timer(due(registration))
    registration.receive(reply(sent_by(registration), 401, challenge("a")), 3300.0)
    registration.receive(reply(sent_by(registration), 200), 3300.0)
    registration.take()
    registration.handle_timer(due(registration))
    # Not even said to be stale: the answer was unasked for, so this is the first challenge.
    registration.receive(reply(sent_by(registration), 401, challenge("b")), 7000.0)
    again = sent_by(registration)
    assert (authorization(again).nonce, authorization(again).nc) == ("b", 1)
    registration.receive(reply(again, 200), 7000.0)
    assert registration.state is State.REGISTERED


def test_stale_is_worth_another_try_but_not_for_ever() -> None:
    registration = make()
    registration.start(0.0)
    for number in range(3):
        sent = sent_by(registration)
        registration.receive(reply(sent, 401, challenge(f"n{number}", stale=True)), 0.0)
    assert only(registration) == RegistrationFailed("sip:pbx.example", 401, "Unauthorized", None)


def test_a_proxy_and_the_registrar_may_both_ask() -> None:
    registration = make()
    registration.start(0.0)
    registration.receive(reply(sent_by(registration), 407, challenge("p", status=407)), 0.0)
    registration.receive(reply(sent_by(registration), 401, challenge("w")), 0.0)
    both = sent_by(registration)
    assert authorization(both).nonce == "w"
    assert authorization(both, "proxy-authorization").nonce == "p"
    assert authorization(both, "proxy-authorization").nc == 2
    registration.receive(reply(both, 200), 0.0)
    assert registration.state is State.REGISTERED


def test_a_wrong_password_is_tried_twice_at_most() -> None:
    registration = make()
    registration.start(0.0)
    tries = 0
    while registration.state is State.REGISTERING:
        tries += 1
        registration.receive(reply(sent_by(registration), 401, challenge(f"n{tries}")), 0.0)
    assert tries == 2
    assert only(registration) == RegistrationFailed("sip:pbx.example", 401, "Unauthorized", None)
    assert registration.state is State.REFUSED
    assert registration.next_timer() is None
    registration.start(100.0)
    assert "authorization" not in sent_by(registration).headers


@pytest.mark.parametrize("credentials", [None, replace(CREDENTIALS, realm="elsewhere")])
def test_a_challenge_for_another_realm_is_not_answered(credentials: Credentials | None) -> None:
    registration = make(replace(CONFIG, credentials=credentials))
    registration.start(0.0)
    registration.receive(reply(sent_by(registration), 401, challenge()), 0.0)
    assert isinstance(only(registration), RegistrationFailed)
    assert registration.state is State.REFUSED


def test_nonces_stay_with_the_registrar_that_made_them() -> None:
    registration = make(replace(CONFIG, targets=("sip:a.example", "sip:b.example")))
    registration.start(0.0)
    registration.receive(reply(sent_by(registration), 401, challenge()), 0.0)
    registration.receive(reply(sent_by(registration), 503), 0.0)
    registration.take()
    registration.handle_timer(0.0)
    assert "authorization" not in sent_by(registration).headers


def test_against_our_own_gate() -> None:
    gate = DigestGate("pbx.example", {"1000": "secret"}.get, random.Random(9))
    registration = make()
    registration.start(0.0)
    now = 0.0
    for _ in range(6):
        request = sent_by(registration)
        found: Rejection | None = gate.check(request, "192.0.2.1", now)
        if found is None:
            registration.receive(reply(request, 200, ("Expires", "200")), now)
            registration.take()
            now = due(registration)
            registration.handle_timer(now)
        else:
            registration.receive(reply(request, found.status, *found.headers), now)
    assert gate.stats.failed == 0
    assert gate.stats.admitted >= 3

"""Events beside OpenAI's reach those who asked for them, and nobody else."""

from typing import Any

import pytest

from bridge.realtime.extras import digits_unavailable
from bridge.realtime.outputs import SendDigits
from tests.conftest import MakePlaybook


def with_extras(playbook: MakePlaybook, *, on_call: bool = True) -> Any:
    """Clients "a" without and "b" and "c" with extra events."""
    book = playbook(on_call=on_call)
    for client in ("b", "c"):
        book.server.attach(client, 0.0, extras=True)
    book.pump()
    book.private.clear()
    return book


def test_a_digit_is_told_twice_to_those_who_asked(playbook: MakePlaybook) -> None:
    book = with_extras(playbook)
    book.server.digit("#", 1_790_000_000, as_turn=False, now=0.0)
    assert book.types() == ["input_audio_buffer.dtmf_event_received"]
    [(one, event), (other, same)] = book.private
    assert (one, other) == ("b", "c")
    assert event is same
    assert (event["type"], event["event"]) == ("transport.dtmf.received", "#")


def test_whoever_left_hears_nothing(playbook: MakePlaybook) -> None:
    book = with_extras(playbook)
    book.server.detach("b")
    book.server.transport_event("transport.held", 0.0)
    book.server.transport_event("transport.transfer.failed", 0.0, {"status": 486})
    book.pump()
    assert [(to, e["type"]) for to, e in book.private] == [
        ("c", "transport.held"),
        ("c", "transport.transfer.failed"),
    ]
    assert book.private[1][1]["status"] == 486


def test_the_end_is_the_last_event(playbook: MakePlaybook) -> None:
    book = with_extras(playbook)
    book >> {"type": "response.create"}
    book.answer()
    book.heard_ms = 500
    book.private.clear()
    sent: list[str] = []
    book.conforms = lambda event: sent.append(event["type"])
    book.server.finish(0.0, reason="remote_hangup")
    book.server.finish(0.0, reason="twice")
    book.pump()
    assert sent[-1] == "response.done"
    assert [(to, e["type"], e["reason"]) for to, e in book.private] == [
        ("b", "transport.ended", "remote_hangup"),
        ("c", "transport.ended", "remote_hangup"),
    ]


def test_keys_are_pressed_for_those_who_asked(playbook: MakePlaybook) -> None:
    book = with_extras(playbook)
    send = {"type": "transport.dtmf.send", "event": "12a#", "event_id": "evt_1"}
    book.say("b", send)
    assert book.order(SendDigits) == SendDigits("12A#", "b", "evt_1")
    book.say("a", send)
    error = book.error("a")
    assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "type", "evt_1")
    assert error["message"].startswith("Invalid value: 'transport.dtmf.send'. Supported values")
    assert error["message"].count("transport.") == 1


@pytest.mark.parametrize("keys", ["", "x", "1 2", "1" * 65, "\u0661"])
def test_other_keys_are_refused(playbook: MakePlaybook, keys: str) -> None:
    book = with_extras(playbook)
    book.say("b", {"type": "transport.dtmf.send", "event": keys})
    assert book.error("b")["param"] == "event"


def test_there_must_be_a_call_and_a_way(playbook: MakePlaybook) -> None:
    book = with_extras(playbook, on_call=False)
    book.say("b", {"type": "transport.dtmf.send", "event": "1"})
    assert book.error("b")["code"] == "no_call"
    book.server.refuse("b", "evt_1", digits_unavailable())
    assert book.error("b")["code"] == "dtmf_not_available"
    book.server.finish(0.0, reason="left")
    assert book.types() == []
    assert not book.private

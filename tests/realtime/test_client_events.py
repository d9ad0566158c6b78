"""Reading what clients send, hostile clients included."""

import json
from time import perf_counter
from typing import Any

import pytest

from bridge.errors import RequestError
from bridge.realtime import client_events
from bridge.realtime.client_events import MAX_EVENT, MAX_SESSION, decode_object, parse
from bridge.realtime.errors import BadEvent
from bridge.realtime.session_config import SessionConfig

STALL_S = 0.3  # 10 ms on an idle machine: this only tells seconds from milliseconds


def refusal(text: str | bytes) -> BadEvent:
    with pytest.raises(BadEvent) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({}, "invalid_event", "type"),
        ([], "invalid_event", None),
        ({"type": 5}, "invalid_type", "type"),
        ({"type": None}, "invalid_type", "type"),
        ({"type": "session.created"}, "invalid_value", "type"),
        ({"type": "x" * 10_000}, "invalid_value", "type"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": 5}, "invalid_type", "audio"),
        ({"type": "input_audio_buffer.append", "audio": None}, "invalid_type", "audio"),
        ({"type": "conversation.item.delete"}, "missing_required_parameter", "item_id"),
        ({"type": "response.cancel", "response_id": {}}, "invalid_type", "response_id"),
        ({"type": "response.cancel", "event_id": 7}, "invalid_type", "event_id"),
        ({"type": "response.cancel", "event_id": "x" * 513}, "invalid_value", "event_id"),
        (
            {
                "type": "conversation.item.truncate",
                "item_id": "i",
                "content_index": 0,
                "audio_end_ms": 1.5,
            },
            "invalid_type",
            "audio_end_ms",
        ),
    ],
)
def test_refusals_name_code_and_param(event: Any, code: str, param: str | None) -> None:
    bad = refusal(json.dumps(event))
    assert (bad.code, bad.param) == (code, param)


def test_unknown_types_are_told_the_known_ones() -> None:
    bad = refusal('{"type":"response.stop","event_id":"evt_7"}')
    assert bad.event_id == "evt_7"
    assert bad.message.startswith("Invalid value: 'response.stop'. Supported values are: '")
    assert "'session.update'" in bad.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "hello",
        b"\xff\xfe",
        '{"type":"session.update","session":NaN}',
        '{"type":"session.update","session":Infinity}',
        '{"type":"session.update","event_id":"\\ud800"}',
        '{"type":"session.update","event_id":"\ud800"}',
        '{"type":"session.update","x":' + "[" * 100_000,
        '{"type":"session.update","x":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"x":' * 100_000,
    ],
)
def test_what_is_not_json(text: str | bytes) -> None:
    assert refusal(text).code == "invalid_json"


def test_unknown_fields_are_skipped_and_the_last_duplicate_counts() -> None:
    event = parse('{"type":"response.cancel","x":{"y":[1]},"response_id":"a","response_id":"b"}')
    assert event == client_events.ResponseCancel(response_id="b")


def test_a_million_keys_do_not_hold_the_loop() -> None:
    keys = ",".join(f'"k{n}":{n}' for n in range(1_000_000))
    began = perf_counter()
    event = parse(
        f'{{"type":"session.update","session":{{{keys[:16_000_000].rsplit(",", 1)[0]}}}}}'
    )
    assert isinstance(event, client_events.SessionUpdate)
    with pytest.raises(RequestError) as caught:
        decode_object(event.session, "session")
    assert perf_counter() - began < STALL_S
    assert caught.value.param == "session"


@pytest.mark.parametrize("number", ["1" * 4301, "1e999", "-" + "9" * 400])
def test_huge_numbers(number: str) -> None:
    event = parse(f'{{"type":"session.update","session":{{"speed":{number}}}}}')
    assert isinstance(event, client_events.SessionUpdate)
    with pytest.raises(RequestError) as caught:
        SessionConfig.create(decode_object(event.session, "session"))
    assert caught.value.code in ("invalid_value", "missing_required_parameter")


def test_events_are_bounded() -> None:
    assert refusal(" " * (MAX_EVENT + 1)).code == "payload_too_large"


def test_objects_must_be_there_and_be_objects() -> None:
    event = parse('{"type":"session.update"}')
    assert isinstance(event, client_events.SessionUpdate)
    with pytest.raises(RequestError) as caught:
        decode_object(event.session, "session")
    assert caught.value.code == "missing_required_parameter"
    event = parse('{"type":"session.update","session":[]}')
    assert isinstance(event, client_events.SessionUpdate)
    with pytest.raises(RequestError) as caught:
        decode_object(event.session, "session")
    assert caught.value.code == "invalid_type"


def test_a_session_is_bounded() -> None:
    event = parse('{"type":"session.update","session":{"x":"' + "y" * MAX_SESSION + '"}}')
    assert isinstance(event, client_events.SessionUpdate)
    with pytest.raises(RequestError) as caught:
        decode_object(event.session, "session", most=MAX_SESSION)
    assert caught.value.param == "session"


def test_structure_is_counted_before_it_is_built() -> None:
    event = parse('{"type":"session.update","session":{"tools":[' + "[]," * 40_000 + "[]]}}")
    assert isinstance(event, client_events.SessionUpdate)
    with pytest.raises(RequestError) as caught:
        decode_object(event.session, "session")
    assert "too many" in caught.value.message


def test_integers_that_python_would_not_print() -> None:
    event = '{"type":"conversation.item.truncate","item_id":"i","content_index":0,"audio_end_ms":'
    assert refusal(event + "9" * 4301 + "}").param == "audio_end_ms"

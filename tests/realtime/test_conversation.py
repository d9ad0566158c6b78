"""Editing the conversation: what goes in where, what comes back, what is forgotten."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from bridge.ids import SessionId
from bridge.realtime.outputs import Play, Send, StartResponse, Transcribe
from bridge.realtime.server import Policy, RealtimeServer
from bridge.realtime.session_config import SessionConfig

TRANSCRIBING = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}


def create(item: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": item, **more}


def message(text: str = "Hi", **more: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content, **more}


def order_of(book: Any) -> list[str]:
    return [item.id for item in book.server._conversation]


def test_where_items_go(playbook: Any) -> None:
    book = playbook()
    book >> create(message(id="b")) >> create(message(id="d"))
    book >> create(message(id="a"), previous_item_id="root")
    book >> create(message(id="c"), previous_item_id="b")
    assert order_of(book) == ["a", "b", "c", "d"]
    assert [e["previous_item_id"] for e in book.events[::2]] == [None, "b", None, "b"]
    book.types()
    book >> create(message(), previous_item_id="zz", event_id="evt_1")
    error = book.error()
    assert (error["code"], error["param"]) == ("item_not_found", "previous_item_id")
    assert order_of(book) == ["a", "b", "c", "d"]
    book >> create(message(id="a"))
    assert book.error()["param"] == "item.id"
    book >> {"type": "conversation.item.delete", "item_id": "b"}
    assert book.types() == ["conversation.item.deleted"]
    book >> {"type": "conversation.item.delete", "item_id": "b"}
    assert book.error()["code"] == "item_not_found"


@pytest.mark.parametrize(
    ("item", "code", "param"),
    [
        ({}, "missing_required_parameter", "item.type"),
        ({"type": "video"}, "invalid_value", "item.type"),
        ({"type": "message"}, "missing_required_parameter", "item.role"),
        ({"type": "message", "role": "tool", "content": []}, "invalid_value", "item.role"),
        ({"type": "message", "role": "user"}, "missing_required_parameter", "item.content"),
        ({"type": "message", "role": "user", "content": "x"}, "invalid_type", "item.content"),
        (
            {"type": "message", "role": "user", "content": [{"type": "output_text", "text": ""}]},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {"type": "message", "role": "assistant", "content": [{"type": "output_audio"}]},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_text"}]},
            "missing_required_parameter",
            "item.content[0].text",
        ),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_audio"}]},
            "missing_required_parameter",
            "item.content[0].audio",
        ),
        (
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_image", "image_url": "http://x/y.png"}],
            },
            "invalid_value",
            "item.content[0].image_url",
        ),
        ({"type": "function_call_output", "call_id": "c"}, "missing_required_parameter", None),
        (
            {"type": "function_call_output", "call_id": "c", "output": "x"},
            "invalid_tool_call_id",
            "item.call_id",
        ),
        ({**message(), "status": "cancelled"}, "invalid_value", "item.status"),
        ({**message(), "id": 5}, "invalid_type", "item.id"),
    ],
)
def test_refused_items(playbook: Any, item: dict[str, Any], code: str, param: str | None) -> None:
    book = playbook()
    book >> create(item)
    error = book.error()
    assert error["code"] == code
    assert param in (None, error["param"])


def test_items_of_every_kind(playbook: Any) -> None:
    book = playbook()
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    words = {"type": "input_audio", "transcript": "hello"}
    kinds = [
        {**message(), "role": "system"},
        {"type": "message", "role": "user", "content": [image, words]},
        {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
        {"type": "mcp_list_tools", "server_label": "s", "tools": []},
        {"type": "mcp_call", "id": "m", "server_label": "s", "name": "n", "arguments": "{}"},
        {
            "type": "mcp_approval_request",
            "id": "ask",
            "server_label": "s",
            "name": "n",
            "arguments": "{}",
        },
        {"type": "mcp_approval_response", "approval_request_id": "ask", "approve": True},
    ]
    for kind in kinds:
        book >> create(kind)
    assert book.types() == ["conversation.item.added", "conversation.item.done"] * len(kinds)


def test_created_audio_is_transcribed(playbook: Any) -> None:
    book = playbook(session=TRANSCRIBING)
    audio = base64.b64encode(bytes(9_600)).decode()
    book >> create(
        {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": audio}]}
    )
    order = book.order(Transcribe)
    assert len(order.pcm) == 4_800
    assert "audio" not in book.events[0]["item"]["content"][0]
    book.types()
    book.server.transcript_delta(order.item_id, "good")
    book.server.transcript_completed(order.item_id, "good day", 0.2)
    book.pump()
    assert book.events[1]["usage"] == {"type": "duration", "seconds": 0.2}
    assert book.types() == [
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
    ]
    book >> {"type": "conversation.item.retrieve", "item_id": order.item_id}
    [part] = book.events[0]["item"]["content"]
    assert part == {"type": "input_audio", "transcript": "good day", "audio": audio}


def test_transcripts_are_kept_untold_unless_asked_for(playbook: Any) -> None:
    book = playbook()
    book.speak()
    item_id = book.order(Transcribe).item_id
    book.finish(book.started())
    book.types()
    book.server.transcript_delta(item_id, "hel")
    book.server.transcript_completed(item_id, "hello", 1.0)
    book.server.transcript_failed("item_gone", "x")
    assert book.types() == []
    book >> {"type": "response.create"}
    [item] = book.order(StartResponse).items
    assert item["content"] == [{"type": "input_audio", "transcript": "hello"}]


def test_failed_transcription(playbook: Any) -> None:
    book = playbook(session=TRANSCRIBING)
    book.speak()
    book.types()
    book.server.transcript_failed(book.order(Transcribe).item_id, "no model")
    book.server.transcript_completed("item_gone", "x", 0.0)
    assert book.types() == ["conversation.item.input_audio_transcription.failed"]


def test_old_audio_is_forgotten_and_words_stay(playbook: Any) -> None:
    book = playbook(policy=Policy(kept_audio_s=1.5))
    ids = []
    for _ in range(3):
        book.speak(1_000)
        ids.append(book.order(Transcribe).item_id)
        book.server.transcript_completed(ids[-1], "hello", 1.0)
        book.finish(book.started())
    book.types()

    def kept() -> list[bool]:
        for item_id in ids:
            book >> {"type": "conversation.item.retrieve", "item_id": item_id}
        parts = [event["item"]["content"][0] for event in book.events]
        book.events.clear()
        assert {part["transcript"] for part in parts} == {"hello"}
        return ["audio" in part for part in parts]

    assert kept() == [False, False, True]
    book >> {"type": "conversation.item.delete", "item_id": ids.pop()}
    book.speak(1_000)
    ids.append(book.order(Transcribe).item_id)
    book.server.transcript_completed(ids[-1], "hello", 1.0)
    book.types()
    assert kept() == [False, False, True]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"item_id": "nope"}, "item_not_found"),
        ({"content_index": 1}, "invalid_value"),
        ({"audio_end_ms": -1}, "invalid_value"),
        ({"audio_end_ms": 1_001}, "invalid_value"),
        ({"item_id": "user"}, "unsupported_content_type"),
    ],
)
def test_refused_truncations(playbook: Any, change: dict[str, Any], code: str) -> None:
    book = playbook()
    book >> create(message(id="user")) >> {"type": "response.create"}
    book.finish(book.answer(ms=1_000))
    item_id = book.events[-1]["response"]["output"][0]["id"]
    book.types()
    truncate = {"type": "conversation.item.truncate", "content_index": 0, "audio_end_ms": 500}
    book >> {**truncate, "item_id": item_id, **change}
    assert book.error()["code"] == code


def test_an_item_deleted_while_it_is_spoken_stays_deleted(playbook: Any) -> None:
    book = playbook()
    book >> {"type": "response.create"}
    response = book.answer()
    item_id = order_of(book)[0]
    book >> {"type": "conversation.item.delete", "item_id": item_id}
    book.server.audio_delta(response, np.zeros(480, np.int16))
    book.types()
    book.finish(response)
    assert "conversation.item.done" not in book.types()


def test_the_conversation_is_bounded(playbook: Any) -> None:
    book = playbook()
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 15_000_000}
    for n in range(4):
        book >> create({**message(id=f"item_{n}"), "content": [image]})
    book.types()
    book >> create({**message(), "content": [image]})
    assert "full" in book.error()["message"]
    book >> {"type": "conversation.item.delete", "item_id": "item_0"}
    book >> create({**message(), "content": [image]})
    assert len(book.types()) == 3


def test_what_the_model_said_is_kept_from_the_first_client_on() -> None:
    server = RealtimeServer(
        session_id=SessionId("sess_1"),
        config=SessionConfig.create({"type": "realtime"}),
        on_call=True,
        expires_at=1_800_000_000,
        now=0.0,
    )

    def says() -> str:
        server.create_response(0.0)
        (order,) = [each for each in server.take() if isinstance(each, StartResponse)]
        server.audio_delta(order.response_id, np.full(2_400, 1_000, np.int16))
        server.response_finished(order.response_id, None, {}, 0.0)
        (play,) = [each for each in server.take() if isinstance(each, Play)]
        return play.key

    def kept(item_id: str) -> bytes | None:
        retrieve = {"type": "conversation.item.retrieve", "item_id": item_id}
        server.receive("a", json.dumps(retrieve), 0.0)
        (sent,) = [each for each in server.take() if isinstance(each, Send)]
        audio = sent.event["item"]["content"][0].get("audio")
        return None if audio is None else base64.b64decode(audio)

    before = says()
    server.attach("a", 0.0)
    server.take()
    after = says()
    assert kept(before) is None
    assert kept(after) == np.full(2_400, 1_000, np.int16).tobytes()
    # Who comes back finds what was said meanwhile.
    server.detach("a")
    meanwhile = says()
    server.attach("a", 0.0)
    server.take()
    assert kept(meanwhile) is not None

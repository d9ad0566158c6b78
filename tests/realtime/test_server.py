"""What one client's events do to the session, and who hears of it."""

import base64
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge.errors import RequestError
from bridge.realtime.outputs import (
    CancelResponse,
    ClearPlayout,
    ConfigChanged,
    PushAudio,
    StartResponse,
    Transcribe,
)
from bridge.realtime.server import Policy, RealtimeServer
from bridge.realtime.session_config import SessionConfig

TRANSCRIBING = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}
MANUAL = {"audio": {"input": {"turn_detection": None}}}


def create(item: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": item, **more}


def message(text: str = "Hi", **more: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content, **more}


def test_each_client_is_told_the_session_as_it_is(playbook: Any) -> None:
    book = playbook()
    book >> {"type": "session.update", "session": {"type": "realtime", "instructions": "New."}}
    assert book.types() == ["session.updated"]
    assert book.order(ConfigChanged).config.instructions == "New."
    book.server.attach("b", 0.0)
    book.pump()
    [(to, event)] = book.private
    assert (to, event["type"]) == ("b", "session.created")
    assert event["session"]["instructions"] == "New."
    assert event["session"]["expires_at"] == 1_800_000_000


def test_errors_go_to_the_offender_and_echo_its_event_id(playbook: Any) -> None:
    book = playbook()
    book.server.attach("b", 0.0)
    book.pump()
    book.private.clear()
    book.say("b", {"type": "response.cancel", "event_id": "evt_9"})
    error = book.error("b")
    assert error == {
        "type": "invalid_request_error",
        "code": "response_cancel_not_active",
        "message": "Cancellation failed: no active response found",
        "param": None,
        "event_id": "evt_9",
    }
    book.say("b", {"type": "no.such", "event_id": "evt_10"})
    error = book.error("b")
    assert (error["param"], error["event_id"]) == ("type", "evt_10")
    book.server.receive("b", "{", 0.0)
    assert book.error("b")["code"] == "invalid_json"


def test_a_refused_update_changes_nothing(playbook: Any) -> None:
    book = playbook()
    before = book.server.config
    patch = {"type": "realtime", "instructions": "New.", "audio": {"output": {"speed": 9}}}
    book >> {"type": "session.update", "session": patch}
    assert book.error()["param"] == "session.audio.output.speed"
    assert book.server.config == before
    book >> {"type": "session.update"}
    assert book.error()["param"] == "session"


@pytest.mark.parametrize("strict", [False, True])
def test_voice_after_assistant_audio(playbook: Any, strict: bool) -> None:
    book = playbook(policy=Policy(strict_voice=strict))
    book >> {"type": "response.create"}
    book.finish(book.answer())
    book.types()
    patch = {"type": "realtime", "instructions": "New.", "audio": {"output": {"voice": "ash"}}}
    book >> {"type": "session.update", "session": patch}
    if strict:
        assert book.error()["code"] == "cannot_update_voice"
        book >> {"type": "response.create", "response": {"audio": {"output": {"voice": "ash"}}}}
        assert book.error()["code"] == "cannot_update_voice"
    else:
        assert book.events[0]["session"]["audio"]["output"]["voice"] == "alloy"
        assert book.events[0]["session"]["instructions"] == "New."
        book >> {"type": "response.create", "response": {"audio": {"output": {"voice": "ash"}}}}
        assert book.order(StartResponse).voice == "alloy"


def test_turn_detection_changed_in_the_middle_of_speech(playbook: Any) -> None:
    book = playbook()
    book.server.audio_received(np.zeros(24_000, np.int16), 0.0)
    book.server.speech_started(500, 0.0)
    book.pump()
    item_id = book.events[0]["item_id"]
    semantic = {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}
    book >> {"type": "session.update", "session": {"type": "realtime", **semantic}}
    book.server.speech_stopped(1_000, 0.0)
    book.pump()
    assert book.events[2]["item_id"] == item_id
    book.types()
    book.server.speech_started(1_000, 0.0)
    book >> {"type": "session.update", "session": {"type": "realtime", **MANUAL}}
    book.server.speech_stopped(1_000, 0.0)
    assert book.types()[-1] == "session.updated"


def test_commit_in_the_middle_of_speech_takes_the_speech_item(playbook: Any) -> None:
    book = playbook()
    book.server.audio_received(np.zeros(24_000, np.int16), 0.0)
    book.server.speech_started(500, 0.0)
    book >> {"type": "input_audio_buffer.commit"}
    assert len({e.get("item_id", (e.get("item") or {}).get("id")) for e in book.events}) == 1
    book.types()
    assert len(book.order(Transcribe).pcm) == 12_000
    book.server.speech_stopped(1_000, 0.0)
    assert book.types() == ["input_audio_buffer.speech_stopped"]


def test_commit_needs_100_ms(playbook: Any) -> None:
    book = playbook(session=MANUAL)
    book >> {"type": "input_audio_buffer.commit"}
    assert book.error() == {
        "type": "invalid_request_error",
        "code": "input_audio_buffer_commit_empty",
        "message": "Error committing input audio buffer: buffer too small. Expected at least "
        "100ms of audio, but buffer only has 0.00ms of audio.",
        "param": None,
        "event_id": None,
    }
    book.server.audio_received(np.zeros(4_800, np.int16), 0.0)
    book >> {"type": "input_audio_buffer.clear"}
    assert book.types() == ["input_audio_buffer.cleared"]
    book >> {"type": "input_audio_buffer.commit"}
    assert book.error()["code"] == "input_audio_buffer_commit_empty"


def test_append_is_refused_once_on_a_call(playbook: Any) -> None:
    book = playbook(on_call=True)
    append = {"type": "input_audio_buffer.append", "audio": "AAAA"}
    book >> append
    assert book.error()["code"] == "input_audio_buffer_append_on_call"
    book >> append
    assert not book.private
    assert not book.orders


@pytest.mark.parametrize("audio", ["****", "AAA", "AAAA\n", "é", base64.b64encode(b"abc").decode()])
def test_bad_audio(playbook: Any, audio: str) -> None:
    book = playbook()
    book >> {"type": "input_audio_buffer.append", "audio": audio}
    assert book.error()["param"] == "audio"


def test_the_buffer_is_bounded(playbook: Any) -> None:
    book = playbook(session=MANUAL)
    minute = base64.b64encode(bytes(2 * 24_000 * 60)).decode()
    for _ in range(15):
        book >> {"type": "input_audio_buffer.append", "audio": minute}
    assert not book.private
    book >> {"type": "input_audio_buffer.append", "audio": minute}
    assert book.error()["code"] == "input_audio_buffer_full"


def taken(server: RealtimeServer) -> list[int]:
    """Seconds of each piece that is pushed."""
    return [len(order.pcm) // 24_000 for order in server.take() if isinstance(order, PushAudio)]


def appended(seconds: int) -> bytes:
    audio = base64.b64encode(bytes(2 * 24_000 * seconds)).decode()
    return msgspec.json.encode({"type": "input_audio_buffer.append", "audio": audio})


def test_a_long_append_is_taken_in_pieces(playbook: Any) -> None:
    book = playbook(session=MANUAL)
    book.server.receive("a", appended(10), 0.0)
    assert taken(book.server) == [4]
    assert book.server.go_on("a", 0.0)
    assert taken(book.server) == [4]
    assert book.server.go_on("a", 0.0)
    assert taken(book.server) == [2]
    assert not book.server.go_on("a", 0.0)
    assert not taken(book.server)
    book >> {"type": "input_audio_buffer.commit"}
    assert "input_audio_buffer.committed" in book.types()


def test_what_is_left_of_an_append_comes_before_the_next_event(playbook: Any) -> None:
    book = playbook(session=MANUAL)
    book.server.receive("a", appended(10), 0.0)
    book.say("b", {"type": "input_audio_buffer.clear"})
    assert taken(book.server) == []
    book >> {"type": "input_audio_buffer.clear"}
    pieces = [order for order in book.orders if isinstance(order, PushAudio)]
    assert [len(order.pcm) // 24_000 for order in pieces] == [4, 4, 2]


def test_who_left_appends_no_more(playbook: Any) -> None:
    book = playbook(session=MANUAL)
    book.server.receive("a", appended(10), 0.0)
    book.server.detach("a")
    assert taken(book.server) == [4]
    assert not book.server.go_on("a", 0.0)


def test_formats_without_a_codec_are_refused(playbook: Any) -> None:
    book = playbook()
    pcmu = {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}
    book >> {"type": "session.update", "session": {"type": "realtime", **pcmu}}
    assert "audio/pcmu" in book.error()["message"]
    book = playbook(on_call=True)
    book >> {"type": "session.update", "session": {"type": "realtime", **pcmu}}
    assert book.types() == ["session.updated"]
    with pytest.raises(RequestError):
        playbook(session=pcmu)


class Doubling:
    """A stand-in for a codec of one byte a sample."""

    def decode(self, data: bytes, /) -> Any:
        return np.frombuffer(data, np.uint8).astype(np.int16)

    def encode(self, pcm: Any, /) -> bytes:
        return bytes(len(pcm))


def test_formats_go_through_their_codec(playbook: Any) -> None:
    pcmu = {"format": {"type": "audio/pcmu"}}
    book = playbook(
        session={"audio": {"input": pcmu, "output": pcmu}},
        policy=Policy(wire_audio=lambda name: Doubling()),
    )
    book >> {"type": "input_audio_buffer.append", "audio": "AAECAw=="}
    assert book.order(PushAudio).pcm.tolist() == [0, 1, 2, 3]
    book >> {"type": "response.create"}
    book.answer(ms=20)
    [delta] = [e["delta"] for e in book.events if e["type"] == "response.output_audio.delta"]
    assert len(base64.b64decode(delta)) == 480


def test_one_default_response_at_a_time(playbook: Any) -> None:
    book = playbook()
    book >> {"type": "response.create"}
    response = book.started()
    book.types()
    book >> {"type": "response.create", "event_id": "agents_py_response_create_2"}
    error = book.error()
    assert error["code"] == "conversation_already_has_active_response"
    assert error["message"].startswith(
        f"Conversation already has an active response in progress: {response}. Wait until"
    )
    assert error["event_id"] == "agents_py_response_create_2"


def test_response_overrides(playbook: Any) -> None:
    book = playbook()
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    asked = {
        "instructions": "Whisper.",
        "tools": [tool],
        "tool_choice": "required",
        "max_output_tokens": 64,
        "output_modalities": ["text"],
        "audio": {"output": {"voice": "ash"}},
        "metadata": {"turn": "7"},
        "conversation": None,
        "input": [message("Only this")],
    }
    book >> create(message()) >> {"type": "response.create", "response": asked}
    order = book.order(StartResponse)
    assert (order.instructions, order.tools, order.tool_choice) == ("Whisper.", (tool,), "required")
    assert (order.voice, order.max_output_tokens) == ("ash", 64)
    assert order.output_modalities == ("text",)
    assert [i["content"][0]["text"] for i in order.items] == ["Only this"]
    created = book.events[-1]["response"]
    assert created["metadata"] == {"turn": "7"}
    assert created["max_output_tokens"] == 64


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"voice": "ash"}, "unknown_parameter", "response.voice"),
        ({"conversation": "x"}, "invalid_value", "response.conversation"),
        ({"metadata": {"a": 1}}, "invalid_type", "response.metadata.a"),
        ({"metadata": {str(n): "" for n in range(17)}}, "invalid_value", "response.metadata"),
        (
            {"input": [{"type": "item_reference", "id": "x"}]},
            "item_not_found",
            "response.input[0].id",
        ),
        (
            {"input": [{"type": "item_reference"}]},
            "missing_required_parameter",
            "response.input[0].id",
        ),
        ({"input": {}}, "invalid_type", "response.input"),
        ({"max_output_tokens": 9_999}, "invalid_value", "response.max_output_tokens"),
        ([], "invalid_type", "response"),
    ],
)
def test_refused_responses(playbook: Any, asked: Any, code: str, param: str) -> None:
    book = playbook()
    book >> {"type": "response.create", "response": asked}
    error = book.error()
    assert (error["code"], error["param"]) == (code, param)
    book >> {"type": "response.create", "response": None}
    assert book.types() == ["response.created"]


def test_long_sound_is_sent_in_short_messages(playbook: Any) -> None:
    book = playbook()
    book >> {"type": "response.create"}
    book.answer(ms=3_500)
    deltas = [e["delta"] for e in book.events if e["type"] == "response.output_audio.delta"]
    assert [len(d) for d in deltas] == [64_000, 64_000, 64_000, 32_000]


def test_the_end_closes_everything(playbook: Any) -> None:
    book = playbook(on_call=True)
    book >> {"type": "response.create"}
    book.answer()
    book.server.audio_received(np.zeros(24_000, np.int16), 0.0)
    book.heard_ms = 500
    book.types()
    book.server.fail("session_expired", "Your session hit the maximum duration of 60 minutes.")
    book.server.finish(0.0)
    book.pump()
    assert book.order(ClearPlayout)
    assert book.order(CancelResponse)
    assert book.types() == [
        "error",
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    assert book.server.create_response(0.0) is None
    book >> {"type": "response.create"}
    assert book.error()["code"] == "session_ended"
    book.server.finish(0.0)
    assert book.types() == []


def test_transcription_session_makes_no_responses() -> None:
    config = SessionConfig.create({"type": "transcription"})
    server = RealtimeServer(
        session_id="sess_1", config=config, on_call=False, expires_at=0, now=0.0
    )
    server.audio_received(np.zeros(24_000, np.int16), 0.0)
    server.speech_started(0, 0.0)
    server.speech_stopped(1_000, 0.0)
    assert not [o for o in server.take() if isinstance(o, StartResponse)]
    server.receive("a", msgspec.json.encode({"type": "response.create"}), 0.0)
    [refusal] = server.take()
    assert "response.create" in getattr(refusal, "event", {})["error"]["message"]
    server.detach("a")

"""The event orders of each kind of turn."""

import base64
from typing import Any

import numpy as np
import pytest

from bridge.realtime.outputs import (
    CancelResponse,
    ClearPlayout,
    FinishPlay,
    Play,
    PushAudio,
    StartResponse,
    Transcribe,
)

COMMITTED = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]
OPENED = [
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
]
AUDIO_CLOSED = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
]
TRANSCRIPT = "response.output_audio_transcript.delta"
AUDIO = "response.output_audio.delta"


def silence(ms: int) -> str:
    return base64.b64encode(bytes(48 * ms)).decode()


def user(text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content, **more}
    return {"type": "conversation.item.create", "item": item}


def test_voice_turn_over_websocket(playbook: Any) -> None:
    book = playbook()
    book.speak()
    response = book.answer()
    book.finish(response)
    first = book.events[0]["item_id"]
    assert [e["item_id"] for e in book.events[:3]] == [first] * 3
    assert [e["item"]["id"] for e in book.events[3:5]] == [first] * 2
    assert book.types() == [
        *COMMITTED,
        "response.created",
        *OPENED,
        TRANSCRIPT,
        AUDIO,
        *AUDIO_CLOSED,
        "response.done",
    ]
    assert len(book.order(Transcribe).pcm) == 24_000
    assert not book.orders


def test_speech_times_are_on_the_clock_of_all_audio(playbook: Any) -> None:
    book = playbook()
    book.speak(start_ms=2_000)
    book.events.clear()
    book.finish(book.started())
    book.types()
    book.speak(500, start_ms=700)
    assert book.events[0]["audio_start_ms"] == 3_700
    assert book.events[1]["audio_end_ms"] == 4_200


def test_voice_turn_on_a_call(playbook: Any) -> None:
    book = playbook(on_call=True)
    book.speak()
    response = book.answer()
    book.finish(response)
    book.play_out()
    assert book.types() == [
        *COMMITTED,
        "response.created",
        *OPENED,
        TRANSCRIPT,
        "output_audio_buffer.started",
        *AUDIO_CLOSED,
        "response.done",
        "output_audio_buffer.stopped",
    ]
    assert book.order(Play).key == book.order(FinishPlay).key


def test_text_turn(playbook: Any) -> None:
    book = playbook(session={"output_modalities": ["text"]})
    book >> user("Hi")
    assert book.types() == ["conversation.item.added", "conversation.item.done"]
    book >> {"type": "response.create"}
    order = book.order(StartResponse)
    assert order.items[0]["content"] == [{"type": "input_text", "text": "Hi"}]
    book.server.text_delta(order.response_id, "Hel")
    book.server.text_delta(order.response_id, "lo")
    book.server.audio_delta(order.response_id, np.zeros(480, np.int16))
    book.finish(order.response_id)
    done = book.events[-1]["response"]
    assert done["output"][0]["content"] == [{"type": "output_text", "text": "Hello"}]
    assert done["status"] == "completed"
    assert book.types() == [
        "response.created",
        *OPENED,
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]


def test_function_call(playbook: Any) -> None:
    book = playbook()
    book >> {"type": "response.create"}
    response = book.started()
    book.server.tool_call(response, "call_1", "weather", '{"city":"Oslo"}')
    book.finish(response)
    added, done = book.events[1]["item"], book.events[5]["item"]
    assert (added["status"], added["arguments"]) == ("in_progress", "")
    assert (done["status"], done["arguments"]) == ("completed", '{"city":"Oslo"}')
    assert book.events[4]["name"] == "weather"
    assert book.events[-1]["response"]["output"] == [done]
    assert book.types() == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    output = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    book >> {"type": "conversation.item.create", "item": output} >> {"type": "response.create"}
    assert book.types()[:2] == ["conversation.item.added", "conversation.item.done"]
    assert [i["type"] for i in book.order(StartResponse).items] == [
        "function_call",
        "function_call_output",
    ]


def test_a_response_may_speak_and_call(playbook: Any) -> None:
    book = playbook()
    book >> {"type": "response.create"}
    response = book.answer(text="One moment.")
    book.server.tool_call(response, "call_1", "weather", "{}")
    book.server.audio_delta(response, np.zeros(480, np.int16))
    book.finish(response)
    output = book.events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call"]
    indices = {e["output_index"] for e in book.events if e["type"] == AUDIO}
    assert indices == {0}


def test_barge_in_over_websocket(playbook: Any) -> None:
    book = playbook()
    book >> {"type": "response.create"}
    response = book.answer()
    book.types()
    book.server.speech_started(0, 0.0)
    assert book.order(CancelResponse).response_id == response
    done = book.events[-1]["response"] if book.events else None
    assert done is not None
    assert done["status"] == "cancelled"
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert done["output"][0]["status"] == "incomplete"
    item_id = done["output"][0]["id"]
    assert book.types() == ["input_audio_buffer.speech_started", *AUDIO_CLOSED, "response.done"]
    book.server.text_delta(response, "late")
    book.server.audio_delta(response, np.zeros(480, np.int16))
    book.finish(response)
    assert book.types() == []
    truncate = {"type": "conversation.item.truncate", "content_index": 0}
    book >> {**truncate, "item_id": item_id, "audio_end_ms": 300}
    assert book.types() == ["conversation.item.truncated"]


def test_barge_in_on_a_call(playbook: Any) -> None:
    book = playbook(on_call=True)
    book >> {"type": "response.create"}
    response = book.answer()
    book.heard_ms = 400
    book.types()
    book.server.speech_started(0, 0.0)
    outputs = book.server.take()
    assert [type(o).__name__ for o in outputs] == ["Send", "ClearPlayout", "CancelResponse"]
    book.server.audio_delta(response, np.zeros(480, np.int16))
    for output in outputs:
        book._act(output)
    book.pump()
    assert book.events[2]["audio_end_ms"] == 400
    assert book.types() == [
        "input_audio_buffer.speech_started",
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
        *AUDIO_CLOSED,
        "response.done",
    ]
    assert not [o for o in book.orders if isinstance(o, FinishPlay)]


def test_barge_in_while_the_end_is_played(playbook: Any) -> None:
    book = playbook(on_call=True)
    book >> {"type": "response.create"}
    book.finish(book.answer())
    book.heard_ms = 400
    book.types()
    book.server.speech_started(0, 0.0)
    assert book.types() == [
        "input_audio_buffer.speech_started",
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
    ]
    assert not [o for o in book.orders if isinstance(o, CancelResponse)]


@pytest.mark.parametrize("finished", [False, True])
def test_what_nobody_heard_is_deleted(playbook: Any, finished: bool) -> None:
    book = playbook(on_call=True)
    book >> {"type": "response.create"}
    response = book.answer()
    if finished:
        book.finish(response)
    book.types()
    book.server.speech_started(0, 0.0)
    closed = [] if finished else AUDIO_CLOSED
    done = [] if finished else ["response.done"]
    assert book.types() == [
        "input_audio_buffer.speech_started",
        "output_audio_buffer.cleared",
        *closed,
        "conversation.item.deleted",
        *done,
    ]
    assert not list(book.server._conversation)


def test_a_turn_that_ends_before_the_playout_settles_waits(playbook: Any) -> None:
    book = playbook(on_call=True)
    book >> {"type": "response.create"}
    book.answer()
    book.types()
    book.heard_ms = 400
    book.server.audio_received(np.zeros(24_000, np.int16), 0.0)
    book.server.speech_started(0, 0.0)
    book.server.speech_stopped(900, 0.0)
    assert book.types() == [
        "input_audio_buffer.speech_started",
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
        *AUDIO_CLOSED,
        "response.done",
        *COMMITTED[1:],
        "response.created",
    ]


def test_a_key_that_the_playout_does_not_cut_was_heard(playbook: Any) -> None:
    book = playbook(on_call=True)
    book >> {"type": "response.create"}
    book.answer(ms=700)
    book.playing.clear()
    book.types()
    book.server.speech_started(0, 0.0)
    book.pump()
    [truncated] = [e for e in book.events if e["type"].endswith("truncated")]
    assert truncated["audio_end_ms"] == 700
    assert book.types()[-1] == "response.done"


def test_no_interruption_without_interrupt_response(playbook: Any) -> None:
    detection = {"type": "server_vad", "interrupt_response": False}
    book = playbook(on_call=True, session={"audio": {"input": {"turn_detection": detection}}})
    book >> {"type": "response.create"}
    response = book.answer()
    book.types()
    book.speak()
    assert book.types() == COMMITTED
    book.finish(response)
    assert book.types() == [*AUDIO_CLOSED, "response.done", "response.created"]
    assert book.started() != response


def test_no_response_without_create_response(playbook: Any) -> None:
    detection = {"type": "semantic_vad", "create_response": False}
    book = playbook(session={"audio": {"input": {"turn_detection": detection}}})
    book.speak()
    assert book.types() == COMMITTED


def test_client_stops_generation_and_playback(playbook: Any) -> None:
    book = playbook(on_call=True)
    book >> {"type": "response.create"}
    response = book.answer()
    book.types()
    book >> {"type": "response.cancel", "response_id": response}
    assert book.events[-1]["response"]["status_details"]["reason"] == "client_cancelled"
    assert book.types() == [*AUDIO_CLOSED, "response.done"]
    book.heard_ms = 200
    book >> {"type": "output_audio_buffer.clear"}
    assert book.types() == ["output_audio_buffer.cleared", "conversation.item.truncated"]
    book >> {"type": "output_audio_buffer.clear"}
    assert book.types() == []


def test_clearing_the_output_does_not_stop_generation(playbook: Any) -> None:
    book = playbook(on_call=True)
    book >> {"type": "response.create"}
    response = book.answer()
    book.types()
    book.heard_ms = 600
    book >> {"type": "output_audio_buffer.clear"}
    book.orders.clear()
    book.server.audio_delta(response, np.zeros(480, np.int16))
    book.server.text_delta(response, " More.")
    book.finish(response)
    assert book.events[-1]["response"]["status"] == "completed"
    assert "More" not in book.events[-1]["response"]["output"][0]["content"][0]["transcript"]
    assert book.types() == [
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
        TRANSCRIPT,
        *AUDIO_CLOSED,
        "response.done",
    ]
    assert not [o for o in book.orders if isinstance(o, Play | ClearPlayout | FinishPlay)]


def test_manual_commit(playbook: Any) -> None:
    book = playbook(session={"audio": {"input": {"turn_detection": None}}})
    for _ in range(5):
        book >> {"type": "input_audio_buffer.append", "audio": silence(40)}
    book >> {"type": "input_audio_buffer.commit"}
    assert book.types() == COMMITTED[2:]
    assert len(book.order(Transcribe).pcm) == 200 * 24
    assert sum(len(o.pcm) for o in book.orders if isinstance(o, PushAudio)) == 200 * 24
    book >> {"type": "response.create"}
    assert book.types() == ["response.created"]


def test_out_of_band_response_beside_the_default_one(playbook: Any) -> None:
    book = playbook(session={"output_modalities": ["text"]})
    book >> user("Hi", id="item_hi") >> {"type": "response.create"}
    default = book.started()
    asked = {
        "conversation": "none",
        "metadata": {"topic": "classify"},
        "input": [{"type": "item_reference", "id": "item_hi"}],
    }
    book.types()
    book >> {"type": "response.create", "response": asked}
    order = book.order(StartResponse)
    assert [item["id"] for item in order.items] == ["item_hi"]
    book.server.text_delta(order.response_id, "greeting")
    book.finish(order.response_id)
    done = book.events[-1]["response"]
    assert done["conversation_id"] is None
    assert done["metadata"] == {"topic": "classify"}
    assert book.types() == [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    book.finish(default)
    assert book.types() == ["response.done"]


def test_empty_input_is_an_empty_context(playbook: Any) -> None:
    book = playbook()
    book >> user("Hi") >> {"type": "response.create", "response": {"input": []}}
    assert book.order(StartResponse).items == ()


def test_digit_is_an_event_alone(playbook: Any) -> None:
    book = playbook(on_call=True)
    book.server.digit("5", 1_790_000_000, as_turn=False, now=0.0)
    assert book.types() == ["input_audio_buffer.dtmf_event_received"]


def test_digit_as_a_turn_interrupts(playbook: Any) -> None:
    book = playbook(on_call=True)
    book >> {"type": "response.create"}
    book.answer()
    book.heard_ms = 300
    book.types()
    book.server.digit("1", 1_790_000_000, as_turn=True, now=0.0)
    assert book.types() == [
        "input_audio_buffer.dtmf_event_received",
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
        *AUDIO_CLOSED,
        "response.done",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    last = book.order(StartResponse).items[-1]
    assert last["content"] == [{"type": "input_text", "text": "[dtmf] 1"}]


def test_truncation_keeps_the_words_that_were_heard(playbook: Any) -> None:
    book = playbook()
    book >> {"type": "response.create"}
    book.finish(book.answer(text="one two three four five six", ms=2_000))
    item_id = book.events[-1]["response"]["output"][0]["id"]
    book.types()
    truncate = {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0}
    book >> {**truncate, "audio_end_ms": 1_000}
    assert book.types() == ["conversation.item.truncated"]
    book >> {"type": "conversation.item.retrieve", "item_id": item_id}
    [part] = book.events[0]["item"]["content"]
    assert part["transcript"] == "one two three"
    assert len(part["audio"]) == 64_000
    book.types()
    book >> {**truncate, "audio_end_ms": 1_001}
    assert book.error()["message"] == "Audio content of 1000ms is already shorter than 1001ms"


def test_failed_and_incomplete_responses_close_what_they_opened(playbook: Any) -> None:
    book = playbook()
    book >> {"type": "response.create"}
    response = book.answer()
    book.types()
    book.server.response_failed(response, "backend_unavailable", "The model is gone", 0.0)
    book.pump()
    error = book.events[-1]["response"]["status_details"]["error"]
    assert error["code"] == "backend_unavailable"
    assert book.types() == [*AUDIO_CLOSED, "response.done"]
    book >> {"type": "response.create"}
    response = book.answer()
    book.server.response_finished(response, "max_output_tokens", {"output_tokens": 99}, 0.0)
    book.pump()
    done = book.events[-1]["response"]
    assert (done["status"], done["usage"]["output_tokens"]) == ("incomplete", 99)


def test_usage_counts_audio_by_time(playbook: Any) -> None:
    book = playbook()
    book.speak(1_000)
    book.finish(book.answer(text="abcdefgh", ms=1_000))
    usage = book.events[-1]["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 10
    assert usage["output_token_details"] == {"text_tokens": 2, "audio_tokens": 20}
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_greeting(playbook: Any) -> None:
    book = playbook(on_call=True)
    assert book.server.create_response(0.0, instructions="Say hello.") is not None
    assert book.server.create_response(0.0) is None
    assert book.order(StartResponse).instructions == "Say hello."
    assert book.types() == ["response.created"]


def test_half_a_surrogate_pair_can_be_sent(playbook: Any) -> None:
    book = playbook()
    book >> {"type": "response.create"}
    response = book.answer(text="wave \ud83d")
    book.server.text_delta(response, "\udc4b")
    book.finish(response)
    deltas = [event["delta"] for event in book.events if event["type"] == TRANSCRIPT]
    assert deltas == ["wave \ufffd", "\ufffd"]

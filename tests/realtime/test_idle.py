"""What happens when the caller has nothing to say to an answer."""

from typing import Any

import numpy as np
import pytest

from bridge.realtime.outputs import StartResponse, Transcribe
from tests.conftest import MakePlaybook

IDLE: dict[str, Any] = {
    "audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5_000}}}
}
SILENCE = np.zeros(24_000, np.int16)


def test_silence_after_an_answer_on_a_call_is_a_turn(playbook: MakePlaybook) -> None:
    book = playbook(on_call=True, session=IDLE)
    assert book.server.next_timer() is None
    book.speak()
    response = book.answer()
    book.server.response_finished(response, None, {}, 10.0)
    book.pump()
    assert book.server.next_timer() is None
    [key] = book.playing
    del book.playing[key]
    book.server.playback_finished(key, 12.0)
    assert book.server.next_timer() == 17.0
    for _ in range(5):
        book.server.audio_received(SILENCE, 12.0)
    book.types()
    book.orders.clear()
    book.server.handle_timer(16.9)
    assert book.types() == []
    book.server.handle_timer(17.0)
    book.pump()
    timeout = book.events[0]
    assert (timeout["audio_start_ms"], timeout["audio_end_ms"]) == (1_200, 6_200)
    ids = {e.get("item_id") or e["item"]["id"] for e in book.events[:4]}
    assert ids == {timeout["item_id"]}
    assert book.events[2]["item"]["content"] == [{"type": "input_audio", "transcript": ""}]
    assert book.types() == [
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert book.order(StartResponse).items[-1]["id"] == timeout["item_id"]
    assert not [order for order in book.orders if isinstance(order, Transcribe)]
    assert book.server.next_timer() is None


def test_elsewhere_the_sound_that_was_sent_is_given_its_time(playbook: MakePlaybook) -> None:
    book = playbook(session=IDLE)
    book >> {"type": "response.create"}
    response = book.answer(ms=1_500)
    book.server.response_finished(response, None, {}, 10.0)
    assert book.server.next_timer() == 16.5
    book.server.handle_timer(16.5)
    book.pump()
    timeout = next(e for e in book.events if e["type"].endswith("timeout_triggered"))
    assert timeout["audio_start_ms"] == timeout["audio_end_ms"] == 0


def after_an_answer(playbook: MakePlaybook, session: dict[str, Any] | None = None) -> Any:
    book = playbook(session=session or IDLE)
    book >> {"type": "response.create"}
    book.finish(book.answer(ms=0))
    return book


def test_speech_ends_the_wait_and_noise_restarts_it(playbook: MakePlaybook) -> None:
    book = after_an_answer(playbook)
    assert book.server.next_timer() == 5.0
    book.server.audio_received(SILENCE, 1.0)
    book.server.speech_started(1_000, 1.0)
    assert book.server.next_timer() is None
    # Nothing was in it.
    book.server.speech_stopped(1_000, 2.0)
    assert book.server.next_timer() == 7.0
    book.server.audio_received(SILENCE, 3.0)
    book.server.speech_started(1_000, 3.0)
    book.server.speech_stopped(2_000, 4.0)
    assert book.server.next_timer() is None


def test_a_key_restarts_the_wait(playbook: MakePlaybook) -> None:
    book = after_an_answer(playbook)
    book.server.digit("1", 1_790_000_000, as_turn=False, now=3.0)
    assert book.server.next_timer() == 8.0


@pytest.mark.parametrize(
    "detection",
    [
        None,
        {"type": "semantic_vad"},
        {"type": "server_vad", "idle_timeout_ms": None},
    ],
)
def test_only_server_vad_with_a_timeout_waits(playbook: MakePlaybook, detection: Any) -> None:
    book = after_an_answer(playbook)
    patch = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    book >> {"type": "session.update", "session": patch}
    assert book.server.next_timer() is None
    book >> {"type": "session.update", "session": {"type": "realtime", **IDLE}}
    assert book.server.next_timer() == 5.0


def test_the_end_stops_the_clock(playbook: MakePlaybook) -> None:
    book = after_an_answer(playbook)
    book.server.finish(1.0)
    assert book.server.next_timer() is None
    book.server.handle_timer(9.0)
    assert "response.created" not in book.types()[1:]

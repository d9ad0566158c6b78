"""Sessions that only listen."""

from typing import Any

import pytest

from bridge.realtime.outputs import ConfigChanged, StartResponse, Transcribe
from tests.conftest import MakePlaybook

LISTENING = {"type": "transcription"}
HEARD = "conversation.item.input_audio_transcription"


def test_a_turn_is_written_down_and_not_answered(playbook: MakePlaybook) -> None:
    book = playbook(session=LISTENING)
    book.speak()
    item_id = book.order(Transcribe).item_id
    book.server.transcript_delta(item_id, "Good")
    book.server.transcript_completed(item_id, "Good day.", 1.0)
    assert book.types() == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{HEARD}.delta",
        f"{HEARD}.completed",
    ]
    assert not [order for order in book.orders if isinstance(order, StartResponse)]
    assert book.server.create_response(0.0) is None
    book.server.digit("1", 1_790_000_000, as_turn=True, now=0.0)
    assert "response.created" not in book.types()
    assert book.server.next_timer() is None


def test_a_client_commits(playbook: MakePlaybook) -> None:
    book = playbook(session={**LISTENING, "audio": {"input": {"turn_detection": None}}})
    book >> {"type": "input_audio_buffer.append", "audio": "AAAA" * 3_200}
    book >> {"type": "input_audio_buffer.commit"}
    assert book.types()[0] == "input_audio_buffer.committed"
    book.server.transcript_failed(book.order(Transcribe).item_id, "No words.")
    assert book.types() == [f"{HEARD}.failed"]


def test_the_session_is_told_as_what_it_is(playbook: MakePlaybook) -> None:
    book = playbook(session={**LISTENING, "include": ["item.input_audio_transcription.logprobs"]})
    session = book.server.session
    assert session["object"] == "realtime.transcription_session"
    assert set(session["audio"]) == {"input"}
    assert session["include"] == ["item.input_audio_transcription.logprobs"]
    patch = {**LISTENING, "audio": {"input": {"transcription": {"model": "x", "language": "en"}}}}
    book >> {"type": "session.update", "session": patch}
    assert book.events[0]["session"]["audio"]["input"]["transcription"]["language"] == "en"
    assert book.order(ConfigChanged)


SURE = ({"token": "yes", "logprob": -0.25, "bytes": list(b"yes")},)


@pytest.mark.parametrize("asks", [True, False])
def test_how_sure_the_recogniser_is_goes_to_who_asked(
    playbook: MakePlaybook,
    asks: bool,
) -> None:
    include = ["item.input_audio_transcription.logprobs"] if asks else None
    book = playbook(session={**LISTENING, "include": include})
    book.speak()
    item_id = book.order(Transcribe).item_id
    book.events.clear()
    book.server.transcript_delta(item_id, "yes", SURE)
    book.server.transcript_completed(item_id, "yes", 0.4, SURE)
    book.server.transcript_delta(item_id, "no")
    book.pump()
    assert [event.get("logprobs") for event in book.events] == (
        [SURE, SURE, None] if asks else [None] * 3
    )
    book >> {"type": "session.update", "session": {**LISTENING, "include": None}}
    book.events.clear()
    book.server.transcript_delta(item_id, "yes", SURE)
    book.pump()
    assert "logprobs" not in book.events[0]


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ({"type": "response.create"}, "type"),
        ({"type": "session.update", "session": {"type": "realtime"}}, "session.type"),
        (
            {"type": "session.update", "session": {**LISTENING, "instructions": "Hi"}},
            "session.instructions",
        ),
        (
            {"type": "session.update", "session": {**LISTENING, "audio": {"output": {"voice": 1}}}},
            "session.audio.output.voice",
        ),
    ],
)
def test_it_never_speaks(playbook: MakePlaybook, event: dict[str, Any], param: str) -> None:
    book = playbook(session=LISTENING)
    book >> event
    assert book.error()["param"] == param


def test_the_beta_event_is_answered_as_the_beta_did(playbook: MakePlaybook) -> None:
    book = playbook(session=LISTENING)
    flat = {
        "input_audio_format": "pcm16",
        "input_audio_transcription": {"model": "whisper-1"},
        "turn_detection": {"type": "semantic_vad", "eagerness": "low"},
        "input_audio_noise_reduction": None,
    }
    book >> {"type": "transcription_session.update", "session": flat}
    [(to, event)] = book.private
    assert (to, event["type"]) == ("a", "transcription_session.updated")
    assert event["session"]["input_audio_format"] == "pcm16"
    assert event["session"]["turn_detection"]["eagerness"] == "low"
    book.private.clear()
    assert book.types() == ["session.updated"]
    bad = {"type": "transcription_session.update", "event_id": "evt_1"}
    book >> {**bad, "session": {"turn_detection": {"type": "x"}}}
    error = book.error()
    assert (error["param"], error["event_id"]) == ("session.turn_detection.type", "evt_1")
    book >> {**bad, "session": {"voice": "ash"}}
    assert book.error()["param"] == "session.voice"
    book >> bad
    assert book.error()["code"] == "missing_required_parameter"


def test_the_beta_event_is_for_transcription_only(playbook: MakePlaybook) -> None:
    book = playbook()
    book >> {"type": "transcription_session.update", "session": {}}
    assert book.error()["param"] == "session.type"

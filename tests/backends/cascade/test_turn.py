import itertools

import pytest

from bridge.backends.base import SpeechStarted, SpeechStopped
from bridge.backends.cascade.turn import (
    BACKGROUND_CHUNKS,
    TRANSITIONS,
    Endpointer,
    Heard,
    State,
    TurnDetection,
)


def events(
    endpointer: Endpointer, *runs: tuple[int, float], level_dbfs: float = -20.0
) -> list[object]:
    scores = itertools.chain.from_iterable([score] * count for count, score in runs)
    heard = (endpointer.hear(score, level_dbfs) for score in scores)
    return [event for event in heard if event is not None]


def test_a_turn_has_its_prefix_and_its_trailing_silence() -> None:
    endpointer = Endpointer(TurnDetection(prefix_padding_ms=300, silence_duration_ms=500))
    assert events(endpointer, (20, 0.0), (10, 0.9), (20, 0.0)) == [
        SpeechStarted(20 * 32 - 300),
        SpeechStopped((20 + 10 + 16) * 32),
    ]


def test_one_loud_chunk_is_no_speech() -> None:
    endpointer = Endpointer(TurnDetection())
    assert events(endpointer, (5, 0.0), (1, 0.9), (5, 0.0)) == []
    assert endpointer.state is State.QUIET


def test_a_short_pause_does_not_end_the_turn() -> None:
    endpointer = Endpointer(TurnDetection(silence_duration_ms=500))
    heard = events(endpointer, (5, 0.9), (15, 0.0), (3, 0.9), (16, 0.0))
    assert [type(event) for event in heard] == [SpeechStarted, SpeechStopped]


def test_speech_holds_on_below_the_threshold() -> None:
    endpointer = Endpointer(TurnDetection(threshold=0.5, silence_duration_ms=100))
    assert len(events(endpointer, (3, 0.6), (30, 0.4))) == 1
    assert events(endpointer, (4, 0.3)) != []


def test_more_proof_is_wanted_while_the_agent_speaks() -> None:
    endpointer = Endpointer(TurnDetection())
    endpointer.agent_speaking = True
    assert events(endpointer, (2, 0.9), (1, 0.0)) == []
    assert len(events(endpointer, (3, 0.9))) == 1


def test_who_interrupts_is_louder_than_those_behind() -> None:
    endpointer = Endpointer(TurnDetection(silence_duration_ms=100))
    endpointer.agent_speaking = True
    # Until it has been heard for long enough, a room full of people is a caller.
    assert len(events(endpointer, (BACKGROUND_CHUNKS, 0.9), (4, 0.3), level_dbfs=-35)) == 2
    assert events(endpointer, (100, 0.9), (2, 0.3), (100, 0.9), level_dbfs=-33) == []
    assert len(events(endpointer, (3, 0.9), level_dbfs=-25)) == 1


def test_noise_that_is_no_speech_hides_nobody() -> None:
    endpointer = Endpointer(TurnDetection())
    endpointer.agent_speaking = True
    assert events(endpointer, (BACKGROUND_CHUNKS, 0.05), level_dbfs=-25) == []
    assert len(events(endpointer, (3, 0.9), level_dbfs=-25)) == 1


def test_whoever_talks_while_the_agent_listens_is_heard() -> None:
    endpointer = Endpointer(TurnDetection(silence_duration_ms=64))
    assert len(events(endpointer, (200, 0.9), (2, 0.0), (200, 0.9), level_dbfs=-25)) == 3


def test_a_prefix_stays_out_of_the_turn_before() -> None:
    endpointer = Endpointer(TurnDetection(prefix_padding_ms=1000, silence_duration_ms=64))
    first, stopped, second = events(endpointer, (3, 0.9), (2, 0.0), (2, 0.9))
    assert first == SpeechStarted(0)
    assert stopped == SpeechStopped(5 * 32)
    assert second == SpeechStarted(5 * 32)


def test_positions_go_on_from_where_detection_was_switched_on() -> None:
    endpointer = Endpointer(TurnDetection(prefix_padding_ms=0), position_ms=10_000)
    assert events(endpointer, (2, 0.9)) == [SpeechStarted(10_000)]


def test_a_longer_pause_may_be_asked_for() -> None:
    endpointer = Endpointer(TurnDetection(silence_duration_ms=200))
    endpointer.min_silence_ms = 1500
    assert len(events(endpointer, (3, 0.9), (46, 0.0))) == 1
    assert len(events(endpointer, (1, 0.0))) == 1


@pytest.mark.parametrize(
    ("fields", "silence_ms"),
    [
        ({"type": "server_vad", "silence_duration_ms": 250}, 250),
        ({"type": "server_vad", "silence_duration_ms": None}, 500),
        ({"type": "semantic_vad", "eagerness": "low"}, 1200),
        ({"type": "semantic_vad", "eagerness": "high"}, 400),
        ({"type": "semantic_vad"}, 700),
    ],
)
def test_wire_settings(fields: dict[str, object], silence_ms: int) -> None:
    assert TurnDetection.parse(fields).silence_duration_ms == silence_ms


def test_every_state_knows_every_chunk() -> None:
    assert set(TRANSITIONS) == set(State)
    for row in TRANSITIONS.values():
        assert {Heard.VOICED, Heard.UNVOICED} <= set(row)


def test_a_verdict_on_a_pause_is_good_for_that_pause() -> None:
    endpointer = Endpointer(TurnDetection(silence_duration_ms=4000, eagerness="auto"))
    assert len(events(endpointer, (3, 0.9), (6, 0.0))) == 1
    endpointer.wait_ms = 600
    assert events(endpointer, (1, 0.9), (30, 0.0)) == []
    endpointer.wait_ms = 960
    assert events(endpointer, (1, 0.0)) == [SpeechStopped(41 * 32)]

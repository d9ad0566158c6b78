"""When a caller's last voice was spoken, and what a turn's record says of it."""

import numpy as np
import pytest

from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.timings import KEPT_BLOCKS, Loudness, TurnTimes

FRAME_S = 0.02


def tone(ms: int, peak: int = 4000) -> Pcm:
    instants = np.arange(MODEL_RATE * ms // 1000) / MODEL_RATE
    return (peak * np.sin(2 * np.pi * 300 * instants)).astype(np.int16)


def silence(ms: int) -> Pcm:
    return np.zeros(MODEL_RATE * ms // 1000, np.int16)


def hear(loudness: Loudness, sound: Pcm, *, began: float, late_s: dict[int, float]) -> None:
    """In frames of 20 ms, each as soon as its last sample is spoken, but for the late ones."""
    size = int(MODEL_RATE * FRAME_S)
    for number, begin in enumerate(range(0, len(sound), size)):
        now = began + (number + 1) * FRAME_S + late_s.get(number, 0.0)
        loudness.push(sound[begin : begin + size], now)


@pytest.mark.parametrize("late_s", [{}, {14: 0.05, 15: 0.03}, dict.fromkeys(range(20), 0.2)])
def test_the_last_voice_is_found_within_its_frame_however_late_that_came(
    late_s: dict[int, float],
) -> None:
    loudness = Loudness()
    said = np.concatenate((silence(100), tone(195), silence(500)))
    hear(loudness, said, began=7.0, late_s=late_s)
    assert loudness.voice_ended_at(100, 795) == pytest.approx(7.295)


def test_a_murmur_far_below_the_rest_of_the_turn_is_no_voice_of_it() -> None:
    loudness = Loudness()
    hear(loudness, np.concatenate((tone(200), tone(200, peak=100))), began=0.0, late_s={})
    assert loudness.voice_ended_at(0, 400) == pytest.approx(0.2)


def test_a_turn_in_which_nothing_is_loud_ends_where_it_was_found_to() -> None:
    loudness = Loudness()
    hear(loudness, silence(600), began=1.0, late_s={})
    assert loudness.voice_ended_at(100, 500) == pytest.approx(1.5)


def test_pieces_of_any_length_are_heard_alike() -> None:
    loudness = Loudness()
    said = np.concatenate((tone(195), silence(305)))
    for begin, end in ((0, 77), (77, 5000), (5000, 5001), (5001, len(said))):
        loudness.push(said[begin:end], end / MODEL_RATE)
    assert loudness.voice_ended_at(0, 500) == pytest.approx(0.195)


def test_of_a_turn_longer_than_is_kept_the_end_is_known() -> None:
    loudness = Loudness()
    for second in range(KEPT_BLOCKS // 200 + 5):
        loudness.push(tone(1000), second + 1.0)
    loudness.push(silence(500), second + 1.5)
    assert loudness.voice_ended_at(0, (second + 1) * 1000 + 500) == pytest.approx(second + 1.0)


def test_the_stages_of_a_turn_add_up() -> None:
    times = TurnTimes(10.0, 10.5, 10.7, 10.9, 11.0, 11.02)
    told = times.record()
    assert told.pop("total_ms") == pytest.approx(1020.0)
    assert sum(told.values()) == pytest.approx(1020.0)

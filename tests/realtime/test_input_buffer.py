"""The input buffer's clock, its bounds, and what a commit takes."""

from itertools import accumulate, pairwise

import numpy as np
from hypothesis import given, strategies as st

from bridge.realtime.input_buffer import CAP_MS, InputBuffer


def ramp(ms: int, start: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Each millisecond holds its own number."""
    return np.repeat(np.arange(start, start + ms), 24).astype(np.int16)


def test_idle_audio_is_dropped_but_counted() -> None:
    buffer = InputBuffer(idle_ms=1_000, holding=False)
    for second in range(20):
        buffer.append(ramp(1_000, 1_000 * second))
    assert buffer.heard_ms == 20_000
    assert 1_000 <= buffer.pending_ms <= 2_000


def test_speech_begins_in_the_past_and_is_held() -> None:
    buffer = InputBuffer(idle_ms=1_000, holding=False)
    for n in range(500):
        buffer.append(ramp(20, 20 * n))
    assert buffer.begin(9_400) == 9_400
    buffer.append(ramp(5_000, 10_000))
    taken = buffer.take(14_000)
    assert (taken[0], taken[-1], len(taken)) == (9_400, 13_999, 4_600 * 24)
    assert buffer.pending_ms == 1_000


def test_speech_cannot_begin_before_what_is_kept_or_taken() -> None:
    buffer = InputBuffer(idle_ms=500, holding=False)
    for n in range(100):
        buffer.append(ramp(20, 20 * n))
    assert 1_000 <= buffer.begin(0) <= 1_500
    buffer.take()
    buffer.append(ramp(100, 2_000))
    assert buffer.begin(1_900) == 2_000
    assert buffer.take()[0] == 2_000
    assert buffer.begin(99_000) == 2_100
    assert len(buffer.take()) == 0


@given(st.lists(st.sampled_from((0, 1, 100, 480, 481, 2_000))), st.integers(0, 40))
def test_pieces_of_any_size_are_one_stretch_of_sound(sizes: list[int], back_ms: int) -> None:
    buffer = InputBuffer(idle_ms=20, holding=False)
    sound = np.arange(sum(sizes) + 500, dtype=np.int16)
    for begin, end in pairwise(accumulate(sizes, initial=0)):
        buffer.append(sound[begin:end])
        assert min(20, end // 24) <= buffer.pending_ms <= 40
    heard_ms = buffer.heard_ms
    buffer.begin(heard_ms - back_ms)
    buffer.append(sound[-500:])
    taken = buffer.take(heard_ms)
    assert len(taken) > 24 * (min(back_ms, 20, heard_ms) - 1)
    end = heard_ms * 24
    assert taken.tolist() == sound[end - len(taken) : end].tolist()
    assert buffer.take().tolist() == sound[end:].tolist()


def test_the_beginning_is_kept_at_the_cap_and_the_clock_runs_on() -> None:
    buffer = InputBuffer(idle_ms=500, holding=True)
    minute = ramp(20_000)
    for _ in range(CAP_MS // 20_000):
        buffer.append(minute)
    assert buffer.full
    buffer.append(minute)
    assert (buffer.pending_ms, buffer.heard_ms) == (CAP_MS, CAP_MS + 20_000)
    buffer.take(CAP_MS - 5_000)
    buffer.append(ramp(100, 7))
    assert buffer.take().tolist() == ramp(100, 7).tolist()


def test_clear() -> None:
    buffer = InputBuffer(idle_ms=500, holding=True)
    buffer.append(ramp(300))
    buffer.clear()
    assert (buffer.pending_ms, buffer.heard_ms) == (0, 300)
    buffer.append(ramp(50, 300))
    assert buffer.take()[0] == 300

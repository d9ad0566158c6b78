"""What is read in the midst of a key takes a shorter way through the playout."""

import numpy as np
from hypothesis import given, settings, strategies as st

from bridge.audio.frames import Pcm
from tests.media.test_playout import recorded


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.sampled_from(("a", "b", "")), st.integers(1, 40_000)),
            st.tuples(st.just("finish"), st.sampled_from("ab"), st.just(0)),
            st.tuples(st.just("read"), st.just(""), st.integers(1, 60)),
            st.tuples(st.just("part"), st.just(""), st.integers(1, 480)),
            st.tuples(st.just("clear"), st.just(""), st.just(0)),
            st.tuples(st.just("pause"), st.just(""), st.integers(0, 1)),
            st.tuples(st.just("ask"), st.sampled_from("ab"), st.just(0)),
        ),
        max_size=40,
    )
)
def test_the_way_past_is_no_other_way(steps: list[tuple[str, str, int]]) -> None:
    """`read` leaves all as `_read` would."""
    rng = np.random.default_rng(1)
    both = [recorded(), recorded()]
    told: list[list[Pcm]] = [[], []]
    for (playout, _), frames in zip(both, told, strict=True):
        playout.on_read = frames.append
    (short, _), (long, _) = both
    for action, key, number in steps:
        if action in ("read", "part"):
            times, samples = (number, 480) if action == "read" else (1, number)
            for _ in range(times):
                one, other = short.read(samples), long._read(samples)
                assert (one is None) == (other is None)
                if one is not None and other is not None:
                    assert one.tolist() == other.tolist()
            continue
        if action == "ask":
            assert short.played_ms(key) == long.played_ms(key)
            assert (short.idle, short.buffered_ms) == (long.idle, long.buffered_ms)
            continue
        sound = rng.integers(-9000, 9000, number, np.int16)
        for playout, log in both:
            if action == "write":
                playout.write(key, sound)
            elif action == "finish":
                playout.finish(key)
            elif action == "clear":
                playout.clear()
                playout.when_silent(lambda log=log: log.append("silent"))  # type: ignore[misc]
            else:
                playout.paused = bool(number)
    assert both[0][1] == both[1][1]
    assert [each.tolist() for each in told[0]] == [each.tolist() for each in told[1]]
    assert short.stats == long.stats
    assert (short.buffered_ms, short.prebuffer_ms, short.idle, short._calm, short._waited) == (
        long.buffered_ms,
        long.prebuffer_ms,
        long.idle,
        long._calm,
        long._waited,
    )
    assert [short.played_ms(key) for key in "ab"] == [long.played_ms(key) for key in "ab"]

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bridge.audio.frames import Pcm
from bridge.audio.tones import sine
from bridge.media.playout import FADE, REMEMBERED_KEYS, Cut, Playout


def pcm(samples: int, value: int = 1) -> Pcm:
    return np.full(samples, value, np.int16)


def recorded() -> tuple[Playout, list[str]]:
    playout = Playout()
    log: list[str] = []
    playout.on_started = lambda key: log.append(f"started {key}")
    playout.on_finished = lambda key: log.append(f"finished {key}")
    return playout, log


def test_silence_when_nothing_was_written() -> None:
    playout, log = recorded()
    assert playout.read() is None
    assert playout.clear() == []
    assert playout.idle
    assert playout.buffered_ms == 0
    assert playout.played_ms("never") == 0
    assert log == []


def test_a_key_from_first_to_last_sample() -> None:
    playout, log = recorded()
    playout.write("item_1", np.arange(1000, dtype=np.int16))
    assert playout.buffered_ms == 41
    assert not playout.idle
    assert log == []
    first = playout.read()
    assert log == ["started item_1"]
    playout.finish("item_1")
    second, third = playout.read(), playout.read()
    assert first is not None
    assert second is not None
    assert third is not None
    assert log == ["started item_1", "finished item_1"]
    heard = np.concatenate((first, second, third))
    assert heard[:1000].tolist() == list(range(1000))
    assert not heard[1000 + FADE :].any()
    assert playout.played_ms("item_1") == 41
    assert playout.read() is None
    assert playout.idle


def test_the_end_told_late_is_still_told() -> None:
    playout, log = recorded()
    playout.write("a", pcm(480))
    assert playout.read() is not None
    assert not playout.idle
    playout.finish("a")
    assert playout.read() is None
    assert log == ["started a", "finished a"]
    assert playout.idle


def test_a_frame_that_is_not_full_yet_is_held_back() -> None:
    playout, _ = recorded()
    playout.write("a", pcm(700))
    assert playout.read() is not None
    assert playout.read() is None
    assert playout.read() is None
    assert playout.stats.underruns == 1
    assert playout.played_ms("a") == 20
    playout.write("a", pcm(260))
    # It was late once, so one frame more is waited for.
    assert playout.prebuffer_ms == 40
    assert playout.read() is None
    assert playout.played_ms("a") == 20
    frame = playout.read()
    assert frame is not None
    assert (frame[120:] == 1).all()
    assert playout.read() is None
    assert playout.stats.underruns == 2


def speech(samples: int) -> Pcm:
    return sine(300, samples / 24_000)


def heard(playout: Playout, reads: int) -> Pcm:
    frames = [playout.read() for _ in range(reads)]
    return np.concatenate([pcm(480, 0) if frame is None else frame for frame in frames])


def steepest(sound: Pcm) -> int:
    return int(np.abs(np.diff(sound.astype(int))).max())


@pytest.mark.parametrize("written", [4800, 4900])
def test_an_underrun_does_not_click(written: int) -> None:
    playout = Playout()
    sound = speech(24_000)[30:]  # in full swing
    playout.write("a", sound[:written])
    out = heard(playout, 15)
    playout.write("a", sound[written : written + 4800])
    out = np.concatenate((out, heard(playout, 15)))
    playout.finish("a")
    out = np.concatenate((out, heard(playout, 5)))
    assert steepest(out[240:]) <= 1.3 * steepest(sound)
    assert playout.played_ms("a") == (written + 4800) // 24
    assert playout.stats.underruns == 2


def test_a_cut_does_not_click_and_takes_five_milliseconds() -> None:
    playout = Playout()
    sound = speech(24_000)
    playout.write("a", sound)
    out = heard(playout, 10)
    assert playout.clear() == [Cut("a", 200, 1000)]
    after = heard(playout, 5)
    assert not after[FADE:].any()
    assert steepest(np.concatenate((out, after))) <= 1.3 * steepest(sound)
    assert playout.played_ms("a") == 200


def test_what_follows_a_cut_at_once_does_not_click() -> None:
    playout = Playout()
    sound = speech(24_000)
    playout.write("a", sound)
    out = heard(playout, 10)
    playout.clear()
    playout.write("b", sound[70:])
    out = np.concatenate((out, heard(playout, 10)))
    assert steepest(out) <= 1.3 * steepest(sound)


def test_a_key_that_ends_in_full_swing_does_not_click() -> None:
    for samples in (4800, 4970):
        playout = Playout()
        playout.write("a", speech(24_000)[:samples])
        playout.finish("a")
        assert steepest(heard(playout, 15)) <= 1.3 * steepest(speech(24_000))
        assert playout.stats.underruns == 0


def test_deltas_that_come_late_are_waited_for() -> None:
    """Each of 20 ms, in real time, up to 50 ms late."""
    playout = Playout()
    sound = speech(20 * 24_000)
    rng = np.random.default_rng(1)
    arrivals = np.maximum.accumulate(np.arange(1000) * 20 + rng.uniform(0, 50, 1000))
    written = 0
    underruns = []
    for tick in range(1000):
        while written < 1000 and arrivals[written] <= tick * 20:
            playout.write("a", sound[written * 480 : (written + 1) * 480])
            written += 1
        playout.read()
        underruns.append(playout.stats.underruns)
    assert 1 <= underruns[-1] <= 5
    assert underruns[150] == underruns[450]
    assert playout.prebuffer_ms <= 100


def test_a_calm_model_is_waited_for_less_and_less() -> None:
    playout = Playout()
    playout.write("a", pcm(480))
    heard(playout, 3)
    assert playout.prebuffer_ms == 40
    playout.write("a", pcm(480 * 600))
    heard(playout, 600)
    assert playout.prebuffer_ms == 20


def test_one_key_follows_another_without_a_gap() -> None:
    playout, log = recorded()
    playout.write("a", pcm(100, 1))
    playout.finish("a")
    playout.write("b", pcm(400, 2))
    playout.finish("b")
    frame = playout.read()
    assert frame is not None
    assert frame.tolist() == [1] * 100 + [2] * 380
    assert log == ["started a", "started b", "finished a"]
    assert playout.read() is not None
    assert log[-1] == "finished b"


def test_a_cut_tells_what_was_heard_and_silences_the_rest() -> None:
    playout, log = recorded()
    playout.write("a", pcm(4800))
    playout.write("b", pcm(2400))
    assert playout.read() is not None
    assert playout.clear() == [Cut("a", 20, 200), Cut("b", 0, 100)]
    assert playout.read() is None
    assert playout.idle
    assert playout.buffered_ms == 0
    assert playout.clear() == []
    playout.write("a", pcm(4800))
    playout.finish("a")
    assert playout.read() is None
    assert playout.stats.ignored_writes == 1
    assert playout.played_ms("a") == 20
    assert log == ["started a"]


def test_a_key_that_may_still_grow_is_cut_though_all_of_it_was_heard() -> None:
    playout, _ = recorded()
    playout.write("a", pcm(480))
    assert playout.read() is not None
    assert playout.clear() == [Cut("a", 20, 20)]


def test_a_key_wholly_heard_is_not_cut() -> None:
    playout, log = recorded()
    playout.write("a", pcm(480))
    assert playout.read() is not None
    playout.finish("a")
    playout.write("b", pcm(480))
    assert playout.clear() == [Cut("b", 0, 20)]
    assert playout.read() is None
    assert log == ["started a", "finished a"]


def test_anonymous_audio_has_no_story() -> None:
    playout, log = recorded()
    playout.write("", pcm(500))
    playout.finish("")
    assert not playout.idle
    assert playout.read() is not None
    last = playout.read()
    assert last is not None
    assert last.tolist() == [1] * 20 + [0] * 460
    assert playout.clear() == []
    assert log == []
    playout.write("", pcm(0))
    assert playout.idle


def test_a_loop_is_late_for_a_second_at_most() -> None:
    playout = Playout()
    for _ in range(60):  # What came during a standstill.
        playout.write("", pcm(480))
    for _ in range(49):
        playout.write("", pcm(480))
        assert playout.read() is not None
    assert playout.buffered_ms == 1200
    for _ in range(100):
        playout.write("", pcm(480))
        assert playout.read() is not None
        assert playout.buffered_ms == 0


def test_a_loop_that_comes_in_pairs_loses_nothing() -> None:
    playout = Playout()
    heard = 0
    for number in range(400):
        if number % 2 == 0:
            playout.write("", pcm(480))
            playout.write("", pcm(480))
        heard += playout.read() is not None
    assert heard == 400


def test_a_long_tone_is_heard_to_its_end() -> None:
    playout = Playout()
    playout.write("", pcm(150 * 480))
    assert sum(playout.read() is not None for _ in range(200)) == 150


def test_callbacks_may_change_the_playout() -> None:
    playout = Playout()

    def interrupt(_: str) -> None:
        assert playout.clear() == [Cut("a", 20, 40)]
        playout.write("b", pcm(480, 2))

    playout.on_started = interrupt
    playout.write("a", pcm(960))
    assert playout.read() is not None
    playout.on_started = None
    frame = playout.read()
    assert frame is not None
    assert (frame == 2).all()


def test_without_anyone_listening() -> None:
    playout = Playout()
    playout.write("a", pcm(480))
    playout.finish("a")
    playout.finish("never written")
    assert playout.read() is not None
    assert playout.idle


def test_old_keys_are_forgotten_and_live_ones_are_not() -> None:
    playout = Playout()
    for number in range(REMEMBERED_KEYS + 10):
        playout.write(f"item_{number}", pcm(480))
        playout.finish(f"item_{number}")
        assert playout.read() is not None
    assert playout.played_ms("item_0") == 0
    assert playout.played_ms(f"item_{REMEMBERED_KEYS + 9}") == 20
    live = Playout()
    for number in range(REMEMBERED_KEYS + 10):
        live.write(f"item_{number}", pcm(480))
    assert len(live.clear()) == REMEMBERED_KEYS + 10


@pytest.mark.parametrize("frame", [160, 480])
@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.sampled_from("abc"), st.integers(1, 2000)),
            st.tuples(st.just("finish"), st.sampled_from("abc"), st.just(0)),
            st.tuples(st.just("read"), st.just(""), st.integers(1, 6)),
            st.tuples(st.just("clear"), st.just(""), st.just(0)),
        ),
        max_size=40,
    )
)
def test_every_sample_is_heard_once_cut_or_waiting(
    frame: int, steps: list[tuple[str, str, int]]
) -> None:
    playout, log = recorded()
    heard = waiting = 0
    generation = dict.fromkeys("abc", 0)  # a key is used once, as item ids are
    ended: set[str] = set()
    for action, letter, number in steps:
        key = f"{letter}{generation.get(letter, 0)}"
        if action == "write":
            playout.write(key, pcm(number))
            waiting += number
        elif action == "finish":
            playout.finish(key)
            generation[letter] += 1
        elif action == "clear":
            waiting = 0
            for cut in playout.clear():
                assert 0 <= cut.played_ms <= cut.written_ms
                assert cut.key not in ended
                ended.add(cut.key)
                generation[cut.key[0]] += 1
        else:
            for _ in range(number):
                got = playout.read(frame)
                assert got is None or len(got) == frame
                samples = int(got.sum()) if got is not None else 0
                heard += samples
                waiting -= samples
        assert playout.buffered_ms == waiting * 1000 // 24_000
    names = [f"{letter}{number}" for letter in "abc" for number in range(generation[letter] + 1)]
    assert sum(playout.played_ms(name) for name in names) <= heard / 24
    assert sum(playout.played_ms(name) + 1 for name in names) >= heard / 24
    started = [line.split()[1] for line in log if line.startswith("started")]
    finished = [line.split()[1] for line in log if line.startswith("finished")]
    assert len(set(started)) == len(started)
    assert len(set(finished)) == len(finished)
    assert set(finished) <= set(started)
    assert not ended & set(finished)


def loud(samples: int) -> Pcm:
    return sine(400, samples / 24000)


def cut(said: Pcm, reads: int = 1) -> tuple[Playout, list[str]]:
    """After so many frames of it; and what is told when it is silent."""
    playout = Playout()
    told: list[str] = []
    playout.write("a", said)
    for _ in range(reads):
        playout.read()
    playout.clear()
    playout.when_silent(lambda: told.append("silent"))
    return playout, told


def test_silence_is_told_with_the_packet_that_carries_the_last_of_the_fade() -> None:
    """A packet of its own for the fade, and what the filters remember in the one after it."""
    playout, told = cut(loud(4800) + np.int16(1000))
    assert playout.read() is not None
    assert told == []
    assert playout.read() is None
    assert told == ["silent"]
    playout.read()
    assert told == ["silent"]


def test_what_ended_quietly_is_silent_with_the_next_packet() -> None:
    playout, told = cut(pcm(4800))
    assert told == []
    assert playout.read() is None
    assert told == ["silent"]


def test_new_speech_right_after_a_cut_ends_the_old() -> None:
    playout, told = cut(loud(4800) + np.int16(1000))
    playout.write("b", loud(4800))
    assert playout.read() is not None
    assert told == ["silent"]


def test_what_was_never_on_the_wire_is_silent_at_once() -> None:
    _, told = cut(loud(4800), reads=0)
    assert told == ["silent"]


def test_every_frame_of_sound_is_told_as_it_leaves() -> None:
    playout, _ = recorded()
    left: list[Pcm] = []
    playout.on_read = left.append
    assert playout.read() is None
    playout.write("a", pcm(700))
    playout.finish("a")
    frames = [playout.read(), playout.read()]
    assert playout.read() is None
    assert [frame is told for frame, told in zip(frames, left, strict=True)] == [True, True]


def test_what_is_paused_goes_on_from_the_same_sample() -> None:
    playout, log = recorded()
    playout.write("a", np.arange(480 * 4, dtype=np.int16))
    playout.finish("a")
    first = playout.read()
    assert first is not None
    playout.paused = True
    fade, nothing = playout.read(), playout.read()
    assert fade is not None
    assert nothing is None
    assert playout.played_ms("a") == 20
    assert not playout.idle
    playout.paused = False
    second = playout.read()
    assert second is not None
    assert int(second[-1]) == 959
    assert playout.stats.underruns == 0
    assert log == ["started a"]


def test_what_is_paused_and_cleared_is_paused_no_more() -> None:
    playout, _ = recorded()
    playout.write("a", pcm(960))
    playout.read()
    playout.paused = True
    assert playout.clear() == [Cut("a", 20, 40)]
    playout.write("b", pcm(480))
    assert playout.read() is not None

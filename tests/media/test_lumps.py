from collections.abc import Sequence

import numpy as np
from hypothesis import given, strategies as st

from bridge.audio.codecs import PCMA, PCMU
from bridge.audio.frames import MODEL_FRAME, Pcm
from bridge.load import Load
from bridge.media.lumps import LUMP, Lumps
from bridge.media.stream import AudioStream
from bridge.media.taps import Tap

VOICE, SILENCE = 5000, 100


def frame(level: int) -> Pcm:
    return np.full(MODEL_FRAME, level, np.int16)


def sizes(levels: Sequence[int], *, busy: bool = True) -> list[int]:
    """How many frames came with each of these; 0: it was held."""
    load = Load()
    load.high = busy
    lumps = Lumps(lambda: True, load)
    told = [lumps.push(frame(level), None, loud=None) for level in levels]
    return [sum(len(pcm) for pcm, _ in each) // MODEL_FRAME for each in told]


def test_with_time_to_spare_each_frame_goes_at_once() -> None:
    assert sizes([VOICE] * 20 + [SILENCE] * 20, busy=False) == [1] * 40


def test_a_voice_begins_without_delay() -> None:
    told = sizes([SILENCE] * 52 + [VOICE])
    # Two of silence were held.
    assert told[-3:] == [0, 0, 3]


def test_a_voice_goes_in_twos_until_a_detector_has_heard_it_and_then_in_fives() -> None:
    told = sizes([VOICE] * 60)
    assert told[0] == 1
    assert set(told[1:15]) == {0, 2}
    assert set(told[20:]) == {0, 5}


def test_the_silence_after_it_goes_in_twos_and_then_in_fives() -> None:
    told = sizes([VOICE] * 61 + [SILENCE] * 100)
    ended, later = told[61 + 8 : 61 + 50], told[61 + 55 :]
    assert set(ended) == {0, 2}
    assert set(later) == {0, 5}


def test_a_gap_in_a_word_is_no_end() -> None:
    told = sizes([VOICE] * 60 + [SILENCE] * 4 + [VOICE] * 30)
    assert set(told[20:]) == {0, 5}


Frames = st.lists(st.tuples(st.sampled_from((VOICE, SILENCE)), st.booleans(), st.booleans()))


@given(Frames)
def test_nothing_is_lost_or_moved_and_none_waits_for_more_than_four(
    frames: list[tuple[int, bool, bool]],
) -> None:
    load, allowed = Load(), [False]
    lumps = Lumps(lambda: allowed[0], load)
    came, octets, waiting = [], b"", 0
    for number, (level, load.high, allowed[0]) in enumerate(frames):
        told = lumps.push(frame(number), bytes([number % 256]), loud=level == VOICE)
        waiting += 1
        if told:
            came += [first for pcm, _ in told for first in pcm[::MODEL_FRAME].tolist()]
            octets += b"".join(coded or b"" for _, coded in told)
            waiting = 0
        assert waiting < LUMP
        assert waiting == 0 or load.high
    assert came == list(range(len(frames) - waiting))
    assert octets == bytes(number % 256 for number in came)


def test_octets_are_told_only_if_all_of_it_has_them() -> None:
    load = Load()
    load.high = True
    lumps = Lumps(lambda: True, load)
    lumps.push(frame(VOICE), b"\x01", loud=True)
    lumps.push(frame(VOICE), None, loud=True)
    ((pcm, octets),) = lumps.push(frame(VOICE), b"\x02", loud=True)
    assert (len(pcm), octets) == (2 * MODEL_FRAME, None)


def test_who_wants_single_frames_gets_those_that_were_held_singly() -> None:
    load, patient = Load(), True
    load.high = True
    lumps = Lumps(lambda: patient, load)
    for _ in range(2):
        lumps.push(frame(VOICE), None, loud=True)
    patient = False
    told = lumps.push(frame(VOICE), None, loud=True)
    assert [len(pcm) for pcm, _ in told] == [MODEL_FRAME] * 2


class Wire:
    def send(self, data: bytes) -> None:
        pass

    def send_rtcp(self, data: bytes) -> None:
        pass


def test_another_law_is_told_after_what_came_in_the_first() -> None:
    stream = AudioStream(PCMU, payload_type=0, wire=Wire(), cname="test")
    load = Load()
    load.high = True
    stream.lumps = Lumps(lambda: True, load)
    heard: list[tuple[str, bytes]] = []
    stream.on_coded = lambda octets, law: heard.append((law, octets))
    stream.deliver(frame(VOICE), b"\x01", loud=True)
    stream.deliver(frame(VOICE), b"\x02", loud=True)
    stream.renegotiate(PCMA, payload_type=8)
    stream.deliver(frame(VOICE), b"\x03", loud=True)
    stream.deliver(frame(VOICE), b"\x04", loud=True)
    assert heard == [("PCMU", b"\x01"), ("PCMU", b"\x02"), ("PCMA", b"\x03\x04")]


def test_a_recording_gets_each_frame_when_it_came() -> None:
    stream = AudioStream(PCMU, payload_type=0, wire=Wire(), cname="test")
    load = Load()
    load.high = True
    stream.lumps = Lumps(lambda: True, load)
    pairs: list[Pcm] = []
    stream.tap = Tap(lambda said, heard: pairs.append(said))
    told: list[int] = []
    stream.on_frame = lambda pcm: told.append(len(pcm) // MODEL_FRAME)
    for number in range(1, 30):
        stream.deliver(frame(number), loud=True)
        stream.next_frame()
        assert [pcm[0] for pcm in pairs] == list(range(1, number + 1))
    assert max(told) == LUMP

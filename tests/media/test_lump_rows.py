"""Callers who are heard together are told as each of them would be alone."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from hypothesis import given, settings, strategies as st

from bridge.audio.codecs import PCMA, PCMU
from bridge.audio.frames import MODEL_FRAME, Pcm
from bridge.load import Load
from bridge.media.lumps import LUMP, Lumps
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.media.taps import Tap
from bridge.rtp.packet import RtpPacket
from tests.media.test_steady import Sent

VOICE, SILENCE = 0x90, 0xFF
CALLS = 3

Turn = tuple[Sequence[bool], Sequence[bool], bool]
"""Who talks, whose frames may wait, and whether there is little time."""


class Caller:
    """One call, and what its session was told in each turn: octets, and samples as many."""

    def __init__(self, plane: MediaPlane, allowed: Callable[[], bool], load: Load) -> None:
        self.stream = AudioStream(PCMU, payload_type=0, wire=Sent(), cname="a@b", ssrc=9)
        self.stream.lumps = Lumps(allowed, load)
        self.stream.on_coded = lambda octets, law: self._coded.append((law, octets))
        self.stream.on_frame = self._hear
        self._coded: list[tuple[str, bytes]] = []
        self._told: list[tuple[str, bytes]] = []
        self.samples: list[Pcm] = []
        self._number = 0
        plane.add(self.stream)

    def _hear(self, pcm: Pcm) -> None:
        ((law, octets),) = self._coded
        self._coded.clear()
        assert len(pcm) == 3 * len(octets)
        self._told.append((law, octets))
        self.samples.append(pcm)

    def send(self, octets: bytes, now: float, *, payload_type: int) -> None:
        number = self._number
        self._number += 1
        packet = RtpPacket(payload_type, False, number, number * 160, 1, octets)
        self.stream.receive_rtp(bytes(packet), now)

    def told(self) -> list[tuple[str, bytes]]:
        told, self._told = self._told, []
        return told


def frame(number: int, *, talks: bool) -> bytes:
    """Its number is in it."""
    level = VOICE if talks else SILENCE
    return bytes((level, 0xF0 | number % 16)) + bytes((level,)) * 158


class Failing:
    def __call__(self, pcm: Pcm) -> None:
        raise ArithmeticError


class Stage:
    """Calls of one plane, a frame a turn."""

    def __init__(self, calls: int = CALLS) -> None:
        self.load = Load()
        self.allowed = [True] * calls
        self.plane = MediaPlane(load=self.load)
        self.callers = [
            Caller(self.plane, partial(self.allowed.__getitem__, at), self.load)
            for at in range(calls)
        ]
        self.turn = 0

    def run(self, talks: Sequence[bool], *, payload_type: int = 0) -> list[list[tuple[str, bytes]]]:
        self.turn += 1
        now = 100 + self.turn * 0.02
        for caller, talk in zip(self.callers, talks, strict=True):
            caller.send(frame(self.turn, talks=talk), now, payload_type=payload_type)
        self.plane.tick(now)
        return [caller.told() for caller in self.callers]


Turns = st.lists(
    st.tuples(
        st.integers(1, 20),
        st.tuples(
            st.lists(st.booleans(), min_size=CALLS, max_size=CALLS),
            st.lists(st.booleans(), min_size=CALLS, max_size=CALLS),
            st.booleans(),
        ),
    ),
    max_size=20,
)


@given(Turns)
@settings(deadline=None)
def test_each_is_told_as_if_alone(turns: list[tuple[int, Turn]]) -> None:
    stage = Stage()
    alone = [Lumps(partial(stage.allowed.__getitem__, at), stage.load) for at in range(CALLS)]
    samples = np.zeros(MODEL_FRAME, np.int16)
    for times, (talks, stage.allowed[:], stage.load.high) in turns:
        for _ in range(times):
            told = stage.run(talks)
            for at, lumps in enumerate(alone):
                coded = frame(stage.turn, talks=talks[at])
                expected = lumps.push(samples, coded, loud=talks[at])
                assert told[at] == [("PCMU", octets) for _, octets in expected]
                assert stage.callers[at].stream.gathered_ms == 20 * len(lumps)


def test_what_is_told_together_sounds_as_if_told_singly() -> None:
    sounds = []
    for high in (False, True):
        stage = Stage()
        stage.load.high = high
        for turn in range(100):
            stage.run([turn % 40 < 30] * CALLS)
        for caller in stage.callers:
            caller.stream.flush()
        sounds.append([np.concatenate(caller.samples) for caller in stage.callers])
    assert sounds[0][0].any()
    np.testing.assert_array_equal(sounds[0], sounds[1])


def test_a_session_gets_nothing_of_another() -> None:
    stage = Stage()
    stage.load.high = True
    for _ in range(60):
        stage.run([True] * CALLS)
    kept = [sound for caller in stage.callers for sound in caller.samples]
    assert max(len(sound) for sound in kept) == LUMP * MODEL_FRAME
    assert all(sound.base is None or sound.base.size == sound.size for sound in kept)


def waiting_stage() -> Stage:
    stage = Stage(1)
    stage.load.high = True
    for _ in range(24):
        stage.run([True])
    assert stage.callers[0].stream.gathered_ms > 0
    return stage


def test_what_waits_is_told_before_what_comes_after_it() -> None:
    stage = waiting_stage()
    caller = stage.callers[0]
    waits = caller.stream.gathered_ms // 20
    caller.stream.flush()
    ((law, octets),) = caller.told()
    assert (law, len(octets)) == ("PCMU", 160 * waits)
    assert caller.stream.gathered_ms == 0
    caller.stream.flush()
    assert caller.told() == []


def test_another_law_is_told_after_what_came_in_the_first() -> None:
    stage = waiting_stage()
    caller = stage.callers[0]
    caller.stream.renegotiate(PCMA, payload_type=8)
    assert {law for law, _ in caller.told()} == {"PCMU"}
    told = [each for _ in range(LUMP) for each in stage.run([True], payload_type=8)[0]]
    caller.stream.flush()
    told += caller.told()
    assert {law for law, _ in told} == {"PCMA"}
    assert sum(len(octets) for _, octets in told) == 160 * LUMP


def test_who_comes_next_is_told_nothing_of_what_waited() -> None:
    stage = waiting_stage()
    stage.plane.remove(stage.callers[0].stream)
    assert stage.callers[0].stream.gathered_ms == 0
    stage.callers = [Caller(stage.plane, lambda: True, stage.load)]
    assert stage.callers[0].stream.gathered_ms == 0
    octets = b"".join(octets for _ in range(10) for _, octets in stage.run([False])[0])
    assert octets[:2] == frame(25, talks=False)[:2]


def test_a_session_that_fails_costs_nobody_else_more_than_that_slot() -> None:
    stage = Stage()
    stage.load.high = True
    for _ in range(24):
        stage.run([True] * CALLS)
    fails = stage.callers[0].stream
    hears, fails.on_frame = fails.on_frame, Failing()
    for _ in range(4 * LUMP):
        with contextlib.suppress(ArithmeticError):
            stage.run([True] * CALLS)
    fails.on_frame = hears
    stage.callers[0]._coded.clear()
    for caller in stage.callers:
        caller.told()
    told = [stage.run([True] * CALLS) for _ in range(2 * LUMP)]
    for at in range(CALLS):
        assert sum(len(octets) for turn in told for _, octets in turn[at]) >= 160 * LUMP


def test_who_wants_each_frame_gets_it_beside_those_who_wait() -> None:
    stage = Stage()
    stage.load.high = True
    stage.callers[1].stream.lumps = None
    told = [stage.run([True] * CALLS) for _ in range(60)]
    assert {len(one) for _, one, _ in told} == {1}
    assert {len(octets) for _, one, _ in told for _, octets in one} == {160}
    assert [one for one, _, _ in told] == [other for _, _, other in told]
    assert max(len(octets) for one, _, _ in told for _, octets in one) == 160 * LUMP


def test_a_recording_gets_each_frame_when_it_came() -> None:
    stage = Stage()
    stage.load.high = True
    said: list[Pcm] = []
    stage.callers[1].stream.tap = Tap(lambda caller, _: said.append(caller))
    for _ in range(60):
        stage.run([True] * CALLS)
    assert len(said) >= 59
    assert max(len(sound) for sound in stage.callers[1].samples) == LUMP * MODEL_FRAME

"""Slots of 5 ms: when calls are heard and told."""

from collections import Counter

import numpy as np
import pytest

from bridge.audio.codecs import OPUS, PCMA, PCMU, Codec
from bridge.audio.frames import Pcm
from bridge.audio.opus import OpusEncoder
from bridge.audio.tones import sine
from bridge.media.plane import PHASE_ROOM, SINGLE_ROOM, MediaPlane
from bridge.media.schedule import PHASES
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket

SLOT_S = 0.005
CODECS = pytest.mark.parametrize("codec", [PCMU, PCMA, OPUS], ids=lambda codec: codec.name)


class Line:
    """A stream and what its wire carried: the slot's number and the packet."""

    def __init__(self, plane: MediaPlane, codec: Codec = PCMU) -> None:
        self.sent: list[RtpPacket] = []
        self.heard: list[Pcm] = []
        self.stream = AudioStream(codec, payload_type=0, wire=self, cname="a@b")
        self.stream.on_frame = self.heard.append
        self.step = codec.clock_rate // 50
        self._plane = plane
        self._number = 0
        self._encoder = OpusEncoder() if codec is OPUS else None
        plane.add(self.stream)

    def send(self, data: bytes) -> None:
        self.sent.append(RtpPacket.parse(data))

    def send_rtcp(self, data: bytes) -> None:
        pass

    def speak(self, now: float, *, number: int | None = None) -> None:
        self._number = self._number + 1 if number is None else number
        silence = np.zeros(480, np.int16)
        payload = self._encoder.encode(silence) if self._encoder else bytes([self._number % 100])
        payload = payload if self._encoder else payload * 160
        packet = RtpPacket(0, False, self._number, self._number * self.step, 7, payload)
        self.stream.receive_rtp(bytes(packet), now)


@CODECS
def test_a_phase_is_filled_before_the_next_and_each_call_sends_once_in_its_own(
    codec: Codec,
) -> None:
    plane = MediaPlane()
    room = SINGLE_ROOM if codec is OPUS else PHASE_ROOM
    lines = [Line(plane, codec) for _ in range(2 * room + 1)]
    slots: dict[int, list[int]] = {}
    for number in range(1, 41):
        before = [len(line.sent) for line in lines]
        plane.slot(number, number * SLOT_S)
        for place, line in enumerate(lines):
            if len(line.sent) > before[place]:
                slots.setdefault(place, []).append(number)
    assert all(np.diff(each).tolist() == [PHASES] * 9 for each in slots.values())
    phases = Counter(each[0] % PHASES for each in slots.values())
    assert sorted(phases.values()) == [1, room, room]
    for line in lines:
        numbers = [packet.sequence_number for packet in line.sent]
        assert np.diff(numbers).tolist() == [1] * 9
        assert not any(packet.marker for packet in line.sent)


def sending(plane: MediaPlane, lines: list[Line]) -> list[int]:
    """How many send in each of the four slots that come."""
    counts = []
    for number in range(5, 9):
        before = sum(len(line.sent) for line in lines)
        plane.slot(number, number * SLOT_S)
        counts.append(sum(len(line.sent) for line in lines) - before)
    return counts


def test_calls_beyond_the_room_of_all_phases_are_spread_over_them() -> None:
    plane = MediaPlane()
    lines = [Line(plane) for _ in range(PHASES * (PHASE_ROOM + 2))]
    assert sending(plane, lines) == [PHASE_ROOM + 2] * PHASES


def test_phases_that_emptied_are_filled_first() -> None:
    plane = MediaPlane()
    lines = [Line(plane) for _ in range(PHASES * PHASE_ROOM)]
    plane.tick(0.0)
    for line in lines[:2]:
        plane.remove(line.stream)
    more = [Line(plane), Line(plane)]
    assert sending(plane, lines[2:] + more) == [PHASE_ROOM] * PHASES


def test_the_next_slot_in_which_somebody_sends() -> None:
    plane = MediaPlane()
    assert plane.next_sending(5) == 5
    first = Line(plane)
    assert [plane.next_sending(number) for number in (4, 5, 6, 7, 8)] == [4, 8, 8, 8, 8]
    plane.slot(4, 0.02)
    assert len(first.sent) == 1


@CODECS
def test_a_phase_is_complete_when_each_has_said_something_since_it_sent(codec: Codec) -> None:
    plane = MediaPlane()
    assert plane.complete(4)
    lines = [Line(plane, codec), Line(plane, codec)]
    plane.slot(4, 0.02)
    assert plane.complete(5)
    lines[0].speak(0.021)
    assert not plane.complete(8)
    plane.hear(0.021)
    assert not plane.complete(8)
    lines[1].speak(0.022)
    assert plane.complete(8)
    plane.slot(8, 0.04)
    assert not plane.complete(8)
    lines[0].speak(0.041)
    lines[1].stream.held = True
    assert plane.complete(8)


@CODECS
def test_packets_are_heard_between_slots_and_asked_for_only_once(codec: Codec) -> None:
    plane = MediaPlane()
    line = Line(plane, codec)
    woken: list[int] = []
    plane.on_heard = lambda: woken.append(1)
    for number in range(1, 101):
        now = number * 4 * SLOT_S
        line.speak(now - 0.008)
        plane.hear(now - 0.008)
        assert len(line.heard) == number
        plane.slot(number * 4, now)
    assert len(line.heard) == len(woken) == 100
    assert line.stream.stats.concealed == 0


@CODECS
def test_who_is_heard_is_heard_in_the_next_slot_whatever_its_phase(codec: Codec) -> None:
    plane = MediaPlane()
    lines = [Line(plane, codec) for _ in range(4)]
    for number in range(1, 81):
        now = number * SLOT_S
        for place, line in enumerate(lines):
            if (number + place) % PHASES == 2:
                line.speak(now)
        before = [len(line.heard) for line in lines]
        plane.slot(number, now)
        for place, line in enumerate(lines):
            assert len(line.heard) - before[place] == ((number + place) % PHASES == 2)


@CODECS
def test_what_does_not_come_is_replaced_and_the_clock_runs_true(codec: Codec) -> None:
    plane = MediaPlane()
    line = Line(plane, codec)
    for number in range(1, 401):
        now = number * SLOT_S
        if number % PHASES == 3 and number < 200:
            line.speak(now)
        plane.slot(number, now)
    assert 96 <= len(line.heard) <= 100


def test_packets_early_and_late_within_a_phase_lose_nothing() -> None:
    """Arrivals wander by ±9 ms around their time: every frame is heard, in order."""
    plane = MediaPlane()
    line = Line(plane)
    rng = np.random.default_rng(3)
    arrivals = sorted((0.02 * n + 0.02 + float(rng.uniform(-0.009, 0.009)), n) for n in range(200))
    for number in range(1, 820):
        now = number * SLOT_S
        while arrivals and arrivals[0][0] <= now:
            line.speak(now, number=arrivals.pop(0)[1])
        plane.slot(number, now)
    assert line.stream.stats.packets_lost == line.stream.stats.packets_late == 0
    assert len(line.heard) >= 200


@CODECS
def test_slots_left_out_are_a_gap_in_the_timestamps_and_a_marker(codec: Codec) -> None:
    plane = MediaPlane()
    line = Line(plane, codec)
    line.stream.playout.write("", sine(440, 1))
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 21, 22, 23, 24, 25, 26, 27, 28):
        plane.slot(number, number * SLOT_S)
    first, second, third, fourth = line.sent
    steps = [
        (after.timestamp - before.timestamp) & 0xFFFF_FFFF
        for before, after in zip(line.sent, line.sent[1:], strict=False)
    ]
    assert steps == [line.step, 4 * line.step, line.step]
    assert [packet.marker for packet in line.sent] == [True, False, True, False]
    assert fourth.sequence_number - first.sequence_number == 3
    assert second.payload != third.payload


def test_a_rest_without_calls_is_no_gap() -> None:
    plane = MediaPlane()
    first = Line(plane)
    plane.slot(4, 0.02)
    plane.remove(first.stream)
    second = Line(plane)
    for number in range(4000, 4008):
        plane.slot(number, number * SLOT_S)
    assert [packet.marker for packet in second.sent] == [False, False]


def test_the_plane_tells_when_the_first_call_has_come() -> None:
    plane = MediaPlane()
    calls: list[int] = []
    plane.on_busy = lambda: calls.append(len(plane))
    lines = [Line(plane), Line(plane)]
    assert calls == [1]
    for line in lines:
        plane.remove(line.stream)
    Line(plane)
    assert calls == [1, 1]


@CODECS
def test_a_tick_is_four_slots(codec: Codec) -> None:
    ticked, slotted = MediaPlane(), MediaPlane()
    lines = [Line(ticked, codec), Line(slotted, codec)]
    for n in range(50):
        now = 0.02 * n
        for line in lines:
            line.speak(now)
            line.stream.playout.write("", sine(300 + n, 0.02))
        ticked.tick(now)
        for _ in range(PHASES):
            slotted.slot(4 * n + _ + 1, now)
    first, second = lines
    assert np.array_equal(first.heard, second.heard)
    assert [p.payload for p in first.sent] == [p.payload for p in second.sent]

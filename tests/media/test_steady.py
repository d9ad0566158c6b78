"""Packets that go on as those before are looked at together: nothing else comes of it."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bridge.audio.codecs import PCMA, PCMU
from bridge.audio.frames import Pcm
from bridge.media.flood import BURST
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket

SLOT_S = 0.005
ALL, NONE = 1, 1_000_000
STREAMS = 3
STEPS = (
    "lose",
    "late",
    "twice",
    "swap",
    "key",
    "noise",
    "stray",
    "restart",
    "marker",
    "short",
    "long",
    "jump",
    "junk",
    "padded",
    "hold",
    "law",
    "ask",
    "report",
    "stand",
    "burst",
    "drift",
)


SIZES = {"short": 80, "long": 240}
TIMES = {"lose": 0, "twice": 2}


class Sent:
    def send(self, data: bytes) -> None:
        pass

    def send_rtcp(self, data: bytes) -> None:
        pass


class Caller:
    """What one far end sends, the same to every plane."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sequence = self.rng.choice((5, 0xFFF0))
        self.timestamp = self.rng.randrange(1 << 32)
        self.ssrc = seed + 1
        self.late: list[bytes] = []

    def packet(self, *, size: int = 160, payload_type: int = 0, marker: bool = False) -> bytes:
        number, stamp = self.sequence, self.timestamp
        # A pause now and then: only there is some of what waits left out.
        octets = self.rng.randbytes(size) if number % 20 > 3 else b"\xff" * size
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + size) & 0xFFFF_FFFF
        return bytes(RtpPacket(payload_type, marker, number, stamp, self.ssrc, octets))

    def frame(self, step: str) -> Iterator[bytes]:
        """The packets of one frame's time, in the order in which they come."""
        if step == "late":
            self.late.append(self.packet())
            return
        late, self.late = self.late, []
        yield from self._strange(step)
        if step == "noise":
            yield self.packet(size=1, payload_type=13)
            return
        packet = self.packet(size=SIZES.get(step, 160), marker=step == "marker")
        if step == "padded":
            packet = b"\xa0" + packet[1:-4] + b"\x00\x00\x00\x04"
        if step == "swap":
            yield self.packet()
        yield from (packet,) * TIMES.get(step, 1)
        for _ in range(int(BURST) + 20 if step == "burst" else 0):
            yield self.packet()
        yield from late

    def _strange(self, step: str) -> Iterator[bytes]:
        if step == "restart":
            self.ssrc += 1000
        elif step == "jump":
            self.timestamp = (self.timestamp + 987_654) & 0xFFFF_FFFF
        elif step == "stray":
            yield bytes(RtpPacket(0, False, self.sequence, self.timestamp, 77, bytes(160)))
        elif step == "junk":
            yield b"\x00" * 172
        elif step == "key":
            yield self.packet(size=4, payload_type=101)


class Side:
    """A plane with as many streams, and what they heard in which slot."""

    def __init__(self, many: int) -> None:
        self.plane = MediaPlane(many=many)
        self.heard: list[list[tuple[int, bytes]]] = [[] for _ in range(STREAMS)]
        self.samples: list[list[Pcm]] = [[] for _ in range(STREAMS)]
        self.slot = 0
        self.steady = 0
        self.streams = []
        self._coded = b""
        for place in range(STREAMS):
            stream = AudioStream(
                PCMU, payload_type=0, wire=Sent(), cname="a@b", telephone_event=101, ssrc=9
            )
            stream.on_coded = self._keep
            stream.on_frame = lambda pcm, place=place: self._hear(place, pcm)
            self.streams.append(stream)
            self.plane.add(stream)

    def _keep(self, octets: bytes, law: str) -> None:
        self._coded = law.encode() + octets

    def _hear(self, place: int, pcm: Pcm) -> None:
        self.heard[place].append((self.slot, self._coded))
        self.samples[place].append(pcm)

    def run(self, number: int, now: float) -> None:
        self.slot = number
        self.steady += sum(len(stream.waiting) for stream in self.streams)
        self.plane.slot(number, now)

    def state(self) -> list[Any]:
        return [_state_of(stream) for stream in self.streams]


def _state_of(stream: AudioStream) -> list[Any]:
    stats = stream.stats  # which ends what is steady
    inbound = stream.inbound
    jitter = {
        name: value
        for name, value in vars(inbound.jitter).items()
        if name not in ("_duration", "quiet")
    }
    rest = inbound._rest, [*inbound._recent]  # type: ignore[union-attr]
    reception = vars(stream._reception) if stream._reception is not None else None
    cap = stream._cap
    return [stats, jitter, rest, reception, cap.at, stream.arrived, stream.heard]


def _assert_same(together: Side, alone: Side) -> None:
    assert together.heard == alone.heard
    assert together.state() == alone.state()
    for one, other in zip(together.streams, alone.streams, strict=True):
        # As much may be sent at once, but for the packets of one turn.
        assert abs(one._cap.left - other._cap.left) < 10
    for some, others in zip(together.samples, alone.samples, strict=True):
        # A product of other rows may be rounded in another way.
        assert not some or np.abs(np.subtract(some, others, dtype=np.int32)).max() <= 1


def _act(sides: tuple[Side, Side], place: int, step: str, now: float) -> None:
    told: list[object] = []
    for side in sides:
        stream = side.streams[place]
        if step == "hold":
            stream.held = not stream.held
        elif step == "law":
            law = PCMA if stream.codec is PCMU else PCMU
            stream.renegotiate(law, payload_type=8 if law is PCMA else 0, telephone_event=101)
        elif step == "ask":
            told.append(stream.stats)
        elif step == "report":
            told.append(stream.sender_report(0, now)[8:])
    assert len(told) in (0, 2)
    assert not told or told[0] == told[1]


def _run(steps: dict[tuple[int, int], str], frames: int, seed: int) -> tuple[Side, Side]:
    sides = Side(ALL), Side(NONE)
    callers = [Caller(seed + place) for place in range(STREAMS)]
    phases = [random.Random(seed + place).randrange(4) for place in range(STREAMS)]
    number = 0
    for frame in range(frames):
        for quarter in range(4):
            number += 1
            now = 100 + number * SLOT_S
            for place, caller in enumerate(callers):
                if phases[place] % 4 != quarter:
                    continue
                step = steps.get((frame, place), "")
                if step == "drift":
                    phases[place] += 1
                _act(sides, place, step, now)
                for packet in caller.frame(step):
                    for side in sides:
                        side.streams[place].receive_rtp(packet, now)
            if "stand" in (steps.get((frame, place)) for place in range(STREAMS)):
                continue
            for side in sides:
                side.run(number, now)
    return sides


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        st.tuples(st.integers(3, 39), st.integers(0, STREAMS - 1)),
        st.sampled_from(STEPS),
        max_size=25,
    ),
    st.integers(0, 1000),
)
def test_what_is_looked_at_together_is_what_each_would_be(
    steps: dict[tuple[int, int], str], seed: int
) -> None:
    together, alone = _run(steps, 40, seed)
    _assert_same(together, alone)
    assert not alone.steady


@pytest.mark.parametrize("step", STEPS)
def test_each_step_leaves_what_follows_it_steady(step: str) -> None:
    """Also over the time after which the jitter buffer wants less delay."""
    together, alone = _run({(20, 0): step, (30, 0): step}, 400, 3)
    _assert_same(together, alone)
    assert together.steady > 0.9 * 400 * STREAMS


def test_in_time_of_flood_nobody_else_is_touched() -> None:
    together, alone = _run({(frame, 0): "burst" for frame in range(10, 14)}, 40, 5)
    _assert_same(together, alone)
    assert together.streams[0].stats.flooded


def test_few_are_not_kept_waiting() -> None:
    """As many as it pays for went, so each is heard as soon as it comes."""
    side = Side(2)
    caller = [Caller(place) for place in range(STREAMS)]
    for number in range(1, 21):
        now = number * 4 * SLOT_S
        for place, stream in enumerate(side.streams):
            stream.receive_rtp(next(caller[place].frame("")), now)
        side.run(number * 4, now)
    assert side.steady
    woken: list[int] = []
    side.plane.on_heard = lambda: woken.append(1)
    for stream in side.streams[:2]:
        side.plane.remove(stream)
    last = side.streams[2]
    last.receive_rtp(next(caller[2].frame("")), 2.0)
    assert woken == [1]
    assert np.isclose(last.last_received_at or 0, 2.0)


def test_what_waits_as_a_call_ends_is_counted() -> None:
    for many in (ALL, NONE):
        side = Side(many)
        caller = Caller(1)
        for number in range(1, 11):
            side.streams[0].receive_rtp(next(caller.frame("")), number * 0.02)
            side.run(number * 4, number * 0.02)
        side.streams[0].receive_rtp(next(caller.frame("")), 0.3)
        side.plane.remove(side.streams[0])
        assert side.streams[0].stats.packets_received == 11
        side.run(60, 0.31)
        assert len(side.heard[0]) == 10

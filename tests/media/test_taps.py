from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bridge.audio.codecs import OPUS, PCMU, Codec
from bridge.audio.frames import MODEL_FRAME, Pcm
from bridge.audio.g711 import ulaw_encode
from bridge.audio.opus import OpusEncoder
from bridge.audio.tones import sine
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.media.taps import WAIT, Tap
from bridge.rtp.packet import RtpPacket


def frame(value: int) -> Pcm:
    return np.full(MODEL_FRAME, value, np.int16)


@dataclass
class Recorded:
    pairs: list[tuple[Pcm, Pcm]] = field(default_factory=list)

    def take(self, said: Pcm, heard: Pcm) -> None:
        self.pairs.append((said, heard))

    @property
    def values(self) -> list[tuple[int, int]]:
        return [(int(said[0]), int(heard[0])) for said, heard in self.pairs]


def make_tap() -> tuple[Tap, Recorded]:
    recorded = Recorded()
    return Tap(recorded.take), recorded


def test_a_caller_who_has_not_begun_is_silent_at_once() -> None:
    tap, recorded = make_tap()
    tap.hear(frame(1))
    tap.hear(None)
    assert recorded.values == [(0, 1), (0, 0)]
    tap.say(frame(5))
    tap.hear(frame(2))
    assert recorded.values[2:] == [(5, 2)]


def test_a_late_frame_is_waited_for() -> None:
    tap, recorded = make_tap()
    tap.say(frame(1))
    tap.hear(frame(11))
    tap.hear(frame(12))
    tap.hear(frame(13))
    assert recorded.values == [(1, 11)]
    for value in (2, 3, 4):
        tap.say(frame(value))
    tap.hear(frame(14))
    assert recorded.values == [(1, 11), (2, 12), (3, 13), (4, 14)]


def test_after_a_standstill_of_ours_the_caller_heard_nothing_meanwhile() -> None:
    tap, recorded = make_tap()
    tap.say(frame(1))
    tap.hear(frame(1))
    for value in range(2, 52):
        tap.say(frame(value))
    tap.hear(frame(52))
    tap.say(frame(52))
    tap.flush()
    said = [pair[0] for pair in recorded.values]
    assert said[:52] == list(range(1, 53))
    place = [pair[1] for pair in recorded.values].index(52)
    assert 51 - WAIT <= place <= 51


@given(st.lists(st.sampled_from(["say", "hear"]), max_size=200))
def test_nothing_is_lost_or_doubled_and_little_waits(order: list[str]) -> None:
    tap, recorded = make_tap()
    said = heard = 0
    for what in order:
        if what == "say":
            said += 1
            tap.say(frame(said))
        else:
            heard += 1
            tap.hear(frame(heard))
        assert max(said, heard) - len(recorded.pairs) <= WAIT
    tap.flush()
    values = recorded.values
    assert [value for value, _ in values if value] == list(range(1, said + 1))
    assert [value for _, value in values if value] == list(range(1, heard + 1))


class Wire:
    def send(self, data: bytes) -> None:
        pass

    def send_rtcp(self, data: bytes) -> None:
        pass


def spoken(codec: Codec) -> Callable[[Pcm], bytes]:
    if codec is PCMU:
        return lambda pcm: ulaw_encode(pcm[::3]).tobytes()
    return OpusEncoder(24_000).encode


def onset(channel: Pcm) -> float:
    """Seconds until it is loud."""
    return float(np.argmax(np.abs(channel.astype(np.int32)) > 2000)) / 24_000


@pytest.mark.parametrize("codec", [PCMU, OPUS], ids=lambda codec: codec.name)
def test_both_sides_of_a_call_are_in_step(codec: Codec) -> None:
    """The caller falls in 1 s after the model, by the wall clock: the recording has it so, through
    jitter, a packet lost and a hold."""
    tap, recorded = make_tap()
    stream = AudioStream(codec, payload_type=96, wire=Wire(), cname="a@b")
    stream.tap = tap
    plane = MediaPlane()
    plane.add(stream)
    encode = spoken(codec)
    tone = sine(500, 0.02)
    sent: list[tuple[int, bytes]] = []
    for tick in range(200):
        loud = tick >= 100
        payload = encode(tone if loud else np.zeros(MODEL_FRAME, np.int16))
        packet = RtpPacket(96, False, tick, tick * 160, 7, payload)
        if tick != 60:
            # Every fifth packet is a frame late.
            sent.append((tick + (tick % 5 == 0), bytes(packet)))
        if tick == 50:
            stream.playout.write("", sine(400, 1.0))
        stream.held = 20 <= tick < 30
        for due, data in list(sent):
            if due <= tick:
                stream.receive_rtp(data, tick * 0.02)
                sent.remove((due, data))
        plane.tick(tick * 0.02)
    tap.flush()
    said = np.concatenate([pair[0] for pair in recorded.pairs])
    heard = np.concatenate([pair[1] for pair in recorded.pairs])
    assert abs(len(recorded.pairs) - 200) <= WAIT
    assert onset(heard) == pytest.approx(1.0, abs=0.021)
    assert onset(said) == pytest.approx(2.0, abs=0.06)
    stream.close()


def test_a_call_without_a_tap_is_not_touched() -> None:
    stream = AudioStream(PCMU, payload_type=0, wire=Wire(), cname="a@b")
    stream.deliver(frame(1))
    assert stream.next_frame() is None

"""G.711 of the model's on a wire that speaks it too."""

import numpy as np
import pytest

from bridge.audio.codecs import OPUS, PCMA, PCMU, Codec
from bridge.audio.frames import Pcm
from bridge.audio.g711 import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from bridge.audio.levels import rms
from bridge.audio.resample import Resampler
from bridge.audio.tones import sine
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.media.taps import Tap
from bridge.rtp.packet import RtpPacket

LAWS = {"PCMU": (ulaw_decode, ulaw_encode), "PCMA": (alaw_decode, alaw_encode)}
BOTH = pytest.mark.parametrize("codec", [PCMU, PCMA], ids=lambda codec: codec.name)
# Every octet there is, and a rate at which no frame is like the one before.
EVERYTHING = bytes(n * 7 % 256 for n in range(1600))
TONE = sine(450, 1, amplitude=10_000, rate=8000)
STEP = 4500
"""Between two samples of TONE there is less, and in a click from its peak there is more."""


class Call:
    def __init__(self, codec: Codec = PCMU, *, ptime_ms: int = 20) -> None:
        self.packets: list[RtpPacket] = []
        self.plane = MediaPlane()
        self.stream = AudioStream(codec, payload_type=0, wire=self, cname="a@b", ptime_ms=ptime_ms)
        self.playout = self.stream.playout
        self.plane.add(self.stream)
        self.decode, self.encode = LAWS.get(codec.name, LAWS["PCMU"])
        self.law = codec.name
        self._up = Resampler(8000, 24_000)
        self._now = 0.0

    def send(self, data: bytes) -> None:
        self.packets.append(RtpPacket.parse(data))

    def send_rtcp(self, data: bytes) -> None:
        pass

    def write(self, octets: bytes, *, key: str = "a", law: str = "") -> None:
        law = law or self.law
        pcm = self._up.process(LAWS[law][0](np.frombuffer(octets, np.uint8)))
        self.playout.write(key, pcm, (octets, law))

    def say(self, pcm: Pcm, *, key: str = "a") -> None:
        self.write(self.encode(pcm).tobytes(), key=key)

    def run(self, ticks: int) -> bytes:
        """What those carried."""
        before = len(self.packets)
        for _ in range(ticks):
            self._now += 0.02
            self.plane.tick(self._now)
        return b"".join(packet.payload for packet in self.packets[before:])

    def heard(self, octets: bytes) -> Pcm:
        return self.decode(np.frombuffer(octets, np.uint8))


def steps(pcm: Pcm) -> int:
    return int(np.abs(np.diff(pcm.astype(int))).max())


@BOTH
@pytest.mark.parametrize("piece", [160, 80, 411, 1600])
def test_every_octet_is_the_models(codec: Codec, piece: int) -> None:
    call = Call(codec)
    call.run(3)
    for begin in range(0, len(EVERYTHING), piece):
        call.write(EVERYTHING[begin : begin + piece])
    call.playout.finish("a")
    assert call.run(10) == EVERYTHING
    assert call.playout.played_ms("a") == 200
    assert call.playout.idle


def test_packets_of_another_length_carry_the_same() -> None:
    call = Call(ptime_ms=30)
    call.write(EVERYTHING[:1440])
    call.playout.finish("a")
    assert EVERYTHING[:1440] in call.run(12)


def test_one_key_after_another_is_one_stream_of_octets() -> None:
    call = Call()
    call.write(EVERYTHING[:250], key="a")
    call.playout.finish("a")
    call.write(EVERYTHING[250:800], key="b")
    call.playout.finish("b")
    assert call.run(5) == EVERYTHING[:800]


@pytest.mark.parametrize("codec", [PCMA, OPUS], ids=lambda codec: codec.name)
def test_on_a_wire_of_another_kind_it_is_coded_anew(codec: Codec) -> None:
    call = Call(codec)
    call.write(ulaw_encode(TONE).tobytes(), law="PCMU")
    sent = call.run(20)
    assert call.playout.played_ms("a") == 400
    if codec is PCMA:
        said = alaw_decode(np.frombuffer(sent, np.uint8))
        assert rms(said[800:]) == pytest.approx(rms(TONE), rel=0.1)


def test_what_is_cut_dies_away_in_its_own_law() -> None:
    call = Call(PCMA)
    call.write(ulaw_encode(TONE[:250]).tobytes(), key="a", law="PCMU")
    call.playout.finish("a")
    call.say(TONE, key="b")
    call.run(6)
    call.playout.clear()
    tail = call.heard(call.run(1))
    assert 0 < np.abs(tail[:20]).max() < 10_500
    assert steps(tail) < STEP
    assert not np.abs(tail[40:]).max() > 8


@BOTH
def test_the_end_and_a_cut_die_away(codec: Codec) -> None:
    call = Call(codec)
    call.say(TONE[:1005])
    call.playout.finish("a")
    ended = call.heard(call.run(10))
    assert np.array_equal(ended[:1005], call.heard(call.encode(TONE[:1005]).tobytes()))
    assert steps(ended) < STEP
    assert not np.abs(ended[1050:]).max() > 8

    call.say(TONE, key="b")
    spoken = call.run(5)
    (cut,) = call.playout.clear()
    assert (cut.key, cut.played_ms) == ("b", 100)
    silent: list[int] = []
    call.playout.when_silent(lambda: silent.append(len(call.packets)))
    rest = call.run(3)
    assert steps(call.heard(spoken + rest)) < STEP
    assert not np.abs(call.heard(rest)[40:]).max() > 8
    # Told with the first packet that holds nothing of it.
    assert silent == [len(call.packets) - 2]


def test_what_was_missing_comes_up_again() -> None:
    call = Call()
    call.say(TONE[:830])
    first = call.run(8)
    call.say(TONE[830:])
    heard = call.heard(first + call.run(20))
    assert call.playout.stats.underruns == 1
    assert steps(heard) < STEP


def test_a_pause_is_heard_as_one() -> None:
    call = Call()
    call.say(TONE)
    first = call.run(4)
    call.playout.paused = True
    rest = call.run(3)
    call.playout.paused = False
    heard = call.heard(first + rest + call.run(4))
    assert steps(heard) < STEP
    assert not np.abs(heard[160 * 5 : 160 * 7]).max() > 8
    assert call.playout.played_ms("a") == 160


def test_sound_of_our_own_follows_it() -> None:
    call = Call()
    call.say(TONE[:480])
    call.playout.finish("a")
    call.run(4)
    tone = sine(450, 0.2, amplitude=10_000)
    call.playout.write("b", tone)
    call.playout.finish("b")
    pcm = call.heard(call.run(12))
    assert rms(pcm[:1600]) == pytest.approx(rms(tone), rel=0.1)
    # And it again: nothing of the other is left in between.
    call.write(EVERYTHING[:320], key="c")
    call.playout.finish("c")
    assert call.run(2) == EVERYTHING[:320]
    assert call.run(2)[40:] == bytes([0xFF]) * 280


def test_another_law_in_mid_call_ends_it() -> None:
    call = Call()
    call.say(TONE)
    call.run(5)
    call.stream.renegotiate(PCMA, payload_type=8)
    heard = alaw_decode(np.frombuffer(call.run(10), np.uint8))
    assert rms(heard[320:]) == pytest.approx(rms(TONE), rel=0.1)


def test_both_sides_are_recorded_as_before() -> None:
    call = Call()
    pairs: list[Pcm] = []
    call.stream.tap = Tap(lambda _, heard: pairs.append(heard))
    call.say(TONE)
    call.run(20)
    recorded = np.concatenate(pairs)[960:]
    assert rms(recorded) == pytest.approx(rms(TONE), rel=0.1)

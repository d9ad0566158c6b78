"""A call that goes on with another codec or payload type."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from bridge.audio.codecs import OPUS, PCMA, PCMU, Codec
from bridge.audio.frames import Pcm
from bridge.audio.g711 import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from bridge.audio.levels import rms
from bridge.audio.opus import OpusDecoder, OpusEncoder
from bridge.audio.tones import sine
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import SenderReport, parse_compound

TYPES = {"PCMU": 0, "PCMA": 8, "opus": 111}
TONE = sine(440, 4)


@dataclass
class Wire:
    rtp: list[RtpPacket] = field(default_factory=list)
    rtcp: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.rtp.append(RtpPacket.parse(data))

    def send_rtcp(self, data: bytes) -> None:
        self.rtcp.append(data)


@dataclass
class Call:
    stream: AudioStream
    wire: Wire
    plane: MediaPlane = field(default_factory=MediaPlane)
    heard: list[Pcm] = field(default_factory=list)
    tick: int = 0
    encoder: OpusEncoder = field(default_factory=OpusEncoder)

    def run(self, ticks: int, codec: Codec | None = None) -> None:
        """The caller sends a tone in `codec`."""
        for _ in range(ticks):
            if codec is not None:
                self.stream.receive_rtp(bytes(self.packet(codec)), self.tick * 0.02)
            self.plane.tick(self.tick * 0.02)
            self.tick += 1

    def packet(self, codec: Codec) -> RtpPacket:
        rate = codec.sample_rate
        frame = sine(440, 0.02, rate=rate)
        if codec is OPUS:
            payload = self.encoder.encode(frame)
        else:
            payload = (alaw_encode if codec is PCMA else ulaw_encode)(frame).tobytes()
        step = codec.clock_rate // 50
        ssrc = 5 if codec is not OPUS else 6
        number = TYPES[codec.name]
        return RtpPacket(number, False, self.tick, self.tick * step, ssrc, payload)

    def take(self, codec: Codec, payload_type: int | None = None) -> None:
        self.stream.renegotiate(
            codec,
            payload_type=TYPES[codec.name] if payload_type is None else payload_type,
            telephone_event=101,
        )


def make_call(codec: Codec) -> Call:
    wire = Wire()
    stream = AudioStream(
        codec, payload_type=TYPES[codec.name], wire=wire, cname="a@b", telephone_event=101
    )
    call = Call(stream, wire)
    stream.on_frame = call.heard.append
    call.plane.add(stream)
    return call


def decoded(packets: list[RtpPacket]) -> Pcm:
    if packets[0].payload_type == 111:
        decoder = OpusDecoder()
        return np.concatenate([decoder.decode(packet.payload) for packet in packets])
    decode = ulaw_decode if packets[0].payload_type == 0 else alaw_decode
    return decode(np.frombuffer(b"".join(p.payload for p in packets), np.uint8))


PAIRS = [(a, b) for a in (PCMU, PCMA, OPUS) for b in (PCMU, PCMA, OPUS) if a is not b]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_speech_goes_on(before: Codec, after: Codec) -> None:
    call = make_call(before)
    call.stream.playout.write("item", TONE)
    call.run(50)
    call.take(after)
    call.run(50)
    assert call.stream.playout.played_ms("item") == 2000
    first, second = call.wire.rtp[:50], call.wire.rtp[50:]
    assert {packet.payload_type & 0x7F for packet in second} == {TYPES[after.name]}
    assert len(second) == 50
    for packets in (first, second):
        sound = decoded(packets)
        assert rms(sound[len(sound) // 5 :]) == pytest.approx(rms(TONE), rel=0.15)
    if before.clock_rate == after.clock_rate:
        assert second[0].ssrc == first[0].ssrc
        assert second[0].sequence_number == first[-1].sequence_number + 1
        assert (second[0].timestamp - first[-1].timestamp) & 0xFFFF_FFFF == 160
    else:
        assert second[0].ssrc != first[0].ssrc
        assert second[0].ssrc == call.stream.ssrc
    steps = {b.sequence_number - a.sequence_number for a, b in pairwise(second)}
    assert steps == {1}


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_the_caller_goes_on(before: Codec, after: Codec) -> None:
    call = make_call(before)
    call.run(50, before)
    call.take(after)
    call.run(50, after)
    levels = [rms(frame) for frame in call.heard]
    assert len(levels) >= 98
    assert all(level == pytest.approx(rms(TONE), rel=0.2) for level in levels[60:])
    assert max(levels) < 1.3 * rms(TONE)
    assert call.stream.stats.packets_received == 100
    assert call.stream.stats.bad_packets == 0


def test_packets_of_the_former_law_are_still_read() -> None:
    call = make_call(PCMU)
    call.run(50, PCMU)
    call.stream.receive_rtp(bytes(call.packet(PCMU)), call.tick * 0.02)
    call.take(PCMA)
    call.tick += 1
    call.run(10, PCMU)
    call.run(50, PCMA)
    levels = [rms(frame) for frame in call.heard[5:]]
    assert len(levels) >= 104
    assert all(level == pytest.approx(rms(TONE), rel=0.1) for level in levels)
    assert call.stream.stats.concealed == 0
    assert call.stream.stats.packets_lost == 0


def test_another_payload_type_of_the_same_codec() -> None:
    call = make_call(OPUS)
    call.run(10)
    call.take(OPUS, 96)
    call.run(10)
    assert [packet.payload_type for packet in call.wire.rtp] == [111] * 10 + [96] * 10
    assert len({packet.ssrc for packet in call.wire.rtp}) == 1
    call = make_call(PCMA)
    call.take(PCMA, 97)
    call.run(1)
    assert call.wire.rtp[0].payload_type == 97


def test_counts_go_on() -> None:
    call = make_call(PCMU)
    call.run(20, PCMU)
    call.run(20)
    concealed = call.stream.stats.concealed
    assert concealed
    call.take(OPUS)
    call.run(20, OPUS)
    assert call.stream.stats.concealed >= concealed
    assert call.stream.stats.packets_received == 40
    assert call.stream.packets_sent == 60


def test_reports_go_on_for_the_new_source() -> None:
    call = make_call(PCMU)
    call.run(200)
    call.take(OPUS)
    call.run(300)
    reports = [
        packet
        for data in call.wire.rtcp
        for packet in parse_compound(data)
        if isinstance(packet, SenderReport)
    ]
    assert len(reports) == 2
    assert reports[0].ssrc != reports[1].ssrc == call.stream.ssrc


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_change_within_a_tick(before: Codec, after: Codec) -> None:
    call = make_call(before)

    def change(_: Pcm) -> None:
        call.stream.on_frame = call.heard.append
        call.take(after)

    call.stream.on_frame = change
    call.run(5, before)
    call.run(20, after)
    assert len(call.wire.rtp) == 25
    assert call.wire.rtp[-1].payload_type == TYPES[after.name]
    assert len(call.plane) == 1


def test_a_change_after_the_end() -> None:
    call = make_call(PCMU)
    call.run(2)
    call.plane.remove(call.stream)
    call.take(OPUS)
    call.run(2)
    assert len(call.wire.rtp) == 2
    assert len(call.plane) == 0

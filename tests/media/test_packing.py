from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from bridge.audio.codecs import PCMA, PCMU
from bridge.audio.g711 import ulaw_decode
from bridge.audio.levels import rms
from bridge.audio.tones import sine
from bridge.media.packing import Packing
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket

TONE = sine(440, 4)


@dataclass
class Wire:
    rtp: list[RtpPacket] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.rtp.append(RtpPacket.parse(data))

    def send_rtcp(self, data: bytes) -> None:
        """Not looked at."""


def make_stream(ptime_ms: int) -> tuple[MediaPlane, AudioStream, Wire]:
    wire, plane = Wire(), MediaPlane()
    stream = AudioStream(
        PCMU, payload_type=0, wire=wire, cname="a@b", telephone_event=101, ptime_ms=ptime_ms
    )
    plane.add(stream)
    return plane, stream, wire


def run(plane: MediaPlane, ticks: int) -> None:
    for tick in range(ticks):
        plane.tick(tick * 0.02)


def check_order(packets: list[RtpPacket]) -> None:
    for one, two in pairwise(packets):
        assert (two.sequence_number - one.sequence_number) & 0xFFFF == 1
        if one.payload_type == two.payload_type == 0:
            assert (two.timestamp - one.timestamp) & 0xFFFF_FFFF >= len(one.payload)


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
def test_packets_of_the_length_asked_for(ptime_ms: int) -> None:
    plane, stream, wire = make_stream(ptime_ms)
    stream.playout.write("", TONE)
    run(plane, 120)
    packets = wire.rtp
    assert {len(packet.payload) for packet in packets} == {ptime_ms * 8}
    assert len(packets) == 2400 // ptime_ms
    assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)
    steps = {(b.timestamp - a.timestamp) & 0xFFFF_FFFF for a, b in pairwise(packets)}
    assert steps == {ptime_ms * 8}
    check_order(packets)
    sound = ulaw_decode(np.frombuffer(b"".join(p.payload for p in packets), np.uint8))
    assert rms(sound[800:]) == pytest.approx(rms(TONE), rel=0.05)
    assert stream.packets_sent == len(packets)
    assert stream.octets_sent == 120 * 160


@pytest.mark.parametrize("ptime_ms", [10, 30, 40, 60])
def test_keys_between_packets(ptime_ms: int) -> None:
    plane, stream, wire = make_stream(ptime_ms)
    stream.playout.write("", TONE)
    run(plane, 7)
    stream.send_digits("12")
    run(plane, 40)
    events = [packet for packet in wire.rtp if packet.payload_type == 101]
    assert len(events) == 14
    assert sum(packet.marker for packet in events) == 2
    check_order(wire.rtp)


def test_the_length_changes_in_a_call() -> None:
    plane, stream, wire = make_stream(20)
    stream.playout.write("", TONE)
    for ptime_ms in (60, 10, 20, 40, 40):
        run(plane, 13)
        stream.renegotiate(PCMU, payload_type=0, telephone_event=101, ptime_ms=ptime_ms)
    run(plane, 12)
    check_order(wire.rtp)
    assert len(wire.rtp[-1].payload) == 320
    stream.renegotiate(PCMA, payload_type=8, ptime_ms=40)
    run(plane, 4)
    assert [packet.payload_type for packet in wire.rtp[-2:]] == [8, 8]
    plane.remove(stream)
    run(plane, 1)


def test_a_talk_spurt_starts_a_packet() -> None:
    packing = Packing(320, 9)
    assert packing.add(0, 1000, 7, b"a" * 160) == []
    packets = [RtpPacket.parse(each) for each in packing.add(0x80, 1160, 7, b"b" * 160)]
    assert packets == [RtpPacket(0, False, 10, 1000, 7, b"a" * 160)]
    packets = [RtpPacket.parse(each) for each in packing.add(0, 1320, 7, b"c" * 160)]
    assert packets == [RtpPacket(0, True, 11, 1160, 7, b"b" * 160 + b"c" * 160)]
    assert packing.flush() == []

from dataclasses import dataclass, field

import numpy as np
import pytest

from bridge.audio.codecs import OPUS, PCMA, PCMU, Codec
from bridge.audio.frames import MODEL_FRAME
from bridge.audio.g711 import ulaw_decode
from bridge.audio.tones import sine
from bridge.media.comfort import ComfortNoise
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket


@dataclass
class Wire:
    sent: list[RtpPacket] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.sent.append(RtpPacket.parse(data))

    def send_rtcp(self, data: bytes) -> None:
        pass


def call(codec: Codec, plane: MediaPlane) -> tuple[AudioStream, Wire]:
    wire = Wire()
    stream = AudioStream(codec, payload_type=96, wire=wire, cname="a@b")
    plane.add(stream)
    return stream, wire


@pytest.mark.parametrize("level", [-50.0, -65.0])
def test_it_is_as_loud_as_was_asked_for_and_never_the_same(level: float) -> None:
    noise = ComfortNoise(level)
    frames = np.stack([noise.frame() for _ in range(250)]).astype(np.float64)
    assert frames.shape == (250, MODEL_FRAME)
    rms = 20 * np.log10(np.sqrt(np.mean(frames**2)) / 32768)
    assert rms == pytest.approx(level, abs=0.3)
    assert len(np.unique(frames, axis=0)) == 250


def test_it_is_not_louder_than_full_scale() -> None:
    with pytest.raises(ValueError, match="quieter"):
        ComfortNoise(0)


@pytest.mark.parametrize("codec", [PCMU, PCMA, OPUS], ids=lambda codec: codec.name)
def test_a_gap_is_filled_with_it(codec: Codec) -> None:
    plane, quiet = MediaPlane(comfort=ComfortNoise(-60)), MediaPlane()
    stream, wire = call(codec, plane)
    _, other = call(codec, quiet)
    for tick in range(30):
        plane.tick(tick * 0.02)
        quiet.tick(tick * 0.02)
    assert len({packet.payload for packet in wire.sent}) > 20
    assert len({packet.payload for packet in other.sent[20:]}) == 1
    stream.held = True
    for tick in range(30, 50):
        plane.tick(tick * 0.02)
    assert len({packet.payload for packet in wire.sent[-5:]}) == 1
    stream.close()


def test_speech_goes_on_as_without_it() -> None:
    plane, quiet = MediaPlane(comfort=ComfortNoise(-60)), MediaPlane()
    stream, wire = call(PCMU, plane)
    alone, other = call(PCMU, quiet)
    stream.playout.write("", sine(430, 0.4))
    alone.playout.write("", sine(430, 0.4))
    for tick in range(20):
        plane.tick(tick * 0.02)
        quiet.tick(tick * 0.02)
    assert [packet.payload for packet in wire.sent] == [packet.payload for packet in other.sent]
    plane.tick(0.4)
    plane.tick(0.42)
    assert ulaw_decode(np.frombuffer(wire.sent[-1].payload, np.uint8)).any()

"""After a cut: what the playout says of the last packet with old sound, held against packets."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from bridge.audio.codecs import G722, OPUS, PCMA, PCMU, Codec
from bridge.audio.g711 import alaw_decode, ulaw_decode
from bridge.audio.g722 import G722Decoder
from bridge.audio.opus import OpusDecoder
from bridge.audio.tones import sine
from bridge.media.fades import AUDIBLE
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket


@dataclass
class Wire:
    sent: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def send_rtcp(self, data: bytes) -> None:
        pass


def loudness(codec: Codec, packets: list[bytes]) -> list[int]:
    """Of each packet, as the far end decodes it."""
    payloads = [RtpPacket.parse(packet).payload for packet in packets]
    if codec in (PCMU, PCMA):
        decode = ulaw_decode if codec is PCMU else alaw_decode
        frames = [decode(np.frombuffer(payload, np.uint8)) for payload in payloads]
    elif codec is G722:
        g722 = G722Decoder()
        frames = [g722.decode(payload) for payload in payloads]
    else:
        opus = OpusDecoder()
        frames = [opus.decode(payload) for payload in payloads]
    return [int(np.abs(frame.astype(np.int32)).max()) for frame in frames]


@pytest.mark.parametrize("codec", [PCMU, PCMA, G722, OPUS], ids=lambda codec: codec.name)
@pytest.mark.parametrize("ticks", range(5, 12))
def test_no_packet_after_it_has_old_sound(codec: Codec, ticks: int) -> None:
    wire = Wire()
    stream = AudioStream(codec, payload_type=96, wire=wire, cname="a@b")
    plane = MediaPlane()
    plane.add(stream)
    stream.playout.write("item", sine(430, 2.0))
    for tick in range(ticks):
        plane.tick(tick * 0.02)
    stream.playout.clear()
    told: list[int] = []
    stream.playout.when_silent(lambda: told.append(len(wire.sent)))
    for tick in range(ticks, ticks + 20):
        plane.tick(tick * 0.02)
    # The read comes before its packet: `told` is the place of the last with old sound.
    (last,) = told
    assert last - ticks <= 1
    assert max(loudness(codec, wire.sent)[:ticks]) > 4000
    assert max(loudness(codec, wire.sent)[last + 1 :]) < AUDIBLE
    stream.close()

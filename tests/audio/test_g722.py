import av
import numpy as np
import pytest

from bridge.audio.frames import Pcm
from bridge.audio.g722 import G722Decoder, G722Encoder
from bridge.audio.levels import rms
from bridge.audio.tones import sine

TONES = sine((440, 5200), 1.0, rate=16_000)


def level_at(pcm: Pcm, hertz: float) -> float:
    return float(np.abs(np.dot(pcm, np.exp(-2j * np.pi * hertz * np.arange(len(pcm)) / 16_000))))


def test_wideband_survives() -> None:
    encoder, decoder = G722Encoder(), G722Decoder()
    packets = [encoder.encode(TONES[at : at + 320]) for at in range(0, 16_000, 320)]
    assert {len(packet) for packet in packets} == {160}
    out = np.concatenate([decoder.decode(packet) for packet in packets])
    assert len(out) == len(TONES)
    for hertz in (440, 5200):
        assert level_at(out, hertz) == pytest.approx(level_at(TONES, hertz), rel=0.15)


def test_ffmpeg_hears_the_same() -> None:
    encoder, decoder = G722Encoder(), G722Decoder()
    other = av.CodecContext.create("g722", "r")
    other.sample_rate, other.layout = 16_000, "mono"
    packet = encoder.encode(TONES)
    theirs = [frame.to_ndarray().ravel() for frame in other.decode(av.Packet(packet))]
    assert np.abs(np.concatenate(theirs).astype(int) - decoder.decode(packet)).max() <= 1


def test_chunks_change_nothing() -> None:
    whole = G722Encoder().encode(TONES)
    encoder = G722Encoder()
    assert b"".join(encoder.encode(TONES[at : at + 160]) for at in range(0, 16_000, 160)) == whole
    decoder = G722Decoder()
    parts = np.concatenate([decoder.decode(whole[at : at + 80]) for at in range(0, 8000, 80)])
    assert (parts == G722Decoder().decode(whole)).all()


def test_silence_is_silent_after_speech() -> None:
    encoder, decoder = G722Encoder(), G722Decoder()
    decoder.decode(encoder.encode(TONES))
    assert rms(decoder.decode(encoder.encode(np.zeros(3200, np.int16)))[-320:]) < 10


def test_nothing_is_nothing() -> None:
    assert len(G722Decoder().decode(b"")) == 0

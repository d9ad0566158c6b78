from collections.abc import Callable

import numpy as np
import pytest

from bridge.audio.codecs import G722, OPUS, PCMA, PCMU, Codec
from bridge.audio.frames import Pcm
from bridge.audio.g711 import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from bridge.audio.g722 import G722Encoder
from bridge.audio.levels import rms
from bridge.audio.opus import OpusEncoder
from bridge.audio.resample import ResamplerBank
from bridge.audio.tones import sine
from bridge.media.inbound import MAX_OCTETS, G711Inbound, OpusInbound, inbound_for
from bridge.rtp.packet import RtpPacket

TONE_8K = sine(400, 4, rate=8000)
TONE_16K = sine(400, 4, rate=16_000)
TONE_24K = sine(400, 4)


STEEPEST = int(np.abs(np.diff(TONE_24K.astype(int))).max())


class Line:
    """A sender of an endless tone, 20 ms a packet, and whoever hears it at 24 kHz."""

    def __init__(self, codec: Codec) -> None:
        self.inbound = inbound_for(codec)
        self.most_delay_ms = 0.0
        self._sound = _sender(codec)
        self._law = alaw_decode if codec is PCMA else ulaw_decode
        self._bank = ResamplerBank(8000, 24_000, 1)
        self._row = np.zeros(1, np.intp)
        self._payloads: list[bytes] = []
        self._now = 0.0

    def tick(self, *numbers: int) -> list[Pcm]:
        for number in numbers:
            while len(self._payloads) <= number:
                self._payloads.append(self._sound(len(self._payloads)))
            self.inbound.jitter.push(packet(number & 0xFFFF, self._payloads[number]))
        frames = [self._linear(frame) for frame in self.inbound.pull(self._now)]
        self._now += 0.02
        return frames

    def standstill(self, seconds: float) -> None:
        self._now += seconds

    def drifting(self, *, seconds: int, ppm: int) -> Pcm:
        sent = 0
        heard: list[Pcm] = []
        for tick in range(seconds * 50):
            due = []
            while sent * 20 / (1 + ppm * 1e-6) <= tick * 20:
                due.append(sent)
                sent += 1
            heard += self.tick(*due)
            self.most_delay_ms = max(self.most_delay_ms, self.inbound.jitter.delay_ms)
        return np.concatenate(heard)

    def _linear(self, frame: bytes | Pcm) -> Pcm:
        if not isinstance(frame, bytes):
            return frame
        pcm = self._law(np.frombuffer(frame, np.uint8))
        return self._bank.process(self._row, pcm.reshape(1, -1)).reshape(-1)


def _sender(codec: Codec) -> Callable[[int], bytes]:
    tone = {8000: TONE_8K, 16_000: TONE_16K, 24_000: TONE_24K}[codec.sample_rate]
    size = codec.sample_rate // 50
    encode: Callable[[Pcm], bytes] = OpusEncoder().encode if codec is OPUS else G722Encoder().encode
    if codec in (PCMU, PCMA):
        law = alaw_encode if codec is PCMA else ulaw_encode

        def encode(pcm: Pcm) -> bytes:
            return law(pcm).tobytes()

    return lambda number: encode(tone[number * size % len(tone) :][:size])


def packet(sequence: int, payload: bytes) -> RtpPacket:
    return RtpPacket(0, False, sequence, 0, 1, payload)


def tone_octets(codec: Codec, start: int, samples: int) -> bytes:
    encode = alaw_encode if codec is PCMA else ulaw_encode
    return encode(TONE_8K[start : start + samples]).tobytes()


@pytest.mark.parametrize("codec", [PCMU, PCMA])
@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
def test_g711_of_any_ptime_comes_in_whole_frames(codec: Codec, ptime_ms: int) -> None:
    inbound = inbound_for(codec)
    assert isinstance(inbound, G711Inbound)
    samples = 8 * ptime_ms
    frames: list[bytes] = []
    sent = 0
    for tick in range(100):
        while sent * ptime_ms < (tick + 1) * 20:
            inbound.jitter.push(packet(sent, tone_octets(codec, sent * samples, samples)))
            sent += 1
        frames += inbound.pull(tick * 0.02)
    assert {len(frame) for frame in frames} == {160}
    assert b"".join(frames) == tone_octets(codec, 0, 160 * len(frames))
    assert len(frames) >= 99
    assert inbound.concealed == 0


@pytest.mark.parametrize("codec", [PCMU, PCMA, G722])
def test_a_lost_frame_goes_on_as_before_and_fades(codec: Codec) -> None:
    line = Line(codec)
    heard = [line.tick(number) for number in range(10)]
    heard += [line.tick() for _ in range(10)]
    levels = [rms(frame) for frames in heard for frame in frames]
    speech, *faded = levels[9:]
    assert speech == pytest.approx(rms(TONE_24K), rel=0.1)
    assert speech > faded[1] > faded[2] > faded[4]
    assert faded[1] > speech * 0.6
    assert max(faded[5:]) < 10
    assert line.inbound.concealed == 10


@pytest.mark.parametrize("codec", [PCMU, PCMA, G722, OPUS])
def test_a_lost_frame_of_a_tone_is_hardly_missed(codec: Codec) -> None:
    line = Line(codec)
    heard = [line.tick(number) for number in range(50) if number not in (20, 30, 31, 40)]
    pcm = np.concatenate([frame for frames in heard for frame in frames])
    assert line.inbound.jitter.stats.lost == 4
    # No step steeper than those of the tone.
    settled = pcm[4800:].astype(int)
    assert np.abs(np.diff(settled)).max() <= 1.3 * np.abs(np.diff(TONE_24K.astype(int))).max()
    assert rms(pcm[4800:]) == pytest.approx(rms(TONE_24K), rel=0.1)


@pytest.mark.parametrize("codec", [PCMU, G722, OPUS])
@pytest.mark.parametrize("ppm", [200, -200])
def test_drift_leaves_no_delay_and_no_click(codec: Codec, ppm: int) -> None:
    """Of 200 ppm: three minutes at twenty times that."""
    line = Line(codec)
    pcm = line.drifting(seconds=180, ppm=20 * ppm)
    assert line.most_delay_ms <= 20
    assert len(pcm) / 24_000 == pytest.approx(180, abs=0.1)
    assert np.abs(np.diff(pcm[4800:].astype(int))).max() <= 1.5 * STEEPEST
    assert (line.inbound.jitter.stats.merged > 0) == (ppm > 0)


@pytest.mark.parametrize("codec", [PCMU, G722, OPUS])
def test_a_second_lost_while_our_clock_stood_still_is_made_up(codec: Codec) -> None:
    """A machine that is too busy, whose socket has overflowed."""
    line = Line(codec)
    heard = [line.tick(number) for number in range(10)]
    line.standstill(1.2)
    heard += [line.tick(*range(60, 71))]
    heard += [line.tick(number) for number in range(71, 90)]
    pcm = np.concatenate([frame for frames in heard for frame in frames])
    assert line.inbound.jitter.stats.lost == 50
    assert len(pcm) / 24_000 == pytest.approx(1.8, abs=0.05)
    assert rms(pcm[4800:6000]) > rms(TONE_24K) / 3
    assert rms(pcm[12_000:24_000]) < 10
    assert rms(pcm[-4800:]) == pytest.approx(rms(TONE_24K), rel=0.1)


def test_after_a_key_press_silence_and_not_an_echo_of_speech() -> None:
    inbound = G711Inbound(PCMU)
    inbound.jitter.push(packet(0, tone_octets(PCMU, 0, 160)))
    frames = inbound.pull(0.0)
    inbound.jitter.skip(packet(1, b""))
    for tick in range(1, 10):
        frames += inbound.pull(tick * 0.02)
    assert len(frames) > 5
    assert set(frames[1:]) == {inbound.silence}


def test_oversized_payloads_are_no_audio() -> None:
    inbound = G711Inbound(PCMU)
    inbound.jitter.push(packet(0, bytes(MAX_OCTETS + 1)))
    assert inbound.pull(0.0) == []


def test_quiet_g711_is_known() -> None:
    inbound = G711Inbound(PCMU)
    assert inbound._is_quiet(inbound.silence)
    assert not inbound._is_quiet(tone_octets(PCMU, 0, 160))
    inbound.close()


def heard_opus(inbound: OpusInbound, frame_ms: int, lost: frozenset[int]) -> Pcm:
    encoder = OpusEncoder(application="voip")
    samples = 24 * frame_ms
    frames = []
    sent = 0
    for tick in range(100):
        while sent * frame_ms < (tick + 1) * 20:
            payload = encoder.encode(TONE_24K[sent * samples : (sent + 1) * samples])
            if sent not in lost:
                inbound.jitter.push(packet(sent, payload))
            sent += 1
        frames += inbound.pull(tick * 0.02)
    assert {frame.shape for frame in frames} == {(480,)}
    return np.concatenate(frames)


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
def test_opus_of_any_frame_size_comes_in_whole_frames(frame_ms: int) -> None:
    inbound = inbound_for(OPUS)
    assert isinstance(inbound, OpusInbound)
    pcm = heard_opus(inbound, frame_ms, frozenset())
    assert len(pcm) >= 480 * 98
    assert rms(pcm[4800:]) == pytest.approx(rms(TONE_24K), rel=0.1)
    inbound.close()


@pytest.mark.parametrize("codec", [PCMU, PCMA], ids=lambda codec: codec.name)
def test_a_standstill_is_concealed_until_it_has_faded(codec: Codec) -> None:
    line = Line(codec)
    for number in range(10):
        line.tick(number)
    gap = np.concatenate([frame for _ in range(20) for frame in line.tick()])
    assert rms(gap[:480]) > 1000
    assert np.abs(gap[-480 * 8 :]).max() <= 8  # no octet of A-law is zero
    line.tick(30)
    assert rms(np.concatenate(line.tick(31))) == pytest.approx(rms(TONE_24K), rel=0.05)


def test_lost_opus_is_concealed_in_place() -> None:
    inbound = OpusInbound()
    pcm = heard_opus(inbound, 20, frozenset({30, 50, 51}))
    assert len(pcm) >= 480 * 98
    assert inbound.jitter.stats.lost == 3
    assert rms(pcm[30 * 480 : 31 * 480]) > rms(TONE_24K) / 3


def test_a_long_gap_of_opus_ends_in_zeros() -> None:
    inbound = OpusInbound()
    inbound.jitter.push(packet(0, OpusEncoder().encode(TONE_24K[:480])))
    frames = [frame for tick in range(20) for frame in inbound.pull(tick * 0.02)]
    assert len(frames) >= 18
    assert not np.concatenate(frames[-8:]).any()


def test_broken_opus_is_concealed() -> None:
    inbound = OpusInbound()
    good = OpusEncoder().encode(TONE_24K[:480])
    inbound.jitter.push(packet(0, good))
    # Two frames of equal size need an even number of octets (RFC 6716 section 3.2.3).
    inbound.jitter.push(packet(1, bytes((good[0] & 0xFC | 1, 1, 2, 3))))
    frames = [frame for tick in range(4) for frame in inbound.pull(tick * 0.02)]
    assert len(frames) >= 2
    assert inbound.concealed >= 1


def test_a_codec_nobody_reads_is_refused() -> None:
    with pytest.raises(ValueError, match="G729"):
        inbound_for(Codec("G729", 16_000, 16_000, 1, 18))

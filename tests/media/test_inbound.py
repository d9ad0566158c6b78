import numpy as np
import pytest

from bridge.audio.codecs import OPUS, PCMA, PCMU, Codec
from bridge.audio.frames import Pcm
from bridge.audio.g711 import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from bridge.audio.levels import rms
from bridge.audio.opus import OpusEncoder
from bridge.audio.tones import sine
from bridge.media.inbound import MAX_OCTETS, G711Inbound, OpusInbound, inbound_for
from bridge.rtp.packet import RtpPacket

TONE_8K = sine(400, 4, rate=8000)
TONE_24K = sine(400, 4)


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


@pytest.mark.parametrize("codec", [PCMU, PCMA])
def test_a_lost_frame_repeats_the_last_and_fades(codec: Codec) -> None:
    inbound = G711Inbound(codec)
    decode = alaw_decode if codec is PCMA else ulaw_decode
    inbound.jitter.push(packet(0, tone_octets(codec, 0, 160)))
    frames = [frame for tick in range(8) for frame in inbound.pull(tick * 0.02)]
    levels = [rms(decode(np.frombuffer(frame, np.uint8))) for frame in frames]
    speech, *faded = levels
    assert speech > faded[0] > faded[1] > faded[2]
    assert faded[0] > speech / 2
    assert set(faded[3:]) == {rms(decode(np.frombuffer(inbound.silence, np.uint8)))}
    assert inbound.concealed == len(faded)


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

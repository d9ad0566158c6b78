import ctypes
import gc

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bridge.audio import opus
from bridge.audio.frames import Pcm
from bridge.audio.levels import rms
from bridge.audio.opus import OpusDecoder, OpusEncoder, OpusError, packet_duration
from bridge.audio.tones import sine

TONE = sine(440, 1.0)


def stereo_48k(frame_ms: int, application: int) -> list[bytes]:
    """Packets as a browser makes them: two channels of 48 kHz."""
    lib = opus._library()
    error = ctypes.c_int()
    state = lib.opus_encoder_create(48_000, 2, application, ctypes.byref(error))
    samples = 48 * frame_ms
    tone = np.repeat(sine(440, 0.6, rate=48_000), 2)
    buffer = ctypes.create_string_buffer(4000)
    packets = []
    for start in range(0, len(tone) - 2 * samples, 2 * samples):
        frame = np.ascontiguousarray(tone[start : start + 2 * samples])
        size = lib.opus_encode(state, frame.ctypes.data, samples, buffer, 4000)
        packets.append(buffer.raw[:size])
    lib.opus_encoder_destroy(state)
    return packets


def frequency(pcm: Pcm) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(spectrum.argmax()) * 24_000 / len(pcm)


@pytest.mark.parametrize("application", ["voip", "audio", "lowdelay"])
def test_a_tone_survives(application: str) -> None:
    encoder = OpusEncoder(application=application)  # type: ignore[arg-type]
    decoder = OpusDecoder()
    packets = [encoder.encode(TONE[start : start + 480]) for start in range(0, 24_000, 480)]
    assert {packet_duration(packet) for packet in packets} == {960}
    out = np.concatenate([decoder.decode(packet) for packet in packets])
    assert len(out) == len(TONE)
    assert frequency(out[4800:]) == pytest.approx(440, abs=3)
    assert rms(out[4800:]) == pytest.approx(rms(TONE), rel=0.1)


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
@pytest.mark.parametrize("application", [2048, 2049, 2051])
def test_stereo_of_any_frame_size_comes_out_mono(frame_ms: int, application: int) -> None:
    decoder = OpusDecoder()
    packets = stereo_48k(frame_ms, application)
    assert {packet_duration(packet) for packet in packets} == {48 * frame_ms}
    parts = [decoder.decode(packet) for packet in packets]
    assert {len(part) for part in parts} == {24 * frame_ms}
    out = np.concatenate(parts)[2400:]
    assert frequency(out) == pytest.approx(440, abs=5)
    assert rms(out) == pytest.approx(rms(TONE), rel=0.15)


def test_losses_are_concealed_with_something_alike() -> None:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    for start in range(0, 9600, 480):
        decoder.decode(encoder.encode(TONE[start : start + 480]))
    lost = decoder.conceal()
    assert len(lost) == 480
    assert rms(lost) > rms(TONE) / 3
    assert len(decoder.conceal(960)) == 960


def test_no_more_is_made_up_than_there_is_room_for() -> None:
    decoder = OpusDecoder()
    packet = OpusEncoder().encode(TONE[:480])
    assert len(decoder.conceal(2880)) == 2880
    for samples in (2940, 48_000):
        with pytest.raises(OpusError, match="120 ms"):
            decoder.conceal(samples)
        with pytest.raises(OpusError, match="120 ms"):
            decoder.repair(packet, samples)


def test_silence_is_small() -> None:
    encoder = OpusEncoder()
    packets = [encoder.encode(np.zeros(480, np.int16)) for _ in range(5)]
    assert len(packets[-1]) < 80


def test_settings_and_slices() -> None:
    encoder = OpusEncoder(application="voip", complexity=2, bitrate=16_000)
    encoder.expect_loss(10)
    assert encoder.encode(TONE[::2][:480])
    with pytest.raises(OpusError, match="invalid"):
        encoder.encode(TONE[:481])
    with pytest.raises(OpusError):
        OpusEncoder(sample_rate=22_050)
    with pytest.raises(OpusError):
        OpusEncoder(complexity=99)


def test_closed_states_are_not_touched() -> None:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    packet = encoder.encode(TONE[:480])
    for state in (encoder, decoder):
        state.close()
        state.close()
    with pytest.raises(OpusError, match="closed"):
        encoder.encode(TONE[:480])
    with pytest.raises(OpusError, match="closed"):
        decoder.decode(packet)
    del encoder, decoder
    gc.collect()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_junk_is_an_error_or_sound(packet: bytes) -> None:
    duration = packet_duration(packet)
    try:
        pcm = OpusDecoder().decode(packet)
    except OpusError:
        return
    assert len(pcm) * 2 == duration


def test_durations_of_malformed_packets() -> None:
    assert packet_duration(b"") == 0
    assert packet_duration(b"\x03") == 0
    assert packet_duration(bytes((0x1B, 0x3F))) == 0
    assert packet_duration(bytes((0xFA,))) == 1920

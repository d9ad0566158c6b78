import io
import wave
from pathlib import Path

import numpy as np
import pytest

from bridge.audio.wav import from_wav, read_wav, to_wav

PCM = np.arange(-500, 500, dtype=np.int16)


def test_round_trip(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(to_wav(PCM, 8000))
    pcm, rate = read_wav(tmp_path / "a.wav")
    assert rate == 8000
    assert (pcm == PCM).all()


def wav(channels: int, width: int, octets: bytes) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(24_000)
        file.writeframes(octets)
    return buffer.getvalue()


def test_of_stereo_the_first_channel() -> None:
    pcm, _ = from_wav(wav(2, 2, np.array([1, 9, 2, 9, 3, 9], "<i2").tobytes()))
    assert pcm.tolist() == [1, 2, 3]


def test_what_is_not_16_bit_wav_is_refused() -> None:
    with pytest.raises(ValueError, match="8 bits"):
        from_wav(wav(1, 1, bytes(10)))
    for junk in (b"", b"RIFF", to_wav(PCM)[:20], b"x" * 100):
        with pytest.raises(ValueError, match="WAV"):
            from_wav(junk)

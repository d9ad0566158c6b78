"""WAV files of one channel of 16-bit samples."""

import io
import wave
from pathlib import Path

import numpy as np

from bridge.audio.frames import MODEL_RATE, Pcm


def to_wav(pcm: Pcm, rate: int = MODEL_RATE) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.astype("<i2").tobytes())
    return buffer.getvalue()


def from_wav(data: bytes) -> tuple[Pcm, int]:
    """Samples and their rate; of several channels the first.

    Raises:
        ValueError: not a WAV file of 16-bit PCM.
    """
    try:
        with wave.open(io.BytesIO(data), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            octets = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"not a WAV file of PCM: {error}") from error
    if width != 2:
        raise ValueError(f"samples of {8 * width} bits, 16 wanted")
    whole = len(octets) - len(octets) % (2 * channels)
    samples = np.frombuffer(octets[:whole], "<i2").reshape(-1, channels)
    return samples[:, 0].astype(np.int16), rate


def read_wav(path: Path) -> tuple[Pcm, int]:
    """Raises ValueError as from_wav, OSError as open."""
    return from_wav(path.read_bytes())

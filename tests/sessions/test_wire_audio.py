import numpy as np
import pytest

from bridge.errors import RequestError
from bridge.sessions.wire_audio import g711


@pytest.mark.parametrize("name", ["audio/pcmu", "audio/pcma"])
def test_a_tone_survives_both_ways(name: str) -> None:
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)).astype(np.int16)
    speaker, microphone = g711(name), g711(name)
    data = b"".join(speaker.encode(part) for part in np.split(tone, 50))
    assert abs(len(data) - 8000) <= 16
    heard = np.concatenate([microphone.decode(data[i : i + 160]) for i in range(0, 8000, 160)])
    spectrum = np.abs(np.fft.rfft(heard[: 24_000 // 2]))
    peak_hz = np.argmax(spectrum) * 2
    assert abs(peak_hz - 440) <= 2


def test_other_formats_are_refused() -> None:
    with pytest.raises(RequestError):
        g711("audio/opus")

import numpy as np
import pytest

from bridge.audio.frames import Pcm
from bridge.audio.tones import DTMF_FREQUENCIES, RINGBACK_US, dtmf, ringback, silence, sine


def strongest(pcm: Pcm, rate: int, count: int) -> list[int]:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), rate))
    found: list[int] = []
    while len(found) < count:
        peak = int(spectrum.argmax())
        found.append(peak)
        spectrum[max(0, peak - 30) : peak + 30] = 0
    return sorted(found)


@pytest.mark.parametrize("rate", [8000, 24_000])
@pytest.mark.parametrize("key", list("0123456789*#ABCD"))
def test_a_key_is_its_two_tones(key: str, rate: int) -> None:
    tone = dtmf(key, rate=rate, off_s=0)
    low, high = strongest(tone, rate, 2)
    assert abs(low - DTMF_FREQUENCIES[key][0]) <= 2
    assert abs(high - DTMF_FREQUENCIES[key][1]) <= 2


def test_lengths() -> None:
    assert len(dtmf("12", rate=8000)) == 4 * 800
    assert len(dtmf("")) == 0
    assert len(ringback(rate=8000)) == 40_000
    assert strongest(ringback(RINGBACK_US, rate=8000)[:16000], 8000, 2) == [440, 480]
    assert len(silence(0.5)) == 12_000
    with pytest.raises(KeyError):
        dtmf("x")


def test_amplitude_is_kept() -> None:
    assert np.abs(sine(500, 0.1, amplitude=1000)).max() == 1000
    assert np.abs(sine((500, 700), 0.1, amplitude=1000)).max() <= 1000

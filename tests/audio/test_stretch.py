import numpy as np
import pytest

from bridge.audio.stretch import OVERLAP_S, join_shorter
from bridge.audio.tones import sine


@pytest.mark.parametrize("rate", [8000, 16_000, 24_000])
@pytest.mark.parametrize("hertz", [80, 131, 300, 1000])
def test_a_tone_stays_one(rate: int, hertz: int) -> None:
    tone = sine(hertz, 1.0, rate=rate)
    size = rate // 50
    joined = join_shorter(tone[:size], tone[size : 2 * size], rate)
    assert OVERLAP_S * rate <= 2 * size - len(joined) <= size
    heard = np.concatenate((joined, tone[2 * size :])).astype(int)
    assert np.abs(np.diff(heard)).max() <= 1.1 * np.abs(np.diff(tone.astype(int))).max()


def test_of_silence_as_much_goes_as_can() -> None:
    frame = np.zeros(160, np.int16)
    assert len(join_shorter(frame, frame, 8000)) == 160


@pytest.mark.parametrize("sizes", [(160, 0), (0, 160), (1, 1), (160, 3), (3, 160), (10, 20)])
def test_scraps_join_too(sizes: tuple[int, int]) -> None:
    first, second = (np.ones(size, np.int16) for size in sizes)
    assert len(first) <= len(join_shorter(first, second, 8000)) <= len(first) + len(second)

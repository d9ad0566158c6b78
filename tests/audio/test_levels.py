import numpy as np
import pytest

from bridge.audio.levels import SILENCE_DBOV, dbov, fade, rms
from bridge.audio.tones import sine


def test_levels_of_known_signals() -> None:
    square = np.tile(np.array([16384, -16384], np.int16), 100)
    assert rms(square) == pytest.approx(16384)
    assert dbov(square) == pytest.approx(-6.02, abs=0.01)
    assert dbov(sine(1000, 0.1, amplitude=32767)) == pytest.approx(-3.01, abs=0.01)


def test_silence_has_a_floor() -> None:
    assert dbov(np.zeros(480, np.int16)) == SILENCE_DBOV
    assert rms(np.empty(0, np.int16)) == 0


def test_fade_is_a_straight_line() -> None:
    faded = fade(np.full(4, 1000, np.int16), 1.0, 0.0)
    assert faded.tolist() == [1000, 750, 500, 250]

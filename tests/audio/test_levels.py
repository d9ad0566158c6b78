import numpy as np
import pytest

from bridge.audio.levels import rms


def test_level_of_a_known_signal() -> None:
    square = np.tile(np.array([16384, -16384], np.int16), 100)
    assert rms(square) == pytest.approx(16384)


def test_no_samples_have_no_level() -> None:
    assert rms(np.empty(0, np.int16)) == 0

import numpy as np
import pytest

from bridge.audio.frames import Pcm
from bridge.audio.levels import rms
from bridge.audio.plc import GONE_S, Concealment, pitch
from bridge.audio.tones import sine

RATES = (8000, 16_000, 24_000)


def voice(hertz: float, rate: int, seconds: float = 1.0) -> Pcm:
    """A fundamental and its harmonics."""
    parts = [sine(hertz * n, seconds, rate=rate, amplitude=6000 / n) for n in (1, 2, 3)]
    mixed: Pcm = np.sum(parts, axis=0).astype(np.int16)
    return mixed


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hertz", [80, 131, 187])
def test_the_pitch_is_found(rate: int, hertz: int) -> None:
    lag = pitch(voice(hertz, rate)[: rate // 20].astype(np.float32), rate)
    periods = lag * hertz / rate
    assert round(periods) >= 1
    assert periods == pytest.approx(round(periods), abs=0.03)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("lost_ms", [10, 20, 40])
def test_a_voice_goes_on_through_a_gap(rate: int, lost_ms: int) -> None:
    sound = voice(131, rate)
    size = rate * lost_ms // 1000
    plc = Concealment(rate)
    start = rate // 2
    made_up = plc.conceal(sound[:start], size)
    assert plc.active
    rest = plc.resume(sound[start + size :])
    assert not plc.active
    heard = np.concatenate((sound[:start], made_up, rest)).astype(int)
    assert len(heard) == len(sound)
    steepest = np.abs(np.diff(sound.astype(int))).max()
    assert np.abs(np.diff(heard)).max() <= 1.2 * steepest
    ten_ms = rate // 100
    error = (heard - sound)[start : start + ten_ms]
    assert rms(error.astype(np.int16)) < 0.15 * rms(sound)
    assert (heard[-rate // 4 :] == sound[-rate // 4 :]).all()


def test_pieces_of_a_gap_are_the_gap() -> None:
    sound = voice(100, 8000)
    whole = Concealment(8000).conceal(sound, 480)
    plc = Concealment(8000)
    pieces = [plc.conceal(sound, 80) for _ in range(6)]
    assert (np.concatenate(pieces) == whole).all()


def test_who_knows_that_a_gap_is_silent_need_not_ask() -> None:
    sound = voice(131, 8000)
    asked, rested = Concealment(8000), Concealment(8000)
    while not rested.faded:
        assert (asked.conceal(sound, 80) == rested.conceal(sound, 80)).all()
    assert not asked.conceal(sound, 160).any()
    rested.rest(160)
    assert (asked.resume(sound) == rested.resume(sound)).all()
    assert not rested.faded


def test_a_long_gap_fades_to_nothing() -> None:
    made_up = Concealment(8000).conceal(voice(100, 8000), 800)
    gone = int(8000 * GONE_S)
    assert rms(made_up[gone - 160 : gone]) < rms(made_up[:80]) / 2
    assert not made_up[gone:].any()


def test_what_comes_back_after_a_long_gap_does_not_start_with_a_step() -> None:
    plc = Concealment(8000)
    plc.conceal(voice(100, 8000), 1600)
    assert abs(int(plc.resume(np.full(160, 8000, np.int16))[0])) < 100


def test_a_gap_after_hardly_anything_is_no_fault() -> None:
    plc = Concealment(8000)
    assert len(plc.conceal(np.empty(0, np.int16), 160)) == 160
    plc.end()
    assert not plc.active


def test_nothing_overflows() -> None:
    square = np.tile(np.repeat(np.array([32767, -32768], np.int16), 31), 40)
    made_up = Concealment(8000).conceal(square, 160).astype(int)
    following = np.tile(np.repeat([32767, -32768], 31), 4)[:80]
    assert np.corrcoef(made_up[:80], following)[0, 1] > 0.8

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bridge.audio.frames import Pcm
from bridge.audio.resample import Resampler, ResamplerBank, lowpass
from bridge.audio.tones import sine

RATES = [(8000, 24_000), (24_000, 8000), (16_000, 24_000), (48_000, 24_000), (22_050, 24_000)]
NOISE = np.random.default_rng(1).integers(-20_000, 20_000, 12_000).astype(np.int16)


def in_chunks(resampler: Resampler, pcm: Pcm, sizes: list[int]) -> Pcm:
    parts = [np.empty(0, np.int16)]
    position = 0
    for size in sizes:
        parts.append(resampler.process(pcm[position : position + size]))
        position += size
    parts.append(resampler.process(pcm[position:]))
    return np.concatenate(parts)


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 1200), max_size=12))
def test_chunking_changes_nothing_and_length_is_conserved(
    in_rate: int, out_rate: int, sizes: list[int]
) -> None:
    whole = Resampler(in_rate, out_rate).process(NOISE)
    chunked = in_chunks(Resampler(in_rate, out_rate), NOISE, sizes)
    assert len(chunked) == len(whole)
    assert abs(len(whole) - len(NOISE) * out_rate / in_rate) <= max(1, out_rate // 150)
    assert np.abs(whole.astype(int) - chunked).max() <= 1


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
def test_flush_brings_the_tail_out_and_starts_anew(in_rate: int, out_rate: int) -> None:
    resampler = Resampler(in_rate, out_rate)
    pcm = sine(440, 0.1, rate=in_rate)[:-1]
    first = np.concatenate((resampler.process(pcm), resampler.flush()))
    delay = ResamplerBank(in_rate, out_rate).delay_ms / 1000
    assert len(first) == pytest.approx((len(pcm) / in_rate + delay) * out_rate, abs=2)
    second = np.concatenate((resampler.process(pcm), resampler.flush()))
    assert (first == second).all()


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
def test_a_tone_comes_out_as_the_same_tone(in_rate: int, out_rate: int) -> None:
    resampler = Resampler(in_rate, out_rate)
    out = np.concatenate((resampler.process(sine(1000, 0.5, rate=in_rate)), resampler.flush()))
    delay = ResamplerBank(in_rate, out_rate).delay_ms / 1000
    time = np.arange(len(out)) / out_rate - delay
    wanted = 8000 * np.sin(2 * np.pi * 1000 * time)
    middle = slice(out_rate // 10, out_rate // 3)
    assert np.abs(out[middle] - wanted[middle]).max() < 8


def test_response_of_the_telephone_filter() -> None:
    taps = lowpass(3, 1)

    def response_db(hz: Pcm | list[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        turns = np.outer(np.asarray(hz) / 24_000, np.arange(len(taps)))
        return float(20 * np.log10(np.abs(np.exp(-2j * np.pi * turns) @ taps).max() / 3))

    assert abs(response_db([300.0])) < 0.01
    assert abs(response_db([3000.0])) < 0.05
    assert response_db([3400.0]) > -1.2
    assert response_db(np.linspace(4400, 12_000, 2000)) < -78


def test_a_constant_stays_that_constant() -> None:
    for in_rate, out_rate in RATES:
        out = Resampler(in_rate, out_rate).process(np.full(4000, 12_345, np.int16))
        assert (out[len(out) // 2 :] == 12_345).all()


def test_full_scale_clips_and_does_not_wrap() -> None:
    square = np.repeat(np.array([32767, -32768] * 20, np.int16), 40)
    out = Resampler(8000, 24_000).process(square)
    assert out.max() == 32767
    assert out.min() == -32768
    middle = out[240 * 2 :].reshape(-1, 120)[:, 80:115].astype(int)
    assert (np.abs(middle) > 30_000).all()


def test_rows_of_a_bank_do_not_hear_each_other() -> None:
    bank = ResamplerBank(8000, 24_000, capacity=2)
    frames = NOISE[:4800].reshape(10, 3, 160)
    rows = np.array([7, 0, 3])
    together = np.stack([bank.process(rows, frame) for frame in frames])
    for stream in range(3):
        alone = Resampler(8000, 24_000).process(frames[:, stream].reshape(-1))
        assert np.abs(together[:, stream].reshape(-1).astype(int) - alone).max() <= 1


def test_rows_may_rest_and_be_reset() -> None:
    bank = ResamplerBank(24_000, 8000)
    loud = np.full((1, 480), 20_000, np.int16)
    quiet = np.zeros((1, 480), np.int16)
    one, other = np.array([1]), np.array([2])
    bank.process(one, loud)
    bank.process(other, loud)
    bank.reset(1)
    bank.reset(5000)
    assert not bank.process(one, quiet).any()
    tail = bank.process(other, quiet)
    # The filter reaches 4 ms back: 32 samples, then true zeros.
    assert tail[0, :8].any()
    assert not tail[0, 32:].any()


def test_edges() -> None:
    bank = ResamplerBank(24_000, 8000)
    none = np.empty(0, np.intp)
    assert bank.process(none, np.empty((0, 480), np.int16)).shape == (0, 160)
    assert bank.delay_ms == pytest.approx(2.0, abs=0.03)
    with pytest.raises(ValueError, match="multiple of 3"):
        bank.process(np.array([0]), np.zeros((1, 481), np.int16))
    assert len(Resampler(8000, 24_000).process(np.empty(0, np.int16))) == 0


@pytest.mark.parametrize(("in_rate", "out_rate"), [(8000, 24_000), (24_000, 8000)])
def test_a_row_alone_sounds_as_among_others(in_rate: int, out_rate: int) -> None:
    rng = np.random.default_rng(5)
    frames = rng.integers(-32768, 32768, (20, 7, in_rate // 50)).astype(np.int16)
    alone, together = ResamplerBank(in_rate, out_rate, 2), ResamplerBank(in_rate, out_rate, 2)
    one, all_rows = np.array([3]), np.arange(7)
    for frame in frames:
        single = alone.process(one, frame[3:4])[0].astype(np.int32)
        assert np.abs(single - together.process(all_rows, frame)[3]).max() <= 1

"""What resampling does to a call, measured on int16 in frames of 20 ms: ripple, aliases, delay.

pytest -o log_cli=true --log-cli-level=INFO tests/audio/test_resample_quality.py
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from bridge.audio.frames import Pcm
from bridge.audio.resample import Resampler
from bridge.audio.tones import sine

log = logging.getLogger(__name__)

LEVEL = 16_000.0
RATES = [(8000, 24_000), (24_000, 8000), (16_000, 24_000), (24_000, 16_000), (48_000, 24_000)]


def resampled(in_rate: int, out_rate: int, pcm: Pcm) -> Pcm:
    resampler = Resampler(in_rate, out_rate)
    size = in_rate // 50
    return np.concatenate([resampler.process(pcm[n : n + size]) for n in range(0, len(pcm), size)])


def db(pcm: Pcm, hz: float, rate: int) -> float:
    """Of one frequency, in the second half second, against LEVEL."""
    part = pcm[rate // 2 : rate]
    turns = np.exp(-2j * np.pi * hz * np.arange(len(part)) / rate)
    return float(20 * np.log10(max(2 * abs(np.dot(part, turns)) / len(part) / LEVEL, 1e-9)))


def folded(hz: float, rate: int) -> float:
    """Where a frequency appears at a sample rate."""
    within = hz % rate
    return min(within, rate - within)


@dataclass(frozen=True, slots=True)
class Quality:
    ripple_db: float
    """Of tones up to three quarters of the narrower band."""
    edge_db: float
    """At 0.85 of it: 3.4 kHz on a telephone."""
    alias_db: float
    """The loudest tone that was not there, of inputs beyond a tenth of the band's edge."""
    delay_ms: float
    withheld_ms: float
    """Sound taken and not given back, beyond the delay."""


def tones(low: float, high: float, count: int = 12) -> Sequence[float]:
    return [round(low + (high - low) * n / (count - 1), -1) for n in range(count)]


def measured(in_rate: int, out_rate: int) -> Quality:
    band = min(in_rate, out_rate) / 2
    through = {
        hz: resampled(in_rate, out_rate, sine(hz, 1.0, rate=in_rate, amplitude=LEVEL))
        for hz in (*tones(100, 0.75 * band), 0.85 * band)
    }
    passed = {hz: db(pcm, hz, out_rate) for hz, pcm in through.items()}
    edge_db = passed.pop(0.85 * band)
    return Quality(
        max(map(abs, passed.values())),
        edge_db,
        max(aliases(in_rate, out_rate, band)),
        *delays(in_rate, out_rate),
    )


def aliases(in_rate: int, out_rate: int, band: float) -> list[float]:
    if in_rate > out_rate:
        # What does not fit into the lower rate, seen where it would fold to.
        beyond = tones(1.1 * band, 0.99 * in_rate / 2, 24)
        return [
            db(
                resampled(in_rate, out_rate, sine(hz, 1.0, rate=in_rate, amplitude=LEVEL)),
                folded(hz, out_rate),
                out_rate,
            )
            for hz in beyond
        ]
    found = []
    for hz in tones(100, 0.9 * band, 24):
        pcm = resampled(in_rate, out_rate, sine(hz, 1.0, rate=in_rate, amplitude=LEVEL))
        images = {folded(in_rate * k + side * hz, out_rate) for k in (1, 2) for side in (-1, 1)}
        found += [db(pcm, image, out_rate) for image in images if abs(image - hz) > 1]
    return found


def delays(in_rate: int, out_rate: int) -> tuple[float, float]:
    """By an impulse's centre of gravity, and by what a frame taken brings out."""
    pcm = np.zeros(in_rate // 5, np.int16)
    pcm[in_rate // 10] = 30_000
    out = resampled(in_rate, out_rate, pcm).astype(np.float64)
    centre = np.dot(out**2, np.arange(len(out))) / np.sum(out**2)
    withheld = len(pcm) / in_rate - len(out) / out_rate
    return (centre / out_rate - 0.1) * 1000, withheld * 1000


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
def test_ripple_aliases_and_delay(in_rate: int, out_rate: int) -> None:
    quality = measured(in_rate, out_rate)
    log.info(
        "| %5d to %5d | ripple %.3f dB | at 0.85: %.2f dB | alias %.1f dB | "
        "delay %.2f ms | withheld %.2f ms |",
        in_rate,
        out_rate,
        quality.ripple_db,
        quality.edge_db,
        quality.alias_db,
        quality.delay_ms,
        quality.withheld_ms,
    )
    assert quality.ripple_db < 0.01
    assert -1.2 < quality.edge_db < 0.01
    assert quality.alias_db < -80
    assert 0 < quality.delay_ms < 2.1
    assert abs(quality.withheld_ms) < 0.1


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
def test_no_click_however_a_tone_is_cut_up(in_rate: int, out_rate: int) -> None:
    """Steps between samples as large as a tone has them, and never larger."""
    tone = sine(700, 2.0, rate=in_rate, amplitude=LEVEL)
    rng = random.Random(7)
    resampler = Resampler(in_rate, out_rate)
    parts, position = [], 0
    while position < len(tone):
        size = rng.choice((0, 1, 2, 3, 7, 160, 479, 480, 481, 1200))
        parts.append(resampler.process(tone[position : position + size]))
        position += size
    out = np.concatenate(parts)[out_rate // 50 :].astype(np.int32)
    whole = Resampler(in_rate, out_rate).process(tone)[out_rate // 50 :]
    steepest = LEVEL * 2 * np.pi * 700 / out_rate
    assert np.abs(np.diff(out)).max() <= steepest + 2
    assert np.abs(out - whole).max() <= 1

import numpy as np
import pytest

from bridge.audio.frames import Pcm
from bridge.audio.g711 import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from bridge.audio.goertzel import ToneDetector
from bridge.audio.tones import DTMF_FREQUENCIES, RINGBACK_US, dtmf, ringback, silence, sine

KEYS = "0123456789*#ABCD"
RATE = 8000


def keys_in(pcm: Pcm, *, rate: int = RATE) -> str:
    frame = rate // 50
    pcm = np.concatenate((pcm, np.zeros(-len(pcm) % frame + 2 * frame, np.int16)))
    detector = ToneDetector(rate)
    row = np.zeros(1, np.intp)
    found = ""
    for start in range(0, len(pcm), frame):
        pressed = detector.process(row, pcm[None, start : start + frame])
        found += "".join(key for _, key in pressed)
    return found


def pairs(
    *, low: float = 1.0, high: float = 1.0, low_level: float = 4000, high_level: float = 4000
) -> Pcm:
    """All keys, their tones off by these factors."""
    parts = []
    for key in KEYS:
        one, two = DTMF_FREQUENCIES[key]
        parts.append(
            sine(one * low, 0.1, rate=RATE, amplitude=low_level)
            + sine(two * high, 0.1, rate=RATE, amplitude=high_level)
        )
        parts.append(silence(0.1, rate=RATE))
    return np.concatenate(parts)


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_every_key(rate: int) -> None:
    assert keys_in(dtmf(KEYS, rate=rate), rate=rate) == KEYS


@pytest.mark.parametrize(("on_ms", "off_ms"), [(40, 40), (50, 50), (65, 40), (1000, 100)])
@pytest.mark.parametrize("offset", [0, 37, 80, 113, 159])
def test_lengths_that_must_be_heard(on_ms: int, off_ms: int, offset: int) -> None:
    digits = "1155" + KEYS
    sound = dtmf(digits, rate=RATE, on_s=on_ms / 1000, off_s=off_ms / 1000)
    assert keys_in(np.concatenate((np.zeros(offset, np.int16), sound))) == digits


def test_lengths_that_must_not() -> None:
    assert keys_in(dtmf(KEYS, rate=RATE, on_s=0.023)) == ""
    assert keys_in(dtmf("5555", rate=RATE, on_s=0.06, off_s=0.01)) == "5"


@pytest.mark.parametrize("error", [-1.5, -1.0, 1.0, 1.5])
def test_frequencies_that_must_be_heard(error: float) -> None:
    assert keys_in(pairs(low=1 + error / 100, high=1 + error / 100)) == KEYS


@pytest.mark.parametrize("error", [-3.5, 3.5])
def test_frequencies_that_must_not(error: float) -> None:
    assert keys_in(pairs(low=1 + error / 100)) == ""
    assert keys_in(pairs(high=1 + error / 100)) == ""


def test_levels_and_twist() -> None:
    assert keys_in(pairs(low_level=500, high_level=500)) == KEYS
    assert keys_in(pairs(low_level=250, high_level=250)) == ""
    assert keys_in(pairs(high_level=4000 * 10 ** (4 / 20))) == KEYS
    assert keys_in(pairs(high_level=4000 * 10 ** (-8 / 20))) == KEYS
    assert keys_in(pairs(high_level=4000 * 10 ** (9 / 20))) == ""
    assert keys_in(pairs(high_level=4000 * 10 ** (-13 / 20))) == ""


@pytest.mark.parametrize("snr_db", [10, 15, 30])
def test_keys_in_noise(snr_db: int) -> None:
    clean = dtmf(KEYS * 4, rate=RATE).astype(float)
    noise = np.random.default_rng(snr_db).normal(0, 4000 / 10 ** (snr_db / 20), len(clean))
    assert keys_in(np.rint(clean + noise).clip(-32768, 32767).astype(np.int16)) == KEYS * 4


def test_keys_through_g711() -> None:
    sound = dtmf(KEYS, rate=RATE)
    assert keys_in(ulaw_decode(ulaw_encode(sound))) == KEYS
    assert keys_in(alaw_decode(alaw_encode(sound))) == KEYS


def test_no_key_in_the_tones_of_a_network() -> None:
    for sound in (
        ringback(rate=RATE),
        ringback(RINGBACK_US, rate=RATE),
        sine((350, 440), 3, rate=RATE),
        sine((480, 620), 3, rate=RATE),
        sine(1400, 1, rate=RATE),
        sine(2100, 3, rate=RATE),
        sine(1100, 3, rate=RATE),
    ):
        assert keys_in(sound) == ""
    time = np.arange(10 * RATE) / RATE
    sweep = 8000 * np.sin(2 * np.pi * (200 * time + 170 * time**2))
    assert keys_in(sweep.astype(np.int16)) == ""


def test_no_key_in_noise() -> None:
    noise = np.random.default_rng(3).normal(0, 4000, 60 * RATE)
    assert keys_in(noise.astype(np.int16)) == ""


def harmonics(rng: np.random.Generator, hertz: float, seconds: float, count: int) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    sound = np.zeros(len(time))
    for n in range(1, count + 1):
        if hertz * n < 3900:
            sound += np.sin(2 * np.pi * (hertz * n * time + rng.random())) / n**1.2
    return sound


def test_no_key_in_music() -> None:
    rng = np.random.default_rng(1)
    parts = []
    for _ in range(600):
        seconds = rng.uniform(0.08, 0.5)
        chord = 440 * 2 ** (rng.integers(-24, 24, rng.integers(1, 5)) / 12)
        notes = [harmonics(rng, hertz, seconds, int(rng.integers(2, 7))) for hertz in chord]
        sound = np.sum(notes, axis=0)
        parts.append((sound / np.abs(sound).max() * 12_000).astype(np.int16))
    assert keys_in(np.concatenate(parts)) == ""


def test_no_key_in_vowels() -> None:
    """Buzzing sources of gliding pitch through formants of many mouths."""
    rng = np.random.default_rng(2)
    parts = []
    for _ in range(400):
        length = int(rng.uniform(0.08, 0.4) * RATE)
        pitch = np.linspace(rng.uniform(80, 350), rng.uniform(80, 350), length)
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        sound = np.zeros(length)
        formants = rng.uniform((250, 800, 2000), (900, 2400, 3400))
        for n in range(1, 40):
            envelope = sum(
                gain / (1 + ((n * pitch - centre) / 90) ** 2)
                for centre, gain in zip(formants, (1.0, 0.6, 0.3), strict=True)
            )
            sound += np.where(n * pitch < 3900, envelope * np.sin(n * phase), 0)
        parts.append((sound / np.abs(sound).max() * 12_000).astype(np.int16))
    assert keys_in(np.concatenate(parts)) == ""


def test_rows_are_apart() -> None:
    detector = ToneDetector(RATE)
    sounds = {3: dtmf("12", rate=RATE), 0: dtmf("34", rate=RATE), 70: silence(0.4, rate=RATE)}
    rows = np.array(list(sounds), np.intp)
    found: list[tuple[int, str]] = []
    for start in range(0, 3200, 160):
        frames = np.stack([sound[start : start + 160] for sound in sounds.values()])
        found += detector.process(rows, frames)
    assert sorted(found) == [(0, "3"), (0, "4"), (3, "1"), (3, "2")]
    assert detector.process(np.zeros(0, np.intp), np.zeros((0, 160), np.int16)) == []


def test_a_row_starts_anew() -> None:
    detector = ToneDetector(RATE)
    row = np.zeros(1, np.intp)
    tone = dtmf("7", rate=RATE, on_s=0.2)

    def hear() -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        for start in range(0, 1600, 160):
            found += detector.process(row, tone[None, start : start + 160])
        return found

    assert hear() == [(0, "7")]
    assert hear() == []
    detector.reset(0)
    assert hear() == [(0, "7")]

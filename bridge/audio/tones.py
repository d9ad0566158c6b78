"""Tones of the telephone network: sine, the sixteen keys, ringback; at any sample rate."""

from collections.abc import Sequence

import numpy as np

from bridge.audio.frames import MODEL_RATE, Pcm

AMPLITUDE = 8000  # about -12 dBFS, where one tone or two sit comfortably below clipping
_LOW = (697, 770, 852, 941)
_HIGH = (1209, 1336, 1477, 1633)
_KEYPAD = ("123A", "456B", "789C", "*0#D")
DTMF_FREQUENCIES = {
    key: (low, high)
    for low, keys in zip(_LOW, _KEYPAD, strict=True)
    for high, key in zip(_HIGH, keys, strict=True)
}
"""ITU-T Q.23: key to (low, high) Hz."""

RINGBACK = ((425,), 1.0, 4.0)
"""ETSI: Hz, seconds on, seconds off."""
RINGBACK_US = ((440, 480), 2.0, 4.0)


def sine(
    frequencies: float | Sequence[float],
    duration_s: float,
    *,
    rate: int = MODEL_RATE,
    amplitude: float = AMPLITUDE,
) -> Pcm:
    """The sum of the tones, `amplitude` shared out evenly, starting at zero phase."""
    tones = [frequencies] if isinstance(frequencies, int | float) else list(frequencies)
    time = np.arange(round(duration_s * rate)) / rate
    wave = np.sum([np.sin(2 * np.pi * hz * time) for hz in tones], axis=0) / len(tones)
    pcm: Pcm = np.rint(amplitude * wave).astype(np.int16)
    return pcm


def silence(duration_s: float, *, rate: int = MODEL_RATE) -> Pcm:
    return np.zeros(round(duration_s * rate), np.int16)


def dtmf(
    digits: str,
    *,
    rate: int = MODEL_RATE,
    on_s: float = 0.1,
    off_s: float = 0.1,
    amplitude: float = AMPLITUDE,
) -> Pcm:
    """The keys one after the other, each followed by silence.

    Raises:
        KeyError: not a key of the sixteen.
    """
    parts = [np.empty(0, np.int16)]
    for digit in digits.upper():
        pair = DTMF_FREQUENCIES[digit]
        parts += (sine(pair, on_s, rate=rate, amplitude=amplitude), silence(off_s, rate=rate))
    return np.concatenate(parts)


def ringback(
    cadence: tuple[Sequence[float], float, float] = RINGBACK,
    *,
    rate: int = MODEL_RATE,
    amplitude: float = AMPLITUDE,
) -> Pcm:
    """One period, to be repeated."""
    frequencies, on_s, off_s = cadence
    tone = sine(frequencies, on_s, rate=rate, amplitude=amplitude)
    return np.concatenate((tone, silence(off_s, rate=rate)))

"""What should not make an agent stop: babble, music and keys, at 8 kHz, minutes of each."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tests.peers import speech

Sound = NDArray[np.int16]
RATE = 8000
VOICES = ("en-gb", "en-us", "de", "fr-fr", "es", "it")
SENTENCES = (
    "The train to the north leaves from platform four in twenty minutes, they said.",
    "I told her that the parcel never came, and she did not believe a word of it.",
    "We could take the table by the window, if nobody else has asked for it before.",
    "Seven people wanted to know the same thing, and nobody had written the answer down.",
)
ROWS = (697, 770, 852, 941)
COLUMNS = (1209, 1336, 1477, 1633)


def at_level(sound: NDArray[np.float64], dbfs: float) -> Sound:
    """With that RMS; peaks are clipped."""
    rms = np.sqrt(np.mean(sound**2))
    scaled = sound / max(rms, 1e-9) * 32768 * 10 ** (dbfs / 20)
    clipped: Sound = np.clip(scaled, -32767, 32767).astype(np.int16)
    return clipped


def babble(seconds: float, dbfs: float) -> Sound:
    """Six voices at once, each saying all sentences over and over."""
    samples = int(seconds * RATE)
    mixed = np.zeros(samples)
    for number, voice in enumerate(VOICES):
        order = [SENTENCES[(at + number) % len(SENTENCES)] for at in range(len(SENTENCES))]
        said = np.concatenate([speech.samples(text, voice=voice) for text in order])
        # Each voice as loud as the others, beginning elsewhere.
        mixed += np.resize(np.roll(at_level(said.astype(float), -20), number * 7919), samples)
    return at_level(mixed, dbfs)


def music(seconds: float, dbfs: float) -> Sound:
    """Chords, a bass and a melody of plucked harmonics, with a beat of noise."""
    rng = np.random.default_rng(3)
    beat = RATE // 2
    time = np.arange(beat) / RATE
    bars = []
    for number in range(int(seconds * RATE) // beat + 1):
        root = 110 * 2 ** ((0, 5, 7, 3)[number // 4 % 4] / 12)
        notes = [root, 2 * root, 2 * root * 2 ** (4 / 12), 2 * root * 2 ** (7 / 12)]
        notes.append(4 * root * 2 ** (rng.choice([0, 2, 4, 7, 9]) / 12))
        bar = sum(
            np.sin(2 * np.pi * note * harmonic * time) * np.exp(-3 * time) / harmonic
            for note in notes
            for harmonic in (1, 2, 3, 4)
            if note * harmonic < 3800
        )
        bars.append(bar + 0.4 * rng.standard_normal(beat) * np.exp(-40 * time))
    return at_level(np.concatenate(bars)[: int(seconds * RATE)], dbfs)


def keys(seconds: float, dbfs: float) -> Sound:
    """DTMF: 100 ms of every key in turn, 200 ms between."""
    time = np.arange(RATE // 10) / RATE
    pause = np.zeros(RATE // 5)
    pressed = [
        np.concatenate((np.sin(2 * np.pi * row * time) + np.sin(2 * np.pi * col * time), pause))
        for row in ROWS
        for col in COLUMNS
    ]
    return at_level(np.resize(np.concatenate(pressed), int(seconds * RATE)), dbfs)


NOISES: dict[str, Callable[[float], Sound]] = {
    "babble, as loud as a caller (-20 dBFS)": lambda seconds: babble(seconds, -20),
    "babble, 20 dB below a caller (-40 dBFS)": lambda seconds: babble(seconds, -40),
    "music, -20 dBFS": lambda seconds: music(seconds, -20),
    "DTMF, -12 dBFS": lambda seconds: keys(seconds, -12),
}

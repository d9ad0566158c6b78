"""A caller's voice: sentences by espeak-ng, in a voice the agent does not use."""

import subprocess
import tempfile
import wave
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@cache
def _directory() -> Path:
    return Path(tempfile.mkdtemp(prefix="speech-"))


@cache
def wav(text: str, *, rate: int = 8000, voice: str = "en-gb", speed: int = 150) -> Path:
    """A mono WAV of 16 bit, peaks at -6 dBFS, without silence around the words; `speed` is words in
    a minute."""
    name = "".join(c if c.isalnum() else "_" for c in text[:40])
    path = _directory() / f"{name}-{rate}-{voice}-{speed}.wav"
    raw = path.with_suffix(".raw.wav")
    spoken = ["-v", voice, "-s", str(speed), "-w", str(raw), text]
    subprocess.run(["espeak-ng", *spoken], check=True)
    trim = ["silence", "1", "0.01", "0.5%", "reverse", "silence", "1", "0.01", "0.5%", "reverse"]
    effects = [*trim, "highpass", "100", "rate", "-v", str(rate), "norm", "-6"]
    command = ["sox", "-D", str(raw), "-b", "16", "-c", "1", str(path), *effects]
    subprocess.run(command, check=True)
    return path


def read(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def samples(
    text: str, *, rate: int = 8000, voice: str = "en-gb", speed: int = 150
) -> NDArray[np.int16]:
    return read(wav(text, rate=rate, voice=voice, speed=speed))


def script(rate: int, *parts: tuple[float, str]) -> NDArray[np.int16]:
    """Sentences at their times in seconds, silence between."""
    end = max(int(at * rate) + len(samples(text, rate=rate)) for at, text in parts)
    sound = np.zeros(end, np.int16)
    for at, text in parts:
        spoken = samples(text, rate=rate)
        sound[int(at * rate) : int(at * rate) + len(spoken)] = spoken
    return sound


def write(path: Path, sound: NDArray[np.int16], rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound.tobytes())
    return path


def likeness(said: NDArray[np.int16], heard: NDArray[np.int16], rate: int = 8000) -> float:
    """Correlation of two seconds of `heard` with the best place in `said`."""
    middle = int(np.argmax(np.convolve(np.abs(heard.astype(float)), np.ones(rate), "same")))
    return resemblance(said, heard[max(0, middle - rate) : middle + rate])


def resemblance(said: NDArray[np.int16], piece: NDArray[np.int16]) -> float:
    """Correlation with the best place in `said`, which is longer."""
    short, whole = piece.astype(float), said.astype(float)
    size = 1 << (len(whole) + len(short)).bit_length()
    spectrum = np.fft.rfft(whole, size) * np.fft.rfft(short, size).conj()
    products = np.fft.irfft(spectrum, size)[: len(whole) - len(short) + 1]
    squares = np.concatenate(([0.0], np.cumsum(whole**2)))
    energy = np.sqrt((squares[len(short) :] - squares[: -len(short)]) * (short**2).sum())
    return float((products / np.maximum(energy, 1.0)).max())


def same_sound(said: NDArray[np.int16], piece: NDArray[np.int16]) -> float:
    """As `resemblance`, of the loudness in 16 bands over time, at 8 kHz: codecs that shape their
    noise by the ear keep the sound and not the waveform. Other words come to 0.93 at most."""
    whole, part = _bands(said), _bands(piece)
    part = part - part.mean(axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(whole, len(part), axis=0).swapaxes(1, 2)
    windows = windows - windows.mean(axis=1, keepdims=True)
    energy = np.sqrt((windows**2).sum(axis=(1, 2)) * (part**2).sum())
    return float(((windows * part).sum(axis=(1, 2)) / np.maximum(energy, 1e-9)).max())


def _bands(sound: NDArray[np.int16], frame: int = 256, step: int = 80) -> NDArray[np.float64]:
    frames = np.lib.stride_tricks.sliding_window_view(sound.astype(float), frame)[::step]
    power = np.abs(np.fft.rfft(frames * np.hanning(frame), axis=1)) ** 2
    edges = np.unique(np.geomspace(3, frame // 2 - 8, 17).round().astype(int))
    bands: NDArray[np.float64] = np.add.reduceat(power, edges, axis=1)[:, :-1]
    return np.log(bands + 1e4 * frame)

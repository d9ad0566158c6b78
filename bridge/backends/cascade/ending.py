"""Whether somebody who paused has finished: a turn model over the sound, or signs in the words.

The model is Smart Turn v3 (an ONNX file, given by its path): it hears the last eight seconds as
Whisper does and gives the probability that they end a turn. It was trained on pauses of 200 ms, so
it is asked once in each, at that point; silence that grows afterwards would only mislead it.
"""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade.turn import SEMANTIC_SILENCE_MS
from bridge.errors import ConfigError

Floats = NDArray[np.float32]

RATE = 16_000
SECONDS = 8
WINDOW = RATE * SECONDS
FFT = 400
HOP = 160
MELS = 80
CHECK_MS = 200  # of silence: when the model or the words are asked
LEAST_MS = 256  # a pause is never shorter, however certain the model is
SURE = {"low": 0.9, "medium": 0.5, "auto": 0.5, "high": 0.3}
"""Above this probability the turn is over at once."""

MAX_WAIT_MS = {"low": 8000, "medium": 4000, "auto": 4000, "high": 2000}
"""How long somebody is waited for who seems not to have finished, by eagerness."""
FINISHED_SHARE = 0.6
"""Of the usual silence, after words that end as a sentence does."""

UNFINISHED = frozenset(
    "a an the and or but so because if when that which who to of in on at for with from by about "  # noqa: SIM905
    "my your his her our their its this these is are was were be been am i'm i we you they he she "
    "it uh um er erm hmm like well und oder aber weil dass der die das ein eine mit für von zu äh "
    "ähm et ou mais parce que le la les un une de du des à euh y o pero porque el los las en con "
    "para por eh".split()
)
DIGITS = re.compile(
    r"(?:\d|zero|oh|one|two|three|four|five|six|seven|eight|nine|null|eins|zwei|drei|vier|fünf|"
    r"sechs|sieben|acht|neun)$"
)
END = re.compile(r"[.!?。\uff01\uff1f]$")


class SmartTurn:
    """One model for the process, run in a thread of its own: it takes 30 ms and no GIL.

    Raises:
        ConfigError: there is no such file, or it is no turn model.
    """

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        failures = onnxruntime.capi.onnxruntime_pybind11_state
        try:
            self._session = onnxruntime.InferenceSession(
                path, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except (
            *(failures.Fail, failures.NoSuchFile, failures.InvalidProtobuf),
            *(failures.InvalidArgument, failures.InvalidGraph, failures.NotImplemented),
        ) as error:
            raise ConfigError(
                f"cascade.turn.model: {path} cannot be used: {error}", param="cascade.turn.model"
            ) from error
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or list(shape[1:]) != [MELS, WINDOW // HOP]:
            raise ConfigError(
                f"cascade.turn.model: {path} takes {shape}, not features of {MELS} x 800",
                param="cascade.turn.model",
            )
        self._input = inputs[0].name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="turn")

    async def ended(self, pcm: Pcm) -> float:
        """Probability that what is heard in `pcm` is over; only its last eight seconds count."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.score, pcm)

    def score(self, pcm: Pcm) -> float:
        samples = Resampler(MODEL_RATE, RATE).process(pcm[-MODEL_RATE * SECONDS :])
        output = self._session.run(None, {self._input: features(samples)[np.newaxis]})
        return float(np.ravel(output[0])[0])

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


def wait_ms(probability: float, eagerness: str) -> int:
    """How long the pause may be: what is wanted of the model falls to nothing by the longest."""
    sure, longest = SURE[eagerness], MAX_WAIT_MS[eagerness]
    if probability >= sure:
        return LEAST_MS
    return max(LEAST_MS, round(CHECK_MS + (longest - CHECK_MS) * (1 - probability / sure)))


def wait_for_words(words: str, eagerness: str) -> int:
    """The same without a model, by what was said; "" if that is not known."""
    usual, longest = SEMANTIC_SILENCE_MS[eagerness], MAX_WAIT_MS[eagerness]
    text = words.strip()
    if not text:
        return usual
    last = re.sub(r"[^\w']+$", "", text).split()[-1:] or [""]
    if text.endswith((",", "…", "...", "\uff0c", "、", "-")) or last[0].lower() in UNFINISHED:
        return min(longest, usual * 3)
    if DIGITS.search(last[0].lower()):
        return min(longest, usual * 2)
    return round(usual * FINISHED_SHARE) if END.search(text) else usual


def features(samples: Pcm) -> Floats:
    """Whisper's log-mel spectrogram of eight seconds at 16 kHz, silence before what is shorter.

    Returns (80, 800).
    """
    sound = np.zeros(WINDOW, np.float32)
    tail = samples[-WINDOW:].astype(np.float32) / 32768.0
    sound[WINDOW - len(tail) :] = tail
    sound = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
    padded = np.pad(sound, FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP][:-1]
    power = np.abs(np.fft.rfft(frames * _HANN, axis=1)) ** 2
    mel = np.log10(np.maximum(_FILTERS @ power.T, 1e-10))
    mel = np.maximum(mel, mel.max() - 8.0)
    scaled: Floats = ((mel + 4.0) / 4.0).astype(np.float32)
    return scaled


def _mel_filters() -> Floats:
    """Slaney's mel filters, of equal area, as librosa makes them. Returns (80, 201)."""

    def hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))

    top = 15.0 + 27.0 * np.log(RATE / 2 / 1000.0) / np.log(6.4)
    edges = hertz(np.linspace(0.0, top, MELS + 2))
    bins = np.linspace(0.0, RATE / 2, FFT // 2 + 1)
    slopes = edges[:, np.newaxis] - bins
    widths = np.diff(edges)[:, np.newaxis]
    rising, falling = -slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters *= (2.0 / (edges[2:] - edges[:-2]))[:, np.newaxis]
    of_equal_area: Floats = filters.astype(np.float32)
    return of_equal_area


_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)
_FILTERS = _mel_filters()

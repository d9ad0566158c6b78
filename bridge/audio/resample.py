"""Sample-rate conversion: one polyphase FIR, run as one matrix product over all streams.

A Kaiser window (β 8) with 32 taps a phase: flat to three quarters of the narrower band, images
80 dB down, 2 ms of delay at telephone rates and nothing withheld beyond it. Stock streaming
resamplers of the same quality keep back 40 to 150 ms and emit it in lumps.

Outputs of one block are dot products of one window of inputs with shifted copies of the taps, so a
block is a (window, outputs) Toeplitz matrix and a tick is (streams * blocks, window) times that.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bridge.audio.frames import Pcm

TAPS_PER_PHASE = 32
KAISER_BETA = 8.0
# -6 dB here, in units of the narrower band's Nyquist frequency: 3.4 kHz of a telephone passes
# almost untouched, and what images remain lie in the band's last tenth.
CUTOFF = 0.92
# Samples a block covers on its denser side: longer ones multiply more zeros, shorter ones leave
# the product too small to be worth a call. 16 samples at 8 kHz measured best.
BLOCK = 48

Floats = NDArray[np.float32]

FLOOR = np.float32(-32768)
CEILING = np.float32(32767)


@lru_cache
def lowpass(up: int, down: int) -> NDArray[np.float64]:
    """Taps at `up` times the input rate, shape (phases * taps,), unity gain after zero stuffing."""
    length = TAPS_PER_PHASE * max(up, down)
    length += -length % up
    centre = (length - 1) / 2
    bandwidth = CUTOFF / max(up, down)
    taps = bandwidth * np.sinc(bandwidth * (np.arange(length) - centre))
    taps *= np.kaiser(length, KAISER_BETA)
    # Each phase sums to one, so that a constant stays constant to the last bit.
    phases = taps.reshape(-1, up)
    return np.asarray(phases / phases.sum(axis=0)).reshape(-1)


@dataclass(frozen=True)
class _Ratio:
    """Rates reduced to lowest terms: `down` inputs make `up` outputs."""

    up: int
    down: int
    history: int = field(init=False)
    """Inputs before a block that still sound in it."""

    def __post_init__(self) -> None:
        taps = len(lowpass(self.up, self.down)) // self.up
        object.__setattr__(self, "history", taps - 1)

    @classmethod
    def of(cls, in_rate: int, out_rate: int) -> "_Ratio":
        common = math.gcd(in_rate, out_rate)
        return cls(out_rate // common, in_rate // common)


@lru_cache
def _toeplitz(ratio: _Ratio, steps: int) -> Floats:
    """Shape (history + steps * down, steps * up)."""
    taps = lowpass(ratio.up, ratio.down)
    matrix = np.zeros((ratio.history + steps * ratio.down, steps * ratio.up), np.float32)
    for output in range(steps * ratio.up):
        newest, phase = divmod(output * ratio.down, ratio.up)
        matrix[newest : newest + ratio.history + 1, output] = taps[phase :: ratio.up][::-1]
    return matrix


def _steps_per_block(ratio: _Ratio, steps: int) -> int:
    """The largest divisor of `steps` that keeps to BLOCK."""
    most = max(1, BLOCK // max(ratio.up, ratio.down))
    return next(size for size in range(min(most, steps), 0, -1) if steps % size == 0)


@dataclass(frozen=True, slots=True)
class _Workspace:
    """Arrays for up to len(line) frames of `inputs` samples."""

    inputs: int
    blocks: int
    matrix: Floats
    line: Floats
    """History and frame, end to end."""
    overlapping: Floats
    """`line` seen as one window for each block."""
    windows: Floats
    flat: Floats
    """`windows`, a block a row."""
    products: Floats

    @classmethod
    def make(cls, ratio: _Ratio, rows: int, inputs: int) -> "_Workspace":
        steps = inputs // ratio.down
        size = _steps_per_block(ratio, steps)
        blocks = steps // size
        matrix = _toeplitz(ratio, size)
        width, outputs = matrix.shape
        line = np.zeros((rows, ratio.history + inputs), np.float32)
        overlapping = np.lib.stride_tricks.as_strided(
            line,
            (rows, blocks, width),
            (line.strides[0], size * ratio.down * line.itemsize, line.itemsize),
            writeable=False,
        )
        windows = np.empty((rows, blocks, width), np.float32)
        products = np.empty((rows * blocks, outputs), np.float32)
        flat = windows.reshape(rows * blocks, width)
        return cls(inputs, blocks, matrix, line, overlapping, windows, flat, products)


class ResamplerBank:
    """Any number of streams at one pair of rates; a row of state each, numbered by the caller."""

    def __init__(self, in_rate: int, out_rate: int, capacity: int = 64) -> None:
        self.in_rate = in_rate
        self.out_rate = out_rate
        self._ratio = _Ratio.of(in_rate, out_rate)
        self._history = np.zeros((capacity, self._ratio.history), np.float32)
        self._work: _Workspace | None = None

    @property
    def delay_ms(self) -> float:
        """Group delay of the filter."""
        ratio = self._ratio
        return (len(lowpass(ratio.up, ratio.down)) - 1) / 2 / (self.in_rate * ratio.up) * 1000

    def process(self, rows: NDArray[np.intp], frames: Pcm) -> Pcm:
        """Resample frames[i] as what comes next in row rows[i]; rows are distinct.

        `frames` is (len(rows), n) with n a multiple of the reduced input rate; the result is a new
        (len(rows), n * out_rate / in_rate).

        Raises:
            ValueError: n is not such a multiple.
        """
        count, n_in = frames.shape
        ratio = self._ratio
        steps, rest = divmod(n_in, ratio.down)
        if rest:
            raise ValueError(f"{n_in} samples are not a multiple of {ratio.down}")
        n_out = steps * ratio.up
        if not count or not steps:
            return np.empty((count, n_out), np.int16)
        work = self._workspace(count, n_in)
        line = work.line[:count]
        if count == 1:
            # One row is an index like any other, only five times slower.
            row: int | NDArray[np.intp] = int(rows[0])
            self._reserve(int(rows[0]) + 1)
        else:
            row = rows
            self._reserve(int(np.maximum.reduce(rows)) + 1)
        line[:, : ratio.history] = self._history[row]
        line[:, ratio.history :] = frames
        self._history[row] = line[:, n_in:]
        # BLAS takes no overlapping rows: copying the windows out first is what makes this fast.
        np.copyto(work.windows[:count], work.overlapping[:count])
        products = work.products[: count * work.blocks]
        np.matmul(work.flat[: len(products)], work.matrix, out=products)
        np.rint(products, out=products)
        # The method takes half as long as np.clip, which calls it.
        products.clip(FLOOR, CEILING, out=products)
        return products.astype(np.int16).reshape(count, n_out)

    def reset(self, row: int) -> None:
        """Row `row` starts anew, from silence."""
        if row < len(self._history):
            self._history[row] = 0

    def _reserve(self, rows: int) -> None:
        have = len(self._history)
        if rows > have:
            more = np.zeros((max(rows, 2 * have) - have, self._ratio.history), np.float32)
            self._history = np.concatenate((self._history, more))

    def _workspace(self, count: int, n_in: int) -> _Workspace:
        """Kept between calls: fresh pages each tick would cost more than the product."""
        work = self._work
        if work is None or work.inputs != n_in or len(work.line) < count:
            more = 2 * len(work.line) if work is not None and work.inputs == n_in else 0
            work = self._work = _Workspace.make(self._ratio, max(count, more), n_in)
        return work


class Resampler:
    """One stream in chunks of any length, e.g. a voice at 22.05 kHz to the model's 24 kHz."""

    def __init__(self, in_rate: int, out_rate: int) -> None:
        self._bank = ResamplerBank(in_rate, out_rate, capacity=1)
        self._ratio = _Ratio.of(in_rate, out_rate)
        self._row = np.zeros(1, np.intp)
        self._rest = np.empty(0, np.int16)
        self._consumed = 0

    def process(self, pcm: Pcm) -> Pcm:
        """What can be said for certain so far: `down` inputs make `up` outputs, the rest waits."""
        pcm = np.concatenate((self._rest, pcm)) if len(self._rest) else pcm
        usable = len(pcm) - len(pcm) % self._ratio.down
        self._rest = pcm[usable:].copy()
        self._consumed += usable
        parts = [self._run(part) for part in self._cut(pcm[:usable])]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, np.int16)

    def flush(self) -> Pcm:
        """The end: what waited, and the tail that the filter still holds. Then start anew."""
        ratio = self._ratio
        delay = (len(lowpass(ratio.up, ratio.down)) - 1) / 2 / ratio.up
        left = math.ceil((len(self._rest) + delay) * ratio.up / ratio.down)
        zeros = -(-(len(self._rest) + math.ceil(delay)) // ratio.down) * ratio.down
        tail = self.process(np.zeros(zeros + ratio.down, np.int16))[:left]
        self._bank.reset(0)
        self._rest = np.empty(0, np.int16)
        return tail

    def _cut(self, pcm: Pcm) -> list[Pcm]:
        """Long pieces in whole blocks and what is left: a prime length would make tiny blocks."""
        block = max(1, BLOCK // max(self._ratio.up, self._ratio.down)) * self._ratio.down
        whole = len(pcm) - len(pcm) % block
        return [part for part in (pcm[:whole], pcm[whole:]) if len(part)]

    def _run(self, pcm: Pcm) -> Pcm:
        return self._bank.process(self._row, pcm.reshape(1, -1)).reshape(-1)

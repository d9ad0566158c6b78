"""An ear of our own beside the model's: who speaks over the agent gets silence at once.

It only pauses the agent. Whether there was speech is for the model's server to say: it cuts what
was paused, or the agent goes on from the same sample.
"""

from collections.abc import Callable, Mapping
from typing import Any

from bridge import metrics
from bridge.backends.base import Emit, HoldPlayout, Pcm, SpeechStarted
from bridge.backends.cascade.echo_gate import EchoGate
from bridge.backends.cascade.turn import CHUNK_MS, Endpointer, TurnDetection
from bridge.backends.cascade.vad import VadBatch, VadStream
from bridge.backends.upstream.caller import SAMPLES_PER_MS

CONFIRMED_MS = 700
"""Of audio, after which a server that has heard speech has said so, wherever it is."""
REST_MS = 2_000
MAX_REST_MS = 60_000
"""A pause for nothing is followed by a rest, which doubles each time."""


class Ear:
    """`push`, `played` and `agent_speaking` as of a backend; `heard` when the server tells of
    speech. `emit` gets HoldPlayout."""

    def __init__(self, vad: VadBatch, emit: Callable[[HoldPlayout], None]) -> None:
        self._vad = vad
        self._emit = emit
        self._stream: VadStream | None = None
        self._endpointer = Endpointer(TurnDetection())
        self._echo = EchoGate()
        self._samples = 0
        self._held_ms: int | None = None
        self._rest_ms = REST_MS
        self._rested_ms = 0

    def configure(self, detection: Mapping[str, Any] | None) -> None:
        """The session's turn_detection. Where speech does not interrupt, it pauses nothing."""
        listens = detection is not None and detection.get("interrupt_response") is not False
        if listens and self._stream is None:
            speaking = self._endpointer.agent_speaking
            self._endpointer = Endpointer(TurnDetection(), self._position_ms)
            self._endpointer.agent_speaking = speaking
            self._stream = self._vad.join(self._scored)
        elif not listens:
            self.close()

    def push(self, pcm: Pcm) -> None:
        self._samples += len(pcm)
        if self._stream is None:
            return
        self._echo.hear(pcm, self._samples)
        self._stream.push(pcm)
        if self._held_ms is not None and self._position_ms - self._held_ms > CONFIRMED_MS:
            self._rested_ms = self._position_ms + self._rest_ms
            self._rest_ms = min(2 * self._rest_ms, MAX_REST_MS)
            metrics.upstream_false_pauses.inc()
            self._release()

    def played(self, pcm: Pcm) -> None:
        if self._stream is not None:
            self._echo.play(pcm)

    def agent_speaking(self, *, speaking: bool) -> None:
        self._endpointer.agent_speaking = speaking

    def heard(self) -> None:
        """The server has heard speech: whatever was paused is cut by now, if it is to be."""
        self._rest_ms, self._rested_ms = REST_MS, 0
        if self._held_ms is not None:
            self._release()

    def close(self) -> None:
        """Idempotent; `configure` begins anew."""
        if self._stream is not None:
            self._stream.leave()
            self._stream = None
        if self._held_ms is not None:
            self._release()

    @property
    def _position_ms(self) -> int:
        return self._samples // SAMPLES_PER_MS

    def _release(self) -> None:
        self._held_ms = None
        self._emit(HoldPlayout(held=False))

    def _scored(self, probability: float) -> None:
        endpointer, stream = self._endpointer, self._stream
        if stream is None:
            return
        threshold = endpointer.detection.threshold
        if probability >= threshold and self._echo.is_echo(endpointer.position_ms + CHUNK_MS):
            probability = 0.0
        event = endpointer.hear(probability, stream.level_dbfs)
        due = endpointer.agent_speaking and self._held_ms is None
        if isinstance(event, SpeechStarted) and due and self._position_ms >= self._rested_ms:
            self._held_ms = self._position_ms
            self._emit(HoldPlayout(held=True))


NewEar = Callable[[Emit], Ear]

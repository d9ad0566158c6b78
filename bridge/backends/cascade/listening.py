"""The caller's side of a cascade: where speech begins and ends, and who hears along."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bridge.backends.base import MODEL_RATE, BackendEvent, Pcm, SpeechStarted, SpeechStopped
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.stt import Hints, Listens, Utterance, Wanted
from bridge.backends.cascade.timings import Loudness, TurnTimes
from bridge.backends.cascade.turn import Endpointer, TurnDetection
from bridge.backends.cascade.vad import VadStream

log = logging.getLogger(__name__)

KEPT_MS = 2_000  # of sound: a beginning is found later than it was
MISMATCH_S = 0.3


class Recent:
    """The last stretch of sound heard, by position in milliseconds."""

    def __init__(self, kept_ms: int) -> None:
        self._frames: deque[Pcm] = deque()
        self._kept = kept_ms * MODEL_RATE // 1000
        self._held = 0
        self._end = 0

    def push(self, pcm: Pcm, end: int) -> None:
        """`end`: the position behind it, in samples."""
        self._frames.append(pcm)
        self._held += len(pcm)
        self._end = end
        while self._held - len(self._frames[0]) >= self._kept:
            self._held -= len(self._frames.popleft())

    def since(self, begin_ms: int) -> Pcm:
        if not self._frames:
            return np.empty(0, np.int16)
        sound = np.concatenate(self._frames)
        wanted = self._end - begin_ms * MODEL_RATE // 1000
        return sound[-wanted:] if 0 < wanted < len(sound) else sound


@dataclass(slots=True)
class Streamed:
    """An utterance that is recognised while it is spoken."""

    utterance: Utterance
    heard: list[str] = field(default_factory=list)
    samples: int = 0

    def push(self, pcm: Pcm) -> None:
        self.samples += len(pcm)
        self.utterance.push(pcm)


class Ear:
    """Hears one caller. `emit` gets SpeechStarted and SpeechStopped."""

    def __init__(self, parts: Parts, emit: Callable[[BackendEvent], None]) -> None:
        self._parts = parts
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._loudness = Loudness()
        self._recent = Recent(KEPT_MS)
        self._stream: VadStream | None = None
        self._endpointer: Endpointer | None = None
        self._fields: Mapping[str, Any] | None = None
        self._speaking = False
        self._hints: Hints | None = None
        self._streamed: Streamed | None = None
        self._finished: Streamed | None = None
        self._began_ms = 0
        self.wanted = Wanted()
        self.times: TurnTimes | None = None
        """Of the last turn that ended."""

    def configure(self, fields: Mapping[str, Any] | None) -> None:
        """`fields` is the session's turn_detection; None: the client says when a turn ends."""
        if fields == self._fields:
            return
        self._fields = fields
        self._drop_streamed()
        if self._stream is not None:
            # What was pushed under other terms is scored no more.
            self._stream.leave()
        self._stream, self._endpointer = None, None
        if fields is None:
            return
        if fields.get("type") == "semantic_vad":
            log.info("no turn model: semantic_vad waits for silence, by eagerness")
        position_ms = self._loudness.position * 1000 // MODEL_RATE
        self._endpointer = Endpointer(TurnDetection.parse(fields), position_ms)
        self._endpointer.agent_speaking = self._speaking
        self._stream = self._parts.load_vad().join(self._scored)
        self.expect(self._hints)

    def push(self, pcm: Pcm) -> None:
        self._loudness.push(pcm)
        if self._stream is None:
            return
        self._recent.push(pcm, self._loudness.position)
        if self._streamed is not None:
            self._streamed.push(pcm)
        self._stream.push(pcm)

    def agent_speaking(self, *, speaking: bool) -> None:
        self._speaking = speaking
        if self._endpointer is not None:
            self._endpointer.agent_speaking = speaking

    def expect(self, hints: Hints | None) -> None:
        self._hints = hints
        if self._endpointer is not None:
            self._endpointer.min_silence_ms = hints.pause_ms if hints else 0

    def take_utterance(self, samples: int) -> Streamed | None:
        """The recogniser that has heard the turn just committed, if it is that turn."""
        found, self._finished = self._finished, None
        if found is not None and abs(found.samples - samples) > MISMATCH_S * MODEL_RATE:
            found.utterance.abandon()
            return None
        return found

    def close(self) -> None:
        self.configure(None)

    def _scored(self, probability: float) -> None:
        if self._endpointer is None or self._stream is None:
            return
        match self._endpointer.hear(probability, self._stream.level_dbfs):
            case SpeechStarted() as event:
                self._started(event)
            case SpeechStopped() as event:
                self._stopped(event)
            case None:
                pass

    def _started(self, event: SpeechStarted) -> None:
        self._began_ms = event.audio_ms
        recogniser = self._parts.stt
        if isinstance(recogniser, Listens):
            self._drop_streamed()
            heard: list[str] = []
            self._streamed = Streamed(recogniser.listen(self.wanted, heard.append), heard)
            self._streamed.push(self._recent.since(event.audio_ms))
        self._emit(event)

    def _stopped(self, event: SpeechStopped) -> None:
        spoken_ms = self._loudness.voice_end_ms(self._began_ms, event.audio_ms)
        now = self._loop.time()
        heard_ms = self._loudness.position * 1000 / MODEL_RATE
        self.times = TurnTimes(spoken_at=now - (heard_ms - spoken_ms) / 1000, ended_at=now)
        self._finished, self._streamed = self._streamed, None
        self._emit(event)

    def _drop_streamed(self) -> None:
        for streamed in (self._streamed, self._finished):
            if streamed is not None:
                streamed.utterance.abandon()
        self._streamed = self._finished = None

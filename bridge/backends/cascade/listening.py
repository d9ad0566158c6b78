"""The caller's side of a cascade: where speech begins and ends, and who hears along."""

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bridge.backends.base import (
    MODEL_RATE,
    BackendEvent,
    HoldPlayout,
    Pcm,
    SpeechStarted,
    SpeechStopped,
)
from bridge.backends.cascade.echo_gate import EchoGate
from bridge.backends.cascade.ending import CHECK_MS, wait_for_words, wait_ms
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.stt import Hints, Listens, PocketSphinx, Utterance, Wanted
from bridge.backends.cascade.timings import Loudness, TurnTimes
from bridge.backends.cascade.turn import CHUNK_MS, Endpointer, TurnDetection
from bridge.backends.cascade.vad import VadStream
from bridge.errors import BridgeError
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

KEPT_MS = 2_000  # of sound: a beginning is found later than it was
KEPT_FOR_MODEL_MS = 8_000
MISMATCH_S = 0.3
DOUBT_MS = 1_100
"""Longer speech is no murmur, whatever its words are."""
MURMUR_PAUSE_MS = 224
"""After so much silence the words of what may have been a murmur are looked at."""
LOOK_S = 1.5
"""How long the agent stays paused for them."""


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


@dataclass(slots=True)
class Doubt:
    """Speech that has paused the agent and may be nothing but a murmur."""

    started: SpeechStarted
    voice_ms: int = 0
    looking: bool = False
    stopped: SpeechStopped | None = None
    """The turn ended while its words were still looked at."""


class Ear:
    """Hears one caller. `emit` gets SpeechStarted, SpeechStopped and HoldPlayout."""

    def __init__(self, parts: Parts, emit: Callable[[BackendEvent], None]) -> None:
        self._parts = parts
        self._emit = emit
        self._loudness = Loudness()
        self._tasks = TaskOwner("ear")
        self._recent = Recent(KEPT_FOR_MODEL_MS if parts.turn_model else KEPT_MS)
        self._echo = EchoGate() if parts.settings.echo_gate else None
        self._stream: VadStream | None = None
        self._endpointer: Endpointer | None = None
        self._fields: Mapping[str, Any] | None = None
        self._speaking = False
        self._hints: Hints | None = None
        self._streamed: Streamed | None = None
        self._finished: Streamed | None = None
        self._doubt: Doubt | None = None
        self._murmurs = {plain(word) for word in parts.settings.back_channels}
        self._began_ms = 0
        self._pause = 0
        self._judged = 0
        """The pauses so far, and the last that was asked about."""
        self.wanted = Wanted()
        self.cleaned: Pcm | None = None
        """Of what is pushed next: what words are looked for in."""
        self.times: TurnTimes | None = None
        """Of the last turn that ended."""

    def configure(self, fields: Mapping[str, Any] | None) -> None:
        """`fields` is the session's turn_detection; None: the client says when a turn ends."""
        if fields == self._fields:
            return
        self._fields = fields
        if self._doubt is not None:
            self._dismiss()
        self._drop_streamed()
        if self._stream is not None:
            # What was pushed under other terms is scored no more.
            self._stream.leave()
        self._stream, self._endpointer = None, None
        if fields is None:
            return
        if fields.get("type") == "semantic_vad" and self._parts.turn_model is None:
            log.info("no turn model: semantic_vad goes by words and silence")
        position_ms = self._loudness.position * 1000 // MODEL_RATE
        self._endpointer = Endpointer(TurnDetection.parse(fields), position_ms)
        self._endpointer.agent_speaking = self._speaking
        self._stream = self._parts.load_vad().join(self._scored)
        self.expect(self._hints)

    def push(self, pcm: Pcm) -> None:
        self._loudness.push(pcm, time.monotonic())
        if self._stream is None:
            return
        words = pcm if self.cleaned is None else self.cleaned
        self.cleaned = None
        self._recent.push(words, self._loudness.position)
        if self._echo is not None:
            self._echo.hear(pcm, self._loudness.position)
        if self._streamed is not None:
            self._streamed.push(words)
        self._stream.push(pcm)

    def played(self, pcm: Pcm) -> None:
        """What the caller gets to hear now."""
        if self._echo is not None and self._stream is not None:
            self._echo.play(pcm)

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

    async def close(self) -> None:
        self.configure(None)
        await self._tasks.close()

    def _scored(self, probability: float) -> None:
        endpointer = self._endpointer
        if endpointer is None or self._stream is None:
            return
        if probability >= endpointer.detection.threshold and self._is_echo(endpointer):
            probability = 0.0
        paused = endpointer.pause_ms
        event = endpointer.hear(probability, self._stream.level_dbfs)
        if endpointer.pause_ms and not paused:
            self._pause += 1
        match event:
            case SpeechStarted():
                self._started(event, endpointer)
            case SpeechStopped():
                self._stopped(event)
            case None if self._doubt is not None:
                self._doubts(self._doubt, endpointer)
            case None:
                self._goes_on(endpointer)

    def _is_echo(self, endpointer: Endpointer) -> bool:
        """Of the chunk that is scored now, which is not the last one pushed."""
        return self._echo is not None and self._echo.is_echo(endpointer.position_ms + CHUNK_MS)

    def _goes_on(self, endpointer: Endpointer) -> None:
        asks = endpointer.detection.eagerness and endpointer.pause_ms >= CHECK_MS - CHUNK_MS // 2
        if asks and self._judged != self._pause:
            self._judged = self._pause
            _ = self._tasks.spawn(self._judge(self._pause, endpointer), name="judge")

    async def _judge(self, pause: int, endpointer: Endpointer) -> None:
        """How long this pause may be; a pause that is over needs no verdict."""
        eagerness = endpointer.detection.eagerness
        model = self._parts.turn_model
        if model is not None:
            wait = wait_ms(await model.ended(self._recent.since(0)), eagerness)
        else:
            wait = wait_for_words(await self._words_so_far(), eagerness)
        if pause == self._pause and endpointer.pause_ms:
            endpointer.wait_ms = wait

    async def _words_so_far(self) -> str:
        """Of the turn under way; "" if the recogniser cannot tell."""
        if self._streamed is not None:
            return "".join(self._streamed.heard)
        if self._hints is not None or isinstance(self._parts.stt, PocketSphinx):
            # A grammar ends no phrase in the middle, and the words of a guess tell nothing.
            return ""
        try:
            sound = self._recent.since(self._began_ms)
            return await self._parts.transcribe(sound, self._hints, self.wanted)
        except BridgeError:
            return ""

    def _started(self, event: SpeechStarted, endpointer: Endpointer) -> None:
        self._began_ms = event.audio_ms
        recogniser = self._parts.stt
        if isinstance(recogniser, Listens):
            self._drop_streamed()
            heard: list[str] = []
            self._streamed = Streamed(recogniser.listen(self.wanted, heard.append), heard)
            self._streamed.push(self._recent.since(event.audio_ms))
        interrupts = (
            self._fields is not None and self._fields.get("interrupt_response") is not False
        )
        if self._parts.settings.pause_first and self._speaking and interrupts:
            self._doubt = Doubt(event, voice_ms=endpointer.voiced_ms)
            self._emit(HoldPlayout(held=True))
        else:
            self._emit(event)

    def _stopped(self, event: SpeechStopped) -> None:
        if self._doubt is not None:
            self._doubt.stopped = event
            self._look_at(self._doubt)
        else:
            self._end_turn(event)

    def _end_turn(self, event: SpeechStopped) -> None:
        spoken_at = self._loudness.voice_ended_at(self._began_ms, event.audio_ms)
        self.times = TurnTimes(spoken_at, ended_at=time.monotonic())
        self._finished, self._streamed = self._streamed, None
        self._emit(event)

    def _drop_streamed(self) -> None:
        for streamed in (self._streamed, self._finished):
            if streamed is not None:
                streamed.utterance.abandon()
        self._streamed = self._finished = None

    # Murmurs

    def _doubts(self, doubt: Doubt, endpointer: Endpointer) -> None:
        doubt.voice_ms += 0 if endpointer.pause_ms else CHUNK_MS
        heard = "".join(self._streamed.heard) if self._streamed is not None else ""
        if doubt.voice_ms >= DOUBT_MS or not self._is_murmur(heard):
            self._confirm(doubt)
        elif endpointer.pause_ms >= MURMUR_PAUSE_MS:
            self._look_at(doubt)

    def _look_at(self, doubt: Doubt) -> None:
        if not doubt.looking:
            doubt.looking = True
            _ = self._tasks.spawn(self._look(doubt, self._pause), name="murmur")

    async def _look(self, doubt: Doubt, pause: int) -> None:
        murmured = doubt.voice_ms < DOUBT_MS // 2
        try:
            async with asyncio.timeout(LOOK_S):
                sound = self._recent.since(doubt.started.audio_ms)
                words = await self._parts.transcribe(sound, self._hints, self.wanted)
            murmured = self._is_murmur(words)
        except (BridgeError, TimeoutError) as error:
            log.info("no words of a murmur", extra={"error": str(error)})
        if self._doubt is not doubt:
            return
        if not murmured:
            self._confirm(doubt)
        elif pause == self._pause or doubt.stopped is not None:
            self._dismiss()
        else:
            doubt.looking = False  # more was said meanwhile

    def _is_murmur(self, words: str) -> bool:
        said = plain(words)
        return said in self._murmurs or all(word in self._murmurs for word in said.split())

    def _confirm(self, doubt: Doubt) -> None:
        """An interruption: clients are told now, of when it began."""
        self._doubt = None
        self._emit(doubt.started)
        self._emit(HoldPlayout(held=False))
        if doubt.stopped is not None:
            self._end_turn(doubt.stopped)

    def _dismiss(self) -> None:
        """Nothing was said: the agent goes on where it stopped, and nobody hears of it."""
        self._doubt = None
        self._drop_streamed()
        if self._endpointer is not None:
            self._endpointer.forget()
        self._emit(HoldPlayout(held=False))


def plain(words: str) -> str:
    """Without case and punctuation."""
    return " ".join(re.sub(r"[^\w' ]+", " ", words.lower()).split())

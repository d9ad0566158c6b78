"""One response: the language model's text in, sentences out to the voice while more text comes."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bridge.backends.base import (
    MODEL_RATE,
    AudioDelta,
    BackendEvent,
    CallAction,
    Generate,
    MessageTerms,
    Pcm,
    ResponseFinished,
    TakeMessage,
    TextDelta,
    ToolCall,
)
from bridge.backends.cascade import llm
from bridge.backends.cascade.captions import Caption
from bridge.backends.cascade.http import may_pass
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.phrases import Phrase
from bridge.backends.cascade.script import TAKE_MESSAGE, TRANSFER
from bridge.backends.cascade.scripted import HANG_UP
from bridge.backends.cascade.sentences import SentenceSplitter
from bridge.backends.cascade.timings import TurnTimes
from bridge.errors import BackendError
from bridge.ids import ToolCallId
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 4  # a usual estimate, where the server counts none
REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
MAX_WAITING = 64  # sentences the model may be ahead of the voice


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the language model is asked."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Any = "auto"
    told_tools: frozenset[str] = frozenset()
    """Names of the tools whose calls the session hears of."""


@dataclass(slots=True)
class Clock:
    """The instants of the turn that a response answers; `times` is None for one unasked."""

    now: Callable[[], float]
    times: TurnTimes | None = None

    def token(self) -> None:
        if self.times is not None and self.times.token_at is None:
            self.times.token_at = self.now()

    def audio(self) -> None:
        if self.times is not None and self.times.audio_at is None:
            self.times.audio_at = self.now()

    def retried(self) -> None:
        if self.times is not None:
            self.times.retries += 1

    def apologised(self) -> None:
        if self.times is not None:
            self.times.apologised = True


@dataclass(slots=True)
class Speaker:
    """Text is told with the sound of it, so that a cut finds the words heard."""

    parts: Parts
    request: Generate
    send: Callable[[BackendEvent], None]
    clock: Clock
    said: list[str] = field(default_factory=list)
    called: bool = False
    """A tool of the session's: its result is waited for."""
    _splitter: SentenceSplitter = field(default_factory=SentenceSplitter)
    _waiting: asyncio.Queue[str | None] = field(default_factory=lambda: asyncio.Queue(MAX_WAITING))
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _voice_failed: bool = False
    _sounded: int = 0

    @property
    def silent(self) -> bool:
        return "audio" not in self.request.output_modalities

    async def answer(self, prompt: Prompt) -> ResponseFinished:
        """Raises BackendError when the model or the voice failed twice."""
        tasks = TaskOwner("voice")
        spoken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        _ = tasks.spawn(self._speak_all(spoken), name="speak")
        result = _Result()
        try:
            reading = tasks.spawn(self._read(prompt, result), name="read")
            await asyncio.wait((reading, spoken), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await spoken  # the voice failed while the model still wrote
            # A message comes before the calls that follow it.
            told = tasks.spawn(self._told.wait(), name="told")
            if result.wrote:
                await asyncio.wait((told, spoken), return_when=asyncio.FIRST_COMPLETED)
            self.called = bool(result.calls)
            for call in result.calls:
                self.send(call)
            await spoken
        finally:
            await tasks.close()
            if spoken.done() and not spoken.cancelled():
                spoken.exception()  # told above, or nobody is left to tell
        if result.error is not None:
            raise result.error
        return self._finished(prompt, result)

    async def say(self, text: str) -> None:
        """`text`, from the sound prepared if there is one. Raises BackendError."""
        told = f" {text}" if self.said else text
        ready = self._ready(text)
        if self.silent or ready is None:
            await self._speak(told)
            return
        self.clock.token()
        caption = Caption(told, self._sounded_ms, self._tell)
        caption.add(ready.words)
        for pcm in ready.sound:
            caption.sound()
            self._sound(pcm)
        caption.finish()

    async def apologise(self) -> None:
        """So that a failure is not silence. Never raises; a dead voice has only what is ready."""
        text = self.parts.settings.apology
        if not text or self.silent or (self._voice_failed and self._ready(text) is None):
            return
        self.clock.apologised()
        try:
            await self.say(text)
        except BackendError as error:
            log.warning("no apology", extra={"error": error.message})

    def _ready(self, text: str) -> Phrase | None:
        return self.parts.phrases.find(text, voice=self.request.voice, speed=self.request.speed)

    async def _read(self, prompt: Prompt, result: "_Result") -> None:
        try:
            async with aclosing(self._pieces(prompt)) as pieces:
                async for piece in pieces:
                    match piece:
                        case llm.Text(delta):
                            self.clock.token()
                            result.wrote = True
                            await self._feed(delta)
                        case llm.Call():
                            self._call(piece, prompt, result)
                        case llm.Finished():
                            result.finished = piece
        except BackendError as error:
            result.error = error
        for rest in self._splitter.finish():
            await self._waiting.put(rest)
        await self._waiting.put(None)

    async def _pieces(self, prompt: Prompt) -> AsyncGenerator[llm.Piece, None]:
        """The model's answer, asked for a second time if nothing of the first came."""
        limit_s = self.parts.settings.llm_timeout_s
        for last in (False, True):
            stream = self.parts.chat.stream(
                prompt.messages,
                tools=prompt.tools,
                tool_choice=prompt.tool_choice,
                max_tokens=self.request.max_output_tokens,
            )
            async with aclosing(stream) as pieces:
                try:
                    async with asyncio.timeout(limit_s):
                        first = await anext(pieces)
                except (BackendError, TimeoutError) as error:
                    failure = _late(error)
                    if last or not may_pass(failure):
                        raise failure from error
                    self._retry(failure)
                    continue
                yield first
                async for piece in pieces:
                    yield piece
                return

    def _call(self, call: llm.Call, prompt: Prompt, result: "_Result") -> None:
        chat = self.parts.chat
        if call.name == HANG_UP and chat.scripted:
            result.action = CallAction(self.request.response_id)
        if call.name == TRANSFER and chat.transfers and call.name not in prompt.told_tools:
            target = msgspec.json.decode(call.arguments, type=dict[str, str]).get("target", "")
            result.action = CallAction(self.request.response_id, "transfer", target)
        if call.name == TAKE_MESSAGE and chat.scripted and call.name not in prompt.told_tools:
            terms = msgspec.json.decode(call.arguments, type=MessageTerms)
            result.action = TakeMessage(self.request.response_id, terms)
        if call.name in prompt.told_tools:
            told = ToolCall(
                self.request.response_id, ToolCallId(call.call_id), call.name, call.arguments
            )
            result.calls.append(told)

    async def _feed(self, delta: str) -> None:
        if self.silent:
            self._tell(delta)
            return
        for piece in self._splitter.feed(delta):
            await self._waiting.put(piece)

    async def _speak_all(self, spoken: asyncio.Future[None]) -> None:
        failure: BackendError | None = BackendError("the voice failed")
        try:
            while (piece := await self._waiting.get()) is not None:
                await self._speak(piece)
            failure = None
        except BackendError as error:
            failure = error
        finally:
            # Whoever waits may have been cancelled, in this turn of the loop too.
            if not spoken.done():
                if failure is None:
                    spoken.set_result(None)
                else:
                    spoken.set_exception(failure)

    async def _speak(self, piece: str) -> None:
        """One piece of text; tried again if the voice fails before its first sound."""
        if self.silent:
            self._tell(piece)
            return
        for last in (False, True):
            caption = Caption(piece, self._sounded_ms, self._tell)
            stream = self.parts.tts.speak(
                piece.strip(),
                voice=self.request.voice,
                speed=self.request.speed,
                on_words=caption.add,
            )
            try:
                async with aclosing(stream) as sounds:
                    async for pcm in sounds:
                        if len(pcm):
                            caption.sound()
                            self._sound(pcm)
            except BackendError as error:
                if caption.begun or last or not may_pass(error):
                    self._voice_failed = True
                    raise
                self._retry(error)
                continue
            caption.finish()
            return

    def _retry(self, error: BackendError) -> None:
        self.clock.retried()
        log.info("model asked again", extra={"error": error.message})

    def _tell(self, text: str, audio_ms: float | None = None) -> None:
        self.said.append(text)
        self._told.set()
        self.send(TextDelta(self.request.response_id, text, audio_ms))

    @property
    def _sounded_ms(self) -> float:
        return self._sounded * 1000 / MODEL_RATE

    def _sound(self, pcm: Pcm) -> None:
        self.clock.audio()
        self._sounded += len(pcm)
        self.send(AudioDelta(self.request.response_id, pcm))

    def _finished(self, prompt: Prompt, result: "_Result") -> ResponseFinished:
        if result.action is not None:
            self.send(result.action)
        finished = result.finished
        usage = finished.usage or estimate(prompt.messages, "".join(self.said))
        reason = REASONS.get(finished.reason)
        return ResponseFinished(self.request.response_id, reason, usage)


@dataclass(slots=True)
class _Result:
    finished: llm.Finished = field(default_factory=lambda: llm.Finished("stop"))
    calls: list[ToolCall] = field(default_factory=list)
    wrote: bool = False
    action: CallAction | TakeMessage | None = None
    error: BackendError | None = None


def _late(error: BackendError | TimeoutError) -> BackendError:
    if isinstance(error, BackendError):
        return error
    return BackendError("the language model did not answer in time")


def estimate(messages: Sequence[Mapping[str, Any]], said: str) -> dict[str, int]:
    heard = sum(len(str(message.get("content") or "")) for message in messages)
    input_tokens = heard // CHARACTERS_PER_TOKEN
    output_tokens = len(said) // CHARACTERS_PER_TOKEN
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }

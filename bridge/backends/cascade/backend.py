"""The cascade: hears turns, turns speech into words, asks a language model, speaks its answer."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.backends.base import (
    MODEL_RATE,
    BackendEvent,
    Capabilities,
    Emit,
    Generate,
    Pcm,
    ResponseFailed,
    ResponseFinished,
    SpeechStarted,
    SpeechStopped,
    TranscriptCompleted,
    TranscriptDelta,
    TranscriptFailed,
    TurnTimed,
    greeting_instructions,
)
from bridge.backends.cascade.fillers import Fillers
from bridge.backends.cascade.http import may_pass
from bridge.backends.cascade.listening import Ear, Streamed
from bridge.backends.cascade.messages import (
    chat_messages,
    chat_tool_choice,
    chat_tools,
    pending_audio,
)
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.script import TAKE_MESSAGE, TRANSFER
from bridge.backends.cascade.scripted import HANG_UP
from bridge.backends.cascade.speaking import Clock, Prompt, Speaker, estimate
from bridge.backends.cascade.stt import Hints, Wanted
from bridge.backends.cascade.timings import TurnTimes
from bridge.backends.weighed import weights
from bridge.errors import BackendError, BridgeError
from bridge.ids import ItemId, ResponseId
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

TRANSCRIPT_MARGIN_S = 1.0  # a response waits a little longer than both attempts may take
GREETING_WAIT_S = 3.0  # of a call that rings: its greeting is made before it is answered
MAX_TRANSCRIPTS = 256  # items whose words are remembered here
HANG_UP_TOOL = {
    "type": "function",
    "function": {"name": HANG_UP, "description": "End the call after what was said."},
}

TRANSFER_TOOL = {
    "type": "function",
    "function": {"name": TRANSFER, "description": "Give the caller to `target`, after that."},
}

MESSAGE_TOOL = {
    "type": "function",
    "function": {"name": TAKE_MESSAGE, "description": "Record what the caller says after that."},
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What a turn of the caller's is to be turned into words from."""

    item_id: ItemId
    pcm: Pcm
    hints: Hints | None
    streamed: Streamed | None = None


class CascadeBackend:
    """One conversation; the models behind it are shared with every other."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._loop = asyncio.get_running_loop()
        self._tasks = TaskOwner("cascade")
        self._emit: Emit | None = None
        self._ear: Ear | None = None
        self._wanted = Wanted()
        self._responses: dict[ResponseId, asyncio.Task[Any]] = {}
        self._transcripts: OrderedDict[str, asyncio.Future[str]] = OrderedDict()
        self._hints: Hints | None = parts.chat.hints((), frozenset())
        self._turn: TurnTimes | None = None
        self._fillers = Fillers(parts, self._tasks, self._send)

    @property
    def capabilities(self) -> Capabilities:
        scripted = self._parts.chat.scripted
        return Capabilities(
            turn_detection=frozenset(("server_vad", "semantic_vad")),
            transcribes=True,
            hears_dtmf=scripted,
            greets=scripted,
            times_turns=True,
        )

    async def start(self, config: Mapping[str, Any], emit: Emit) -> None:
        await self._parts.start()
        self._emit = emit
        self._ear = Ear(self._parts, self._heard)
        self._ear.expect(self._hints)
        self.configure(config)
        await self._prepare(config)

    async def _prepare(self, config: Mapping[str, Any]) -> None:
        """The phrases that may be wanted at once, in the voice of this session."""
        output = (config.get("audio") or {}).get("output") or {}
        voice, speed = str(output.get("voice") or ""), float(output.get("speed") or 1.0)
        phrases = self._parts.phrases
        greeting = phrases.prepare(self._settings.greeting, voice=voice, speed=speed)
        making = self._tasks.spawn(greeting, name="greeting")

        async def the_rest() -> None:
            # Nothing is to keep the voice from the greeting.
            await asyncio.wait((making,))
            await phrases.prepare(self._settings.apology, voice=voice, speed=speed)
            await self._fillers.prepare(voice=voice, speed=speed)

        _ = self._tasks.spawn(the_rest(), name="phrases")
        await asyncio.wait((making,), timeout=GREETING_WAIT_S)

    def configure(self, config: Mapping[str, Any]) -> None:
        listening = (config.get("audio") or {}).get("input") or {}
        self._wanted = Wanted.parse(config)
        if self._ear is not None:
            self._ear.wanted = self._wanted
            self._ear.configure(listening.get("turn_detection"))

    def push_audio(self, pcm: Pcm) -> None:
        if self._ear is not None:
            self._ear.push(pcm)

    def cleaned(self, pcm: Pcm, /) -> None:
        if self._ear is not None:
            self._ear.cleaned = pcm

    def played(self, pcm: Pcm, /) -> None:
        if self._ear is not None:
            self._ear.played(pcm)

    def agent_speaking(self, speaking: bool, /) -> None:  # noqa: FBT001
        if self._ear is not None:
            self._ear.agent_speaking(speaking=speaking)
        self._fillers.agent_speaking(speaking=speaking)
        turn = self._turn
        if speaking and turn is not None and turn.audio_at is not None:
            turn.wire_at = time.monotonic()
            self._tell_times()

    def transcribe(self, item_id: ItemId, pcm: Pcm) -> None:
        if item_id in self._transcripts:
            return
        self._transcripts[item_id] = self._loop.create_future()
        if len(self._transcripts) > MAX_TRANSCRIPTS:
            _, oldest = self._transcripts.popitem(last=False)
            oldest.cancel()
        streamed = self._ear.take_utterance(len(pcm)) if self._ear is not None else None
        heard = Heard(item_id, pcm, self._hints, streamed)
        _ = self._tasks.spawn(self._transcribe(heard), name="transcribe")

    def generate(self, request: Generate) -> None:
        self._fillers.stop()
        task = self._tasks.spawn(self._generate(request), name="generate")
        self._responses[request.response_id] = task

    def cancel(self, response_id: ResponseId) -> None:
        task = self._responses.pop(response_id, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        self._emit = None
        self._responses.clear()
        ear, self._ear = self._ear, None
        if ear is not None:
            await ear.close()
        await self._tasks.close()
        for transcript in self._transcripts.values():
            transcript.cancel()

    def _send(self, event: BackendEvent) -> None:
        if self._emit is not None:
            self._emit(event)

    # Listening

    def _heard(self, event: BackendEvent) -> None:
        if isinstance(event, SpeechStarted):
            self._fillers.interrupt()
        if isinstance(event, SpeechStopped) and self._ear is not None:
            self._tell_times()
            self._turn = self._ear.times
        self._send(event)

    def _tell_times(self) -> None:
        """The record of a turn whose answer has begun, or that will have none."""
        turn, self._turn = self._turn, None
        if turn is not None:
            self._send(TurnTimed(turn.record()))

    def _expect(self, hints: Hints | None) -> None:
        self._hints = hints
        if self._ear is not None:
            self._ear.expect(hints)

    def _expect_after(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
    ) -> None:
        names = frozenset(tool["function"]["name"] for tool in tools)
        answered = [*messages, {"role": "assistant", "content": ""}]
        self._expect(self._parts.chat.hints(answered, names))

    async def _transcribe(self, heard: "Heard") -> None:
        transcript = self._transcripts[heard.item_id]
        turn = self._turn
        words = ""
        try:
            recognised = await self._recognise(heard)
        except BridgeError as error:
            self._send(TranscriptFailed(heard.item_id, error.message))
        else:
            # Nothing but str itself goes into JSON.
            words, length_s = str(recognised), len(heard.pcm) / MODEL_RATE
            self._send(TranscriptCompleted(heard.item_id, words, length_s, weights([recognised])))
        finally:
            if turn is not None and turn.heard_at is None:
                turn.heard_at = time.monotonic()
            # Without words the turn is answered all the same: as one not understood.
            if not transcript.done():
                transcript.set_result(words)

    async def _recognise(self, heard: "Heard") -> str:
        """Raises BridgeError when the recogniser failed twice."""
        try:
            if heard.streamed is not None:
                return await self._finish(heard.item_id, heard.streamed)
            return await self._parts.transcribe(heard.pcm, heard.hints, self._wanted)
        except BackendError as error:
            if not may_pass(error):
                raise
            if self._turn is not None:
                self._turn.retries += 1
            log.info("recogniser asked again", extra={"error": error.message})
            return await self._parts.transcribe(heard.pcm, heard.hints, self._wanted)

    async def _finish(self, item_id: ItemId, streamed: Streamed) -> str:
        told = len(streamed.heard)
        self._tell_pieces(item_id, streamed.heard)
        words = await streamed.utterance.finish()
        self._tell_pieces(item_id, streamed.heard[told:])
        return words

    def _tell_pieces(self, item_id: ItemId, heard: Sequence[str]) -> None:
        if delta := "".join(heard):
            self._send(TranscriptDelta(item_id, delta, weights(heard)))

    # Speaking

    async def _generate(self, request: Generate) -> None:
        response_id = request.response_id
        outcome: ResponseFinished | ResponseFailed = ResponseFailed(
            response_id, "server_error", "the response failed"
        )
        clock = Clock(time.monotonic, self._turn)
        speaker = Speaker(self._parts, request, self._sender(response_id), clock)
        try:
            outcome = await self._respond(request, speaker)
        except BridgeError as error:
            log.warning("response failed", extra={"error": error.message})
            await speaker.apologise()
            outcome = ResponseFailed(response_id, error.code or "server_error", error.message)
        finally:
            # Absent when cancelled; present even if something unforeseen was raised.
            if self._responses.pop(response_id, None) is not None:
                if speaker.called and isinstance(outcome, ResponseFinished):
                    self._fillers.tool_called(voice=request.voice, speed=request.speed)
                self._send(outcome)

    def _sender(self, response_id: ResponseId) -> Callable[[BackendEvent], None]:
        """Nothing follows a cancel."""

        def send(event: BackendEvent) -> None:
            if response_id in self._responses:
                self._send(event)

        return send

    async def _respond(self, request: Generate, speaker: Speaker) -> ResponseFinished:
        greeting = self._settings.greeting
        if greeting and request.instructions == greeting_instructions(greeting):
            await speaker.say(greeting)
            return ResponseFinished(request.response_id, None, estimate((), greeting))
        await self._await_transcripts(request)
        messages = chat_messages(request.items, request.instructions, self._words_of)
        tools = chat_tools(request.tools)
        names = frozenset(tool["function"]["name"] for tool in tools)
        chat = self._parts.chat
        offered = list(tools)
        if chat.scripted and HANG_UP not in names:
            offered.append(HANG_UP_TOOL)
        if chat.transfers and TRANSFER not in names:
            offered.append(TRANSFER_TOOL)
        if chat.takes_messages and TAKE_MESSAGE not in names:
            offered.append(MESSAGE_TOOL)
        # Before the answer, not after: it may be cancelled, and the next words come all the same.
        self._expect_after(messages, offered)
        choice = chat_tool_choice(request.tool_choice)
        return await speaker.answer(Prompt(messages, offered, choice, names))

    async def _await_transcripts(self, request: Generate) -> None:
        wanted = (self._transcripts.get(item_id) for item_id in pending_audio(request.items))
        pending = [transcript for transcript in wanted if transcript and not transcript.done()]
        if pending:
            limit_s = 2 * self._settings.stt.timeout_s + TRANSCRIPT_MARGIN_S
            await asyncio.wait(pending, timeout=limit_s)

    def _words_of(self, item_id: str) -> str:
        transcript = self._transcripts.get(item_id)
        done = transcript is not None and transcript.done() and not transcript.cancelled()
        return transcript.result() if transcript is not None and done else ""

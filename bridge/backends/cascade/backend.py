"""The cascade: hears turns, turns speech into words, asks a language model, speaks its answer."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from bridge.backends.base import (
    MODEL_RATE,
    AudioDelta,
    BackendEvent,
    CallAction,
    Capabilities,
    Emit,
    Generate,
    Pcm,
    ResponseFailed,
    ResponseFinished,
    TextDelta,
    ToolCall,
    TranscriptCompleted,
    TranscriptFailed,
)
from bridge.backends.cascade import llm
from bridge.backends.cascade.http import may_pass
from bridge.backends.cascade.messages import (
    chat_messages,
    chat_tool_choice,
    chat_tools,
    pending_audio,
)
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.scripted import HANG_UP
from bridge.backends.cascade.sentences import SentenceSplitter
from bridge.backends.cascade.stt import Hints, Wanted
from bridge.backends.cascade.turn import Endpointer, TurnDetection
from bridge.backends.cascade.vad import VadStream
from bridge.errors import BackendError, BridgeError
from bridge.ids import ItemId, ResponseId, ToolCallId
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

TRANSCRIPT_MARGIN_S = 1.0  # a response waits a little longer than both attempts may take
MAX_TRANSCRIPTS = 256  # items whose words are remembered here
CHARACTERS_PER_TOKEN = 4  # a usual estimate, where the server counts none
HANG_UP_TOOL = {
    "type": "function",
    "function": {"name": HANG_UP, "description": "End the call after what was said."},
}
REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


class CascadeBackend:
    """One conversation; the models behind it are shared with every other."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tasks = TaskOwner("cascade")
        self._emit: Emit | None = None
        self._stream: VadStream | None = None
        self._endpointer: Endpointer | None = None
        self._turn_detection: Mapping[str, Any] | None = None
        self._pushed_samples = 0
        self._agent_speaking = False
        self._responses: dict[ResponseId, asyncio.Task[Any]] = {}
        self._transcripts: OrderedDict[str, asyncio.Future[str]] = OrderedDict()
        self._wanted = Wanted()
        self._hints: Hints | None = parts.chat.hints((), frozenset())

    @property
    def capabilities(self) -> Capabilities:
        scripted = self._parts.chat.scripted
        return Capabilities(
            turn_detection=frozenset(("server_vad", "semantic_vad")),
            transcribes=True,
            hears_dtmf=scripted,
            greets=scripted,
        )

    async def start(self, config: Mapping[str, Any], emit: Emit) -> None:
        await self._parts.start()
        self._emit = emit
        self.configure(config)

    def configure(self, config: Mapping[str, Any]) -> None:
        listening = (config.get("audio") or {}).get("input") or {}
        self._wanted = Wanted.parse(listening.get("transcription"))
        fields = listening.get("turn_detection")
        if fields == self._turn_detection:
            return
        self._turn_detection = fields
        if self._stream is not None:
            self._stream.leave()
        self._stream, self._endpointer = None, None
        if fields is None:
            return
        if fields.get("type") == "semantic_vad":
            log.info("no turn model: semantic_vad waits for silence, by eagerness")
        position_ms = self._pushed_samples * 1000 // MODEL_RATE
        self._endpointer = Endpointer(TurnDetection.parse(fields), position_ms)
        self._endpointer.agent_speaking = self._agent_speaking
        self._stream = self._parts.load_vad().join(self._scored)
        self._expect(self._hints)

    def push_audio(self, pcm: Pcm) -> None:
        self._pushed_samples += len(pcm)
        if self._stream is not None:
            self._stream.push(pcm)

    def agent_speaking(self, speaking: bool, /) -> None:  # noqa: FBT001
        self._agent_speaking = speaking
        if self._endpointer is not None:
            self._endpointer.agent_speaking = speaking

    def transcribe(self, item_id: ItemId, pcm: Pcm) -> None:
        if item_id in self._transcripts:
            return
        self._transcripts[item_id] = asyncio.get_running_loop().create_future()
        if len(self._transcripts) > MAX_TRANSCRIPTS:
            _, oldest = self._transcripts.popitem(last=False)
            oldest.cancel()
        _ = self._tasks.spawn(self._transcribe(item_id, pcm, self._hints), name="transcribe")

    def generate(self, request: Generate) -> None:
        task = self._tasks.spawn(self._generate(request), name="generate")
        self._responses[request.response_id] = task

    def cancel(self, response_id: ResponseId) -> None:
        task = self._responses.pop(response_id, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        self._emit = None
        self._responses.clear()
        if self._stream is not None:
            self._stream.leave()
        await self._tasks.close()
        for transcript in self._transcripts.values():
            transcript.cancel()

    def _send(self, event: BackendEvent) -> None:
        if self._emit is not None:
            self._emit(event)

    def _scored(self, probability: float) -> None:
        if self._endpointer is not None:
            turn = self._endpointer.hear(probability)
            if turn is not None:
                self._send(turn)

    def _expect(self, hints: Hints | None) -> None:
        self._hints = hints
        if self._endpointer is not None:
            self._endpointer.min_silence_ms = hints.pause_ms if hints else 0

    def _expect_after(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
    ) -> None:
        names = frozenset(tool["function"]["name"] for tool in tools)
        answered = [*messages, {"role": "assistant", "content": ""}]
        self._expect(self._parts.chat.hints(answered, names))

    async def _transcribe(self, item_id: ItemId, pcm: Pcm, hints: Hints | None) -> None:
        transcript = self._transcripts[item_id]
        words = ""
        try:
            words = await self._recognise(pcm, hints)
        except BridgeError as error:
            self._send(TranscriptFailed(item_id, error.message))
        else:
            self._send(TranscriptCompleted(item_id, words, len(pcm) / MODEL_RATE))
        finally:
            # Without words the turn is answered all the same: as one not understood.
            if not transcript.done():
                transcript.set_result(words)

    async def _recognise(self, pcm: Pcm, hints: Hints | None) -> str:
        """Raises BridgeError when the recogniser failed twice."""
        try:
            return await self._parts.transcribe(pcm, hints, self._wanted)
        except BackendError as error:
            if not may_pass(error):
                raise
            log.info("recogniser asked again", extra={"error": error.message})
            return await self._parts.transcribe(pcm, hints, self._wanted)

    async def _generate(self, request: Generate) -> None:
        outcome: ResponseFinished | ResponseFailed = ResponseFailed(
            request.response_id, "server_error", "the response failed"
        )
        try:
            outcome = await self._respond(request)
        except BridgeError as error:
            log.warning("response failed", extra={"error": error.message})
            code = error.code or "server_error"
            outcome = ResponseFailed(request.response_id, code, error.message)
        finally:
            # Absent when cancelled; present even if something unforeseen was raised.
            if self._responses.pop(request.response_id, None) is not None:
                self._send(outcome)

    async def _respond(self, request: Generate) -> ResponseFinished:
        await self._await_transcripts(request)
        messages = chat_messages(request.items, request.instructions, self._words_of)
        tools = chat_tools(request.tools)
        names = frozenset(tool["function"]["name"] for tool in tools)
        offered = tools
        if self._parts.chat.scripted and HANG_UP not in names:
            offered = [*tools, HANG_UP_TOOL]
        # Before the answer, not after: it may be cancelled, and the next words come all the same.
        self._expect_after(messages, offered)
        said: list[str] = []
        voice = _Voice(self, request)
        finished = llm.Finished("stop")
        hangs_up = False
        pieces = self._parts.chat.stream(
            messages,
            tools=offered,
            tool_choice=chat_tool_choice(request.tool_choice),
            max_tokens=request.max_output_tokens,
        )
        async with aclosing(pieces):
            async for piece in pieces:
                match piece:
                    case llm.Text(delta):
                        said.append(delta)
                        self._send(TextDelta(request.response_id, delta))
                        await voice.feed(delta)
                    case llm.Call(call_id, name, arguments):
                        hangs_up = hangs_up or (name == HANG_UP and self._parts.chat.scripted)
                        if name in names:
                            tool_call_id = ToolCallId(call_id)
                            self._send(ToolCall(request.response_id, tool_call_id, name, arguments))
                    case llm.Finished():
                        finished = piece
        await voice.finish()
        if hangs_up:
            self._send(CallAction(request.response_id))
        usage = finished.usage or _estimate(messages, "".join(said))
        return ResponseFinished(request.response_id, REASONS.get(finished.reason), usage)

    async def _await_transcripts(self, request: Generate) -> None:
        wanted = (self._transcripts.get(item_id) for item_id in pending_audio(request.items))
        pending = [transcript for transcript in wanted if transcript and not transcript.done()]
        if pending:
            limit_s = 2 * self._parts.settings.stt.timeout_s + TRANSCRIPT_MARGIN_S
            await asyncio.wait(pending, timeout=limit_s)

    def _words_of(self, item_id: str) -> str:
        transcript = self._transcripts.get(item_id)
        done = transcript is not None and transcript.done() and not transcript.cancelled()
        return transcript.result() if transcript is not None and done else ""

    async def _speak(self, request: Generate, sentence: str) -> None:
        pieces = self._parts.tts.speak(sentence, voice=request.voice, speed=request.speed)
        async with aclosing(pieces):
            async for pcm in pieces:
                if len(pcm):
                    self._send(AudioDelta(request.response_id, pcm))


class _Voice:
    """Speaks the text of one response as it comes, unless only text was asked for."""

    def __init__(self, backend: CascadeBackend, request: Generate) -> None:
        self._backend = backend
        self._request = request
        self._splitter = SentenceSplitter()
        self._silent = "audio" not in request.output_modalities

    async def feed(self, delta: str) -> None:
        if not self._silent:
            await self._speak(self._splitter.feed(delta))

    async def finish(self) -> None:
        if not self._silent:
            await self._speak(self._splitter.finish())

    async def _speak(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            await self._backend._speak(self._request, sentence)


def _estimate(messages: Sequence[Mapping[str, Any]], said: str) -> dict[str, int]:
    heard = sum(len(str(message.get("content") or "")) for message in messages)
    input_tokens = heard // CHARACTERS_PER_TOKEN
    output_tokens = len(said) // CHARACTERS_PER_TOKEN
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }

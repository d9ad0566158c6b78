"""One response: its output items, the order of its events, its usage.

response.created comes first and response.done last, once; what was opened between is closed
whatever the end. The message stays open while tools are called: its sound may still be coming.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pybase64

from bridge.ids import ItemId, ResponseId
from bridge.realtime import server_events as events
from bridge.realtime.conversation import Conversation
from bridge.realtime.items import Item, Part, Words, assistant_message, function_call
from bridge.realtime.outbox import Outbox
from bridge.realtime.outputs import Pcm
from bridge.realtime.window import prompt_tokens

CANCELLED = {"type": "tool_execution_error", "message": "The call was cancelled."}
DELTA_SAMPLES = 24_000  # one second: 64 KB of base64, far below the clients' message limits


@dataclass(frozen=True, slots=True)
class Ending:
    """`status` and status_details of response.done."""

    status: str
    reason: str | None = None
    error: tuple[str, str] | None = None
    """Code and message of a failure."""

    def as_dict(self) -> dict[str, Any] | None:
        if self.error is not None:
            code, message = self.error
            error = {"type": "server_error", "code": code, "message": message}
            return {"type": self.status, "error": error}
        return None if self.reason is None else {"type": self.status, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class ResponseConfig:
    """What one response was asked to be: the session's values under the client's overrides."""

    instructions: str
    tools: tuple[Mapping[str, Any], ...]
    tool_choice: Any
    output_modalities: tuple[str, ...]
    voice: str
    speed: float
    output_format: Mapping[str, Any]
    max_output_tokens: Any
    truncation: Any = "auto"
    metadata: Mapping[str, str] | None = None
    in_conversation: bool = True
    input: tuple[Item, ...] | None = None


@dataclass(slots=True)
class Response:
    id: ResponseId
    config: ResponseConfig
    conversation: Conversation
    outbox: Outbox
    new_id: Callable[[str], str]
    encode: Callable[[Pcm], bytes] | None
    """None on a call: sound is played there, not sent."""
    context: tuple[Item, ...] = ()
    cancelling: bool = False
    """Told to stop, waiting for the playout to say what was heard."""
    output: list[Item] = field(default_factory=list)
    message: Item | None = None
    audible: bool = False
    generating: bool = True
    """The model is at it; false while it waits for tools."""
    running: dict[str, int] = field(default_factory=dict)
    """Calls of tool servers under way: item id to output index."""
    rounds: int = 0
    unread: bool = False
    """A tool has answered since the model was last asked."""
    used: Counter[str] = field(default_factory=Counter)
    _index: int = 0
    _part: Part | None = None

    @property
    def spoken_ms(self) -> int:
        return sum(part.audio_ms for item in self.output for part in item.content or ())

    @property
    def tokens_left(self) -> int | None:
        """Of max_output_tokens, by the rule that usage is counted with."""
        limit = self.config.max_output_tokens
        if not isinstance(limit, int):
            return None
        return max(0, limit - sum(item.tokens for item in self.output))

    @property
    def audio_expected(self) -> bool:
        return "audio" in self.config.output_modalities

    def open(self) -> None:
        self.outbox.send(events.response_created(self.as_dict("in_progress")))

    def add_text(self, delta: str, audio_ms: float | None = None) -> None:
        """`audio_ms`: where in the sound it begins, if that is known."""
        if not delta:
            return
        item, part = self._open_message()
        if not part.cut:
            assert part.words is not None
            if audio_ms is None:
                part.words.add(delta, part.audio_ms)
            else:
                part.words.add(delta, int(audio_ms), timed=True)
        name = "output_audio_transcript" if self.audio_expected else "output_text"
        event = events.part_event(f"response.{name}.delta", self.id, item.id, self._index)
        event["delta"] = delta
        self.outbox.send(event)

    def add_audio(self, pcm: Pcm) -> ItemId | None:
        """Returns the item it belongs to, or None if this response is silent."""
        if not self.audio_expected or not len(pcm):
            return None
        item, part = self._open_message()
        self.audible = True
        self.conversation.extend_audio(item, part, pcm)
        if self.encode is not None:
            for begin in range(0, len(pcm), DELTA_SAMPLES):
                data = self.encode(pcm[begin : begin + DELTA_SAMPLES])
                event = events.part_event(
                    "response.output_audio.delta", self.id, item.id, self._index
                )
                event["delta"] = pybase64.b64encode(data).decode("ascii")
                self.outbox.send(event)
        return item.id

    def add_tool_call(self, tool_call_id: str, name: str, arguments: str) -> None:
        item = function_call(ItemId(self.new_id("item")), tool_call_id, name)
        index = self._add_item(item)
        self.outbox.send(events.arguments_delta(self.id, item.id, index, tool_call_id, arguments))
        item.members["arguments"] = arguments
        self.outbox.send(events.arguments_done(self.id, index, item.as_dict()))
        self._complete(item, index, "completed")

    def add_item(self, item: Item) -> None:
        """An output item that is whole."""
        self._complete(item, self._add_item(item), "completed")

    def run_tool(self, item: Item, arguments: str) -> None:
        """The item of a call that a tool server is to answer."""
        index = self._add_item(item)
        self.outbox.send(events.mcp_arguments_delta(self.id, item.id, index, arguments))
        item.members["arguments"] = arguments
        self.outbox.send(events.mcp_arguments_done(self.id, item.id, index, arguments))
        self.outbox.send(events.mcp_call("in_progress", item.id, index))
        self.running[item.id] = index

    def tool_ran(self, item_id: str, output: str | None, error: Mapping[str, Any] | None) -> None:
        index = self.running.pop(item_id)
        item = self.output[index]
        item.members |= {"output": output, "error": error}
        self.outbox.send(events.mcp_call("failed" if error else "completed", item.id, index))
        self._complete(item, index, "completed")
        self.unread = True

    @property
    def awaits_client(self) -> bool:
        """Functions that only a client can answer were called."""
        return any(item.type == "function_call" for item in self.output)

    def end_message(self, status: str = "completed") -> ItemId | None:
        """Close the message that is open; what the model says next is another."""
        if (item := self.message) is None:
            return None
        self._close_message(item, status)
        self.message = self._part = None
        return item.id

    def close(self, ending: Ending, usage: Mapping[str, int]) -> None:
        for item_id in list(self.running):
            self.tool_ran(item_id, None, CANCELLED)
        self.end_message("completed" if ending.status == "completed" else "incomplete")
        self.used.update(usage)
        done = self.as_dict(ending.status, ending.as_dict(), self._usage(self.used))
        self.outbox.send(events.response_done(done))

    def as_dict(
        self,
        status: str,
        details: Mapping[str, Any] | None = None,
        usage: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        config = self.config
        output = {"format": dict(config.output_format), "voice": config.voice}
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": details,
            "output": [item.as_dict() for item in self.output],
            "conversation_id": self.conversation.id if config.in_conversation else None,
            "output_modalities": list(config.output_modalities),
            "max_output_tokens": config.max_output_tokens,
            "audio": {"output": output},
            "usage": usage,
            "metadata": config.metadata,
        }

    def _open_message(self) -> tuple[Item, Part]:
        if self.message is not None and self._part is not None:
            return self.message, self._part
        audio = self.audio_expected
        part = Part("output_audio" if audio else "output_text", Words(growing=True))
        item = assistant_message(ItemId(self.new_id("item")), part)
        # Added without content: the part is announced by its own event.
        item.content = []
        self._index = self._add_item(item)
        item.content = [part]
        event = events.part_event("response.content_part.added", self.id, item.id, self._index)
        event["part"] = (
            {"type": "audio", "transcript": ""} if audio else {"type": "text", "text": ""}
        )
        self.outbox.send(event)
        self.message, self._part = item, part
        return item, part

    def _add_item(self, item: Item) -> int:
        index = len(self.output)
        self.output.append(item)
        self.outbox.send(events.output_item_added(self.id, index, item.as_dict()))
        if self.config.in_conversation:
            previous = self.conversation.add(item)
            self.outbox.send(events.item_added(item.as_dict(), previous))
        return index

    def _close_message(self, item: Item, status: str) -> None:
        assert self._part is not None
        assert self._part.words is not None
        self._part.words.growing = status != "completed"
        text = str(self._part.words)
        for name, member in self._closing(text):
            event = events.part_event(name, self.id, item.id, self._index)
            self.outbox.send(event | member)
        self._complete(item, self._index, status)

    def _closing(self, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.audio_expected:
            yield "response.output_audio.done", {}
            yield "response.output_audio_transcript.done", {"transcript": text}
            part = {"type": "audio", "transcript": text}
        else:
            yield "response.output_text.done", {"text": text}
            part = {"type": "text", "text": text}
        yield "response.content_part.done", {"part": part}

    def _complete(self, item: Item, index: int, status: str) -> None:
        item.status = status
        self.outbox.send(events.output_item_done(self.id, index, item.as_dict()))
        # A client may have deleted it meanwhile.
        if self.config.in_conversation and item.id in self.conversation:
            previous = self.conversation.previous_id(item.id)
            self.outbox.send(events.item_done(item.as_dict(), previous))
            if item.unheard:
                self.conversation.delete(item.id)
                self.outbox.send(events.item_deleted(item.id))

    def _usage(self, known: Mapping[str, int]) -> dict[str, Any]:
        """Audio by OpenAI's rule; text as the model counted it, else estimated."""
        heard = sum(item.audio_tokens for item in self.context)
        read = sum(item.text_tokens for item in self.context)
        read += prompt_tokens(self.config.instructions, self.config.tools)
        spoken = sum(item.audio_tokens for item in self.output)
        written = sum(item.text_tokens for item in self.output)
        read = known.get("input_text_tokens", known.get("input_tokens", read + heard) - heard)
        written = known.get(
            "output_text_tokens", known.get("output_tokens", written + spoken) - spoken
        )
        read, written = max(0, read), max(0, written)
        cached = min(known.get("cached_tokens", 0), read)
        return {
            "total_tokens": read + heard + written + spoken,
            "input_tokens": read + heard,
            "output_tokens": written + spoken,
            "input_token_details": {
                "text_tokens": read,
                "audio_tokens": heard,
                "image_tokens": 0,
                "cached_tokens": cached,
                "cached_tokens_details": {
                    "text_tokens": cached,
                    "audio_tokens": 0,
                    "image_tokens": 0,
                },
            },
            "output_token_details": {"text_tokens": written, "audio_tokens": spoken},
        }

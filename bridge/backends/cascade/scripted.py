"""The embedded model: a script served as an OpenAI chat-completions endpoint, in this process.

There is no language understanding in it. It is stateless, as a language model is: where the
conversation stands is worked out from `messages` each time, so the cascade needs no second path.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from bridge.backends.cascade import script as scripts, script_file
from bridge.backends.cascade.script import TAKE_MESSAGE, Position, Records, Script
from bridge.backends.cascade.stt import Hints
from bridge.errors import ConfigError

PREFIX = "scripted:"
HANG_UP = "hang_up"
"""The tool a script calls to end the call."""
TRANSFER_FAILED = re.compile(r"\[transfer failed(?:: (\d{3}))?")
"""What the session tells of one begins so, with its status."""
MESSAGE = re.compile(r"\[message (taken|too short|failed)")
"""What it tells of a message that was to be recorded."""
MAX_BODY_BYTES = 8 * 1024 * 1024

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def utc_now() -> datetime:
    return datetime.now(UTC)


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


class _Request(msgspec.Struct):
    messages: list[dict[str, Any]]
    model: str = ""
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    stream: bool = False


def load(model: str, script_path: str = "") -> Script:
    """The script of `scripted:NAME`, or of `script_path`.

    Raises:
        ConfigError: there is none, or it is wrong.
    """
    if script_path:
        return script_file.load(Path(script_path))
    name = model.removeprefix(PREFIX)
    folder = Path(str(resources.files("bridge.backends.cascade")))
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError(
            f"no scripted model {name}; there is {', '.join(known)}, or set a script path",
            param="cascade.llm.model",
        )
    return script_file.load(folder / f"{name}.yaml")


def position(script: Script, messages: Sequence[Message], tools: frozenset[str]) -> Position:
    """Where the conversation stands after `messages`."""
    here, greeted = scripts.reached(script, Position(script.start), tools), False
    for message in messages:
        match message.get("role"):
            case "user":
                here = scripts.advance(script, here, text_of(message), tools)
                if here.misses and not greeted:
                    here = Position(script.start)  # they spoke first: greet them
            case "assistant":
                greeted = True
            case "tool":
                here = _after_tool(script, here)
            case "system":
                here = _told(script, here, text_of(message))
            case _:
                pass
        here = scripts.reached(script, here, tools)
    return here


def _after_tool(script: Script, here: Position) -> Position:
    records = script.states[here.state].records
    return Position(here.state if records is None else records.then)


def _told(script: Script, here: Position, news: str) -> Position:
    """After something has happened to the call."""
    if here.arrived_by and (failed := TRANSFER_FAILED.match(news)):
        return Position(here.arrived_by.failed or here.state, status=failed[1] or "")
    records = script.states[here.state].records
    if records is not None and (message := MESSAGE.match(news)):
        if message[1] == "taken":
            return Position(records.then)
        if message[1] == "failed":
            return Position(records.failed or script.give_up.to)
        return scripts.unheard(script, here)
    return here


def hints(script: Script, messages: Sequence[Message], tools: frozenset[str]) -> Hints:
    """What the script understands next: the grammar for the recogniser."""
    here = position(script, messages, tools)
    state = script.states[here.state]
    if state.anything and not here.asked:
        return Hints(pause_ms=state.pause_ms)
    intents = scripts.expected(script, here).values()
    phrases = tuple(phrase for intent in intents for phrase in intent.phrases)
    return Hints(phrases=phrases, pause_ms=state.pause_ms)


def text_of(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def reply(script: Script, messages: Sequence[Message], tools: frozenset[str]) -> Message:
    """The assistant's message."""
    here = position(script, messages, tools)
    calls: list[tuple[str, Mapping[str, Any]]] = []
    text = scripts.words_at(script, here)
    state = script.states[here.state]
    if here.arrived_by is not None:
        text = here.arrived_by.say
        calls.append((here.arrived_by.tool, here.arrived_by.arguments))
    elif state.records is not None and not here.asked and TAKE_MESSAGE in tools:
        calls.append((TAKE_MESSAGE, _terms(state.records)))
    elif state.hangs_up and HANG_UP in tools:
        calls.append((HANG_UP, {}))
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {
                "index": index,
                "id": f"call_{len(messages)}_{index}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(dict(arguments))},
            }
            for index, (name, arguments) in enumerate(calls)
        ]
    return message


def _terms(records: Records) -> Mapping[str, Any]:
    names = ("min_s", "max_s", "silence_s", "finish")
    return {name: getattr(records, name) for name in names}


class ScriptedModel:
    """The ASGI application: POST /v1/chat/completions, streamed or whole."""

    def __init__(self, script: Script, now: Callable[[], datetime] = utc_now) -> None:
        self._script = script
        self._now = now

    @property
    def script(self) -> Script:
        """As it is at this time."""
        return scripts.at(self._script, self._now())

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] != "POST" or not scope["path"].endswith("/chat/completions"):
            await _respond(send, 404, error("there is only POST /v1/chat/completions"))
            return
        body = bytearray()
        more = True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False) and len(body) <= MAX_BODY_BYTES
        try:
            request = msgspec.json.decode(bytes(body), type=_Request)
        except msgspec.MsgspecError as problem:
            await _respond(send, 400, error(str(problem)))
            return
        tools = frozenset(tool.function.name for tool in request.tools or ())
        if request.tool_choice == "none":
            tools = frozenset()
        message = reply(self.script, request.messages, tools)
        if request.stream:
            await _respond(send, 200, stream(request.model, message), "text/event-stream")
        else:
            await _respond(send, 200, msgspec.json.encode(completion(request.model, message)))


def completion(model: str, message: Message) -> Mapping[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": _reason(message)}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def stream(model: str, message: Message) -> bytes:
    """The message word by word, as server-sent events."""
    words = str(message["content"]).split(" ")
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word if first else f" {word}"} for first, word in _marked(words)]
    if "tool_calls" in message:
        deltas.append({"tool_calls": message["tool_calls"]})
    chunks = [_chunk(model, delta, None) for delta in deltas]
    chunks.append(_chunk(model, {}, _reason(message)))
    events = [b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks]
    return b"".join(events) + b"data: [DONE]\n\n"


def _marked(words: Sequence[str]) -> list[tuple[bool, str]]:
    return [(index == 0, word) for index, word in enumerate(words)]


def _reason(message: Message) -> str:
    return "tool_calls" if "tool_calls" in message else "stop"


def _chunk(model: str, delta: Mapping[str, Any], finish_reason: str | None) -> Mapping[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def error(message: str) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": "invalid_request_error"}})


async def _respond(
    send: Send, status: int, body: bytes, content_type: str = "application/json"
) -> None:
    headers = [(b"content-type", content_type.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

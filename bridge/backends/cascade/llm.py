"""Chat completions streamed over HTTP: the language model of a cascade."""

import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bridge.backends.cascade import scripted
from bridge.backends.cascade.http import (
    MAX_ERROR_CHARACTERS,
    ModelServer,
    ServerRefused,
    Transport,
    in_process,
)
from bridge.backends.cascade.settings import CascadeSettings
from bridge.backends.cascade.stt import Hints
from bridge.errors import BackendError, ConfigError


@dataclass(frozen=True, slots=True)
class Text:
    delta: str


@dataclass(frozen=True, slots=True)
class Call:
    """A whole tool call; `arguments` is JSON text."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    """`reason` is OpenAI's finish_reason: stop, length, tool_calls, content_filter."""

    reason: str
    usage: Mapping[str, int] = field(default_factory=dict)


Piece = Text | Call | Finished


class _FunctionDelta(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _CallDelta(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _FunctionDelta | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_CallDelta] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: dict[str, Any] | None = None


@dataclass(slots=True)
class _GrowingCall:
    call_id: str = ""
    name: str = ""
    arguments: str = ""


class ChatModel:
    """One model of one server. A `scripted:` model is served in this process, by the same path.

    Raises:
        ConfigError: the settings name no server, or a script that does not exist.
    """

    def __init__(self, settings: CascadeSettings, *, transport: Transport | None = None) -> None:
        self._model = settings.llm_model
        self._scripted: scripted.ScriptedModel | None = None
        base_url = settings.llm_base_url
        if settings.llm_model.startswith(scripted.PREFIX):
            script = scripted.load(settings.llm_model, settings.script_path)
            self._scripted = scripted.ScriptedModel(script)
            transport = in_process(self._scripted)
            base_url = "http://scripted/v1"
        elif not base_url:
            raise ConfigError(
                "a language model needs its server: set cascade.llm.base_url, "
                "for example http://127.0.0.1:11434/v1",
                param="cascade.llm.base_url",
            )
        self._server = ModelServer(
            "the language model",
            base_url,
            api_key=settings.llm_api_key,
            timeout_s=settings.llm_timeout_s,
            transport=transport,
        )
        # Servers differ in these; what one refuses is not asked of it again.
        self._limit_field = "max_tokens"
        self._counts_usage = True

    @property
    def scripted(self) -> bool:
        return self._scripted is not None

    @property
    def transfers(self) -> bool:
        """Whether a script transfers callers by itself."""
        return self._scripted is not None and self._scripted.script.transfers

    @property
    def takes_messages(self) -> bool:
        """Whether a script has callers recorded."""
        return self._scripted is not None and self._scripted.script.takes_messages

    def hints(self, messages: Sequence[Mapping[str, Any]], tools: frozenset[str]) -> Hints | None:
        """What a script expects to hear next; None from a model that takes anything."""
        if self._scripted is None:
            return None
        return scripted.hints(self._scripted.script, messages, tools)

    async def close(self) -> None:
        await self._server.close()

    async def stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        tool_choice: Any = "auto",
        max_tokens: int | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """Text as it comes, then calls, then Finished; closing the iterator ends the request.

        Raises:
            BackendError: the server is unreachable, refused, or broke off.
        """
        body: dict[str, Any] = {"model": self._model, "messages": list(messages), "stream": True}
        if tools:
            body |= {"tools": list(tools), "tool_choice": tool_choice}
        while True:
            if max_tokens is not None:
                body[self._limit_field] = max_tokens
            if self._counts_usage:
                body["stream_options"] = {"include_usage": True}
            try:
                async with aclosing(self._pieces(body)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except ServerRefused as error:
                if not self._yield_to(error):
                    raise
            body.pop("max_tokens", None)
            body.pop("stream_options", None)

    def _yield_to(self, error: ServerRefused) -> bool:
        """Whether to ask again without what this server does not know."""
        if error.status not in (400, 422):
            return False
        if self._counts_usage and "stream_options" in error.message:
            self._counts_usage = False
            return True
        if self._limit_field == "max_tokens" and "max_completion_tokens" in error.message:
            self._limit_field = "max_completion_tokens"
            return True
        return False

    async def _pieces(self, body: Mapping[str, Any]) -> AsyncGenerator[Piece, None]:
        calls: dict[int, _GrowingCall] = {}
        reason = ""
        usage: Mapping[str, int] = {}
        async with aclosing(self._chunks(body)) as chunks:
            async for chunk in chunks:
                if chunk.usage is not None:
                    usage = _usage(chunk.usage)
                for choice in chunk.choices[:1]:
                    reason = choice.finish_reason or reason
                    _grow(calls, choice.delta.tool_calls or ())
                    if choice.delta.content:
                        yield Text(choice.delta.content)
        for index, call in sorted(calls.items()):
            call_id = call.call_id or f"call_{secrets.token_hex(8)}_{index}"
            yield Call(call_id, call.name, call.arguments or "{}")
        yield Finished(reason or "stop", usage)

    async def _chunks(self, body: Mapping[str, Any]) -> AsyncGenerator[_Chunk, None]:
        content = msgspec.json.encode(body)
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        request = self._server.post("chat/completions", content=content, headers=headers)
        over = False
        async with request as answer, aclosing(answer.lines()) as lines:
            async for line in lines:
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or not data:
                    continue
                if data == "[DONE]":
                    return
                try:
                    chunk = msgspec.json.decode(data, type=_Chunk)
                except msgspec.MsgspecError as error:
                    raise BackendError("the language model sent no chat completion") from error
                if chunk.error is not None:
                    message = str(chunk.error.get("message", ""))[:MAX_ERROR_CHARACTERS]
                    raise BackendError(f"the language model failed: {message}")
                over = over or any(choice.finish_reason for choice in chunk.choices[:1])
                yield chunk
        # Servers that send no [DONE] are known; those that give neither have broken off.
        if not over:
            raise BackendError("the language model broke off its answer")


def _grow(calls: dict[int, _GrowingCall], deltas: Sequence[_CallDelta]) -> None:
    for delta in deltas:
        call = calls.setdefault(delta.index, _GrowingCall())
        call.call_id = delta.id or call.call_id
        if delta.function is not None:
            call.name += delta.function.name or ""
            call.arguments += delta.function.arguments or ""


def _usage(usage: _Usage) -> dict[str, int]:
    told = {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens:
        told["cached_tokens"] = usage.prompt_tokens_details.cached_tokens
    return told

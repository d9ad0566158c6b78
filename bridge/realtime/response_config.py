"""What response.create may override, read over the session's values."""

from collections.abc import Callable, Mapping
from typing import Any

from bridge.realtime import options
from bridge.realtime.conversation import Conversation
from bridge.realtime.errors import item_not_found
from bridge.realtime.fields import (
    Reader,
    array_of,
    as_name,
    as_object,
    as_text,
    missing,
    nullable,
    one_of,
    record,
)
from bridge.realtime.items import Decode, Item, parse_item
from bridge.realtime.response import ResponseConfig
from bridge.realtime.session_config import SessionConfig, voice_locked

MAX_INPUT = 1_000

# null is no override.
_READERS: dict[str, Reader] = {
    name: nullable(reader)
    for name, reader in {
        "instructions": as_text,
        "tools": options.tools,
        "tool_choice": options.tool_choice,
        "parallel_tool_calls": options.parallel_tool_calls,
        "reasoning": options.reasoning,
        "output_modalities": options.output_modalities,
        "max_output_tokens": options.max_output_tokens,
        "conversation": one_of("auto", "none"),
        "metadata": options.metadata,
        "prompt": options.prompt,
        "audio": record(
            {
                "output": nullable(
                    record(
                        {
                            "format": nullable(options.audio_format),
                            "voice": nullable(options.voice),
                        }
                    )
                )
            }
        ),
        "input": lambda value, path: value,
    }.items()
}
_read = record(_READERS)


def read_response(
    value: Mapping[str, Any],
    session: SessionConfig,
    *,
    conversation: Conversation,
    new_id: Callable[[str], str],
    decode: Decode,
    voice_is_locked: bool,
    strict_voice: bool,
) -> ResponseConfig:
    """Raises RequestError: with OpenAI's code and the dotted name of what is wrong."""
    found = {k: v for k, v in _read(value, "response").items() if v is not None}
    output = (found.get("audio") or {}).get("output") or {}
    voice = output.get("voice") or session.voice
    if voice != session.voice and voice_is_locked:
        if strict_voice:
            raise voice_locked()
        voice = session.voice
    given = None
    if "input" in found:
        given = _input(found["input"], conversation, new_id, decode)
    return ResponseConfig(
        instructions=found.get("instructions", session.instructions),
        tools=found.get("tools", session.tools),
        tool_choice=found.get("tool_choice", session.tool_choice),
        output_modalities=found.get("output_modalities", session.output_modalities),
        voice=voice,
        speed=session.speed,
        output_format=output.get("format") or session.output_format,
        max_output_tokens=found.get("max_output_tokens", session.max_output_tokens),
        truncation=session.truncation,
        metadata=found.get("metadata"),
        in_conversation=found.get("conversation") != "none",
        input=given,
    )


def _input(
    value: Any, conversation: Conversation, new_id: Callable[[str], str], decode: Decode
) -> tuple[Item, ...]:
    """Items of its own or references to the conversation's; an empty list is an empty context."""

    def read(element: Any, path: str) -> Item:
        found = as_object(element, path)
        if found.get("type") != "item_reference":
            return parse_item(found, path, new_id=new_id, decode=decode)
        if "id" not in found:
            raise missing(f"{path}.id")
        item = conversation.get(as_name(found["id"], f"{path}.id"))
        if item is None:
            raise item_not_found(found["id"], f"{path}.id")
        return item

    items: tuple[Item, ...] = array_of(read, most=MAX_INPUT)(value, "response.input")
    return items

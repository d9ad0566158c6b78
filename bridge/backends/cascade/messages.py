"""Realtime conversation items as chat-completions messages and tools."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Wire = Mapping[str, Any]
INAUDIBLE = "(inaudible)"
"""Stands for a turn in which no words were recognised: the model should know there was one."""


def chat_messages(
    items: Sequence[Wire], instructions: str, transcript_of: Callable[[str], str]
) -> list[dict[str, Any]]:
    """`transcript_of` gives the words of an item whose audio has no transcript yet."""
    messages: list[dict[str, Any]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for item in items:
        match item.get("type"):
            case "message":
                _add_message(messages, item, transcript_of)
            case "function_call":
                _add_call(messages, item)
            case "function_call_output":
                messages.append(
                    {
                        "role": "tool",
                        "tool_call_id": item.get("call_id", ""),
                        "content": item.get("output", ""),
                    }
                )
            case _:
                pass
    return messages


def _add_message(
    messages: list[dict[str, Any]], item: Wire, transcript_of: Callable[[str], str]
) -> None:
    role = item.get("role", "user")
    parts: list[dict[str, Any]] = []
    for content in item.get("content", ()):
        kind = content.get("type")
        if kind in ("input_text", "output_text", "text"):
            parts.append({"type": "text", "text": content.get("text") or ""})
        elif kind in ("input_audio", "output_audio", "audio"):
            words = content.get("transcript")
            if words is None and role == "user":
                words = transcript_of(item.get("id", ""))
            parts.append({"type": "text", "text": words or (INAUDIBLE if role == "user" else "")})
        elif kind == "input_image":
            parts.append({"type": "image_url", "image_url": {"url": content.get("image_url")}})
    if any(part["type"] != "text" for part in parts):
        messages.append({"role": role, "content": parts})
        return
    text = " ".join(part["text"] for part in parts if part["text"])
    if text or role == "user":
        messages.append({"role": role, "content": text})


def _add_call(messages: list[dict[str, Any]], item: Wire) -> None:
    call = {
        "id": item.get("call_id", ""),
        "type": "function",
        "function": {"name": item.get("name", ""), "arguments": item.get("arguments", "{}")},
    }
    last = messages[-1] if messages else {}
    if last.get("role") == "assistant":
        # Words and calls of one response are one chat message.
        last.setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def chat_tools(tools: Sequence[Wire]) -> list[dict[str, Any]]:
    """The function tools; others are run by somebody else."""
    names = ("name", "description", "parameters")
    return [
        {"type": "function", "function": {name: tool[name] for name in names if name in tool}}
        for tool in tools
        if tool.get("type") == "function"
    ]


def chat_tool_choice(choice: Any) -> Any:
    if isinstance(choice, Mapping):
        return {"type": "function", "function": {"name": choice.get("name", "")}}
    return choice


def pending_audio(items: Sequence[Wire]) -> list[str]:
    """Ids of user items whose audio has no transcript yet."""
    return [
        item["id"]
        for item in items
        if item.get("role") == "user"
        and any(
            content.get("type") == "input_audio" and content.get("transcript") is None
            for content in item.get("content", ())
        )
    ]

from typing import Any

from bridge.backends.cascade.messages import (
    INAUDIBLE,
    chat_messages,
    chat_tool_choice,
    chat_tools,
    pending_audio,
)


def said(text: str | None, item_id: str = "i", role: str = "user") -> dict[str, Any]:
    kind = "input_audio" if role == "user" else "output_audio"
    content = [{"type": kind, "transcript": text}]
    return {"type": "message", "id": item_id, "role": role, "content": content}


def test_roles_words_and_instructions() -> None:
    typed = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]}
    items = [said("Hi", role="assistant"), said("a"), typed]
    assert chat_messages(items, "Be brief.", str) == [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
    ]


def test_words_still_missing_come_from_the_recogniser() -> None:
    words = {"i": "goodbye"}
    assert chat_messages([said(None)], "", words.__getitem__) == [
        {"role": "user", "content": "goodbye"}
    ]
    assert chat_messages([said("")], "", str)[0]["content"] == INAUDIBLE
    assert chat_messages([said(None, role="assistant")], "", str) == []


def test_calls_join_the_words_of_their_response() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "done"}
    wire_call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert chat_messages([said("Wait.", role="assistant"), call, output], "", str) == [
        {"role": "assistant", "content": "Wait.", "tool_calls": [wire_call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]
    assert chat_messages([call], "", str) == [
        {"role": "assistant", "content": None, "tool_calls": [wire_call]}
    ]


def test_a_picture_keeps_its_place() -> None:
    content = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA"},
    ]
    item = {"type": "message", "role": "user", "content": content}
    assert chat_messages([item], "", str)[0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
    ]


def test_tools_are_nested_and_others_left_out() -> None:
    tools: list[dict[str, Any]] = [
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}},
        {"type": "mcp", "server_label": "s"},
    ]
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert chat_tools(tools) == [{"type": "function", "function": function}]
    assert chat_tool_choice("none") == "none"
    assert chat_tool_choice({"type": "function", "name": "f"}) == {
        "type": "function",
        "function": {"name": "f"},
    }


def test_which_items_wait_for_words() -> None:
    items = [said("a", "1"), said(None, "2"), said(None, "3", role="assistant"), said("", "4")]
    assert pending_audio(items) == ["2"]

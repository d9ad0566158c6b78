"""What agents-realtime would drop, which no other client's types say."""

from pathlib import Path
from typing import Any

import pytest

from tests.clients import dropped_by_zod

pytestmark = pytest.mark.interop("node", "@openai/agents-realtime")

CLOCK = {"name": "time", "input_schema": {"type": "object"}}


def listed(tool: dict[str, Any]) -> dict[str, Any]:
    item = {"type": "mcp_list_tools", "id": "item_2", "server_label": "clock", "tools": [tool]}
    return {"type": "conversation.item.done", "event_id": "event_2", "item": item}


def test_a_tool_without_its_description(tmp_path: Path) -> None:
    good, bad = listed({**CLOCK, "description": ""}), listed(CLOCK)
    assert dropped_by_zod([good, bad, good], tmp_path / "events") == [bad]


def test_what_it_does_not_know_is_not_dropped(tmp_path: Path) -> None:
    key = {"type": "input_audio_buffer.dtmf_event_received", "event_id": "event_1", "event": "5"}
    assert dropped_by_zod([key], tmp_path / "events") == []

"""Servers of tools and their items: kept and echoed, validated to the last member."""

from typing import Any

import pytest

from bridge.errors import RequestError
from bridge.realtime.session_config import SessionConfig
from tests.conftest import MakePlaybook

FILES = {"type": "mcp", "server_label": "files", "server_url": "https://x.test"}
CALL = {"type": "mcp_call", "id": "c", "server_label": "s", "name": "n", "arguments": "{}"}
ASK = {"type": "mcp_approval_request", "id": "ask", "server_label": "s", "name": "n"}


def session(*tools: dict[str, Any]) -> SessionConfig:
    return SessionConfig.create({"type": "realtime", "tools": list(tools)})


def test_what_opens_a_server_is_kept_and_never_told() -> None:
    tool = FILES | {
        "authorization": "secret",
        "headers": {"x-key": "secret"},
        "allowed_tools": {"read_only": True},
        "require_approval": {"never": {"tool_names": ["look"]}},
        "server_description": "Papers.",
    }
    config = session(tool, FILES | {"server_label": "two", "allowed_tools": ["a"]})
    assert config.tools[0]["authorization"] == "secret"
    told = config.as_dict("sess_1", 0)["tools"]
    assert "secret" not in str(told)
    assert told[0]["require_approval"] == {"never": {"tool_names": ("look",)}}
    session({"type": "mcp", "server_label": "m", "connector_id": "connector_gmail"})
    session({"type": "mcp", "server_label": "m", "tunnel_id": "t"})


@pytest.mark.parametrize(
    ("tools", "code", "param"),
    [
        ([{"type": "mcp"}], "missing_required_parameter", "[0].server_label"),
        ([{"type": "mcp", "server_label": "x"}], "missing_required_parameter", "[0].server_url"),
        ([FILES | {"tunnel_id": "t"}], "invalid_value", "[0].tunnel_id"),
        ([FILES, FILES], "invalid_value", "[1].server_label"),
        ([FILES | {"server_url": "file:///etc"}], "invalid_value", "[0].server_url"),
        ([FILES | {"connector_id": "connector_x"}], "invalid_value", "[0].connector_id"),
        ([FILES | {"headers": {"a": 1}}], "invalid_type", "[0].headers.a"),
        ([FILES | {"require_approval": "maybe"}], "invalid_value", "[0].require_approval"),
        ([FILES | {"allowed_tools": {"x": 1}}], "unknown_parameter", "[0].allowed_tools.x"),
        ([FILES | {"mood": 1}], "unknown_parameter", "[0].mood"),
    ],
)
def test_refused_servers(tools: list[dict[str, Any]], code: str, param: str) -> None:
    with pytest.raises(RequestError) as refused:
        session(*tools)
    assert (refused.value.code, refused.value.param) == (code, f"session.tools{param}")


@pytest.mark.parametrize(
    "error",
    [
        None,
        {"type": "protocol_error", "code": -32600, "message": "x"},
        {"type": "tool_execution_error", "message": "x"},
        {"type": "http_error", "code": 404, "message": "x"},
    ],
)
def test_a_failed_call_is_echoed(playbook: MakePlaybook, error: Any) -> None:
    book = playbook()
    book >> {"type": "conversation.item.create", "item": CALL | {"error": error}}
    assert book.events[0]["item"]["error"] == error


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (CALL | {"error": {"type": "bad"}}, "item.error.type"),
        (CALL | {"error": {}}, "item.error.type"),
        (CALL | {"error": {"type": "http_error", "message": "x"}}, "item.error.code"),
        (CALL | {"arguments": {}}, "item.arguments"),
        (
            {"type": "mcp_list_tools", "server_label": "s", "tools": [{"name": "a"}]},
            "item.tools[0].input_schema",
        ),
        (ASK, "item.arguments"),
        (
            {"type": "mcp_approval_response", "approval_request_id": "x", "approve": True},
            "item.approval_request_id",
        ),
    ],
)
def test_refused_items(playbook: MakePlaybook, item: dict[str, Any], param: str) -> None:
    book = playbook()
    book >> {"type": "conversation.item.create", "item": item}
    assert book.error()["param"] == param


def test_an_approval_names_its_request_once(playbook: MakePlaybook) -> None:
    book = playbook()
    book >> {"type": "conversation.item.create", "item": ASK | {"arguments": "{}"}}
    book.types()
    answer = {
        "type": "conversation.item.create",
        # No id, as agents-realtime sends it.
        "item": {"type": "mcp_approval_response", "approval_request_id": "ask", "approve": False},
        "previous_item_id": "ask",
    }
    book >> answer
    item = book.events[0]["item"]
    assert item["id"].startswith("item_")
    assert item["approve"] is False
    assert book.types() == ["conversation.item.added", "conversation.item.done"]
    book >> answer
    assert book.error()["param"] == "item.approval_request_id"

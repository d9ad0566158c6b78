"""Tools run here: asked for, called within the response, approved, cancelled."""

from typing import Any

import pytest

from bridge.realtime.outputs import CallTool, CancelTool, CloseServer, OpenServer, StartResponse
from tests.conftest import MakePlaybook, Playbook

CLOCK = {
    "type": "mcp",
    "server_label": "clock",
    "server_url": "https://clock.test/mcp",
    "require_approval": "never",
}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
TIME: dict[str, Any] = {
    "name": "time",
    "description": "The time.",
    "input_schema": SCHEMA,
    "annotations": {"readOnlyHint": True},
}
WIND: dict[str, Any] = {"name": "wind", "input_schema": SCHEMA}


def book_with(playbook: MakePlaybook, *tools: dict[str, Any], on_call: bool = True) -> Playbook:
    book = playbook(on_call=on_call, session={"tools": list(tools)})
    book.types()
    for order in book.orders:
        assert isinstance(order, OpenServer)
        book.server.tools_listed(order.label, [TIME, WIND])
    book.orders.clear()
    book.types()
    return book


def call(book: Playbook, name: str = "time", arguments: str = "{}") -> str:
    """The caller speaks and the model calls a tool; returns the response's id."""
    book.speak()
    response_id = book.started()
    book.types()
    book.server.tool_call(response_id, "call_1", name, arguments)
    book.pump()
    return response_id


def test_a_server_is_asked_when_it_is_named_and_not_again(playbook: MakePlaybook) -> None:
    book = playbook()
    book >> {"type": "session.update", "session": {"type": "realtime", "tools": [CLOCK]}}
    item = book.events[1]["item"]
    assert item == {
        "id": item["id"],
        "object": "realtime.item",
        "type": "mcp_list_tools",
        "server_label": "clock",
        "tools": [],
    }
    assert book.types() == [
        "session.updated",
        "conversation.item.added",
        "mcp_list_tools.in_progress",
    ]
    assert book.order(OpenServer).tool["server_url"] == "https://clock.test/mcp"
    book.server.tools_listed("clock", [TIME, WIND])
    book.pump()
    assert book.events[1]["item"]["tools"] == [TIME, {**WIND, "description": ""}]
    assert book.types() == ["mcp_list_tools.completed", "conversation.item.done"]

    book >> {"type": "session.update", "session": {"type": "realtime", "tools": [CLOCK]}}
    assert book.types() == ["session.updated"]
    book >> {"type": "session.update", "session": {"type": "realtime", "tools": []}}
    assert book.order(CloseServer).label == "clock"
    # Told too late.
    book.server.tools_listed("clock", [TIME])
    assert book.types() == ["session.updated"]


def test_a_server_that_cannot_be_asked_has_no_tools(playbook: MakePlaybook) -> None:
    book = playbook(session={"tools": [CLOCK]})
    book.types()
    book.server.tools_listed("clock", None)
    assert book.types() == ["mcp_list_tools.failed", "conversation.item.done"]
    book.speak()
    assert book.order(StartResponse).tools == ()


def test_the_response_goes_on_with_what_the_tool_said(playbook: MakePlaybook) -> None:
    book = book_with(playbook, CLOCK, on_call=False)
    book.speak()
    response_id = book.answer(text="Let me see.", ms=500)
    book.types()
    book.server.tool_call(response_id, "call_1", "time", '{"zone":"UTC"}')
    book.server.response_finished(response_id, None, {"input_tokens": 5, "output_tokens": 14}, 0.0)
    assert book.types() == [
        "response.output_item.added",
        "conversation.item.added",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.in_progress",
    ]
    order = book.order(CallTool)
    assert (order.label, order.name, order.arguments) == ("clock", "time", '{"zone":"UTC"}')
    assert order.response_id == response_id

    book.server.tool_ran(order.item_id, "noon", None, 0.0)
    assert book.types() == [
        "response.mcp_call.completed",
        "response.output_item.done",
        "conversation.item.done",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
    ]
    again = book.order(StartResponse)
    assert again.response_id == response_id
    asked, told = again.items[-2:]
    assert (asked["type"], asked["name"], asked["call_id"]) == ("function_call", "time", "call_1")
    assert (told["type"], told["output"]) == ("function_call_output", "noon")
    assert told["call_id"] == "call_1"

    book.server.text_delta(response_id, "It is noon.")
    book.server.response_finished(response_id, None, {"input_tokens": 9, "output_tokens": 3}, 0.0)
    book.pump()
    done = book.events[-1]["response"]
    assert [item["type"] for item in done["output"]] == ["message", "mcp_call", "message"]
    assert done["output"][1]["output"] == "noon"
    assert done["status"] == "completed"
    assert done["usage"]["output_tokens"] == 17
    assert book.types().count("response.done") == 1
    # What the next response is told of it.
    book.speak()
    kinds = [item["type"] for item in book.order(StartResponse).items]
    assert kinds == [
        *("message", "message", "function_call", "function_call_output", "message"),
        "message",
    ]


def test_a_tool_that_is_faster_than_the_end_of_the_answer(playbook: MakePlaybook) -> None:
    book = book_with(playbook, CLOCK)
    response_id = call(book)
    book.server.tool_ran(book.order(CallTool).item_id, "noon", None, 0.0)
    book.pump()
    assert not [order for order in book.orders if isinstance(order, StartResponse)]
    book.server.response_finished(response_id, None, {}, 0.0)
    assert book.order(StartResponse).response_id == response_id


def test_an_error_is_told_to_the_model(playbook: MakePlaybook) -> None:
    book = book_with(playbook, CLOCK)
    response_id = call(book)
    book.server.response_finished(response_id, None, {}, 0.0)
    book.types()
    error = {"type": "http_error", "code": 503, "message": "closed"}
    book.server.tool_ran(book.order(CallTool).item_id, None, error, 0.0)
    assert book.types()[0] == "response.mcp_call.failed"
    assert book.order(StartResponse).items[-1]["output"] == "closed"


def test_approval_is_asked_for_and_given(playbook: MakePlaybook) -> None:
    book = book_with(playbook, CLOCK | {"require_approval": "always"})
    response_id = call(book, arguments='{"a":1}')
    book.server.response_finished(response_id, None, {}, 0.0)
    book.pump()
    request = book.events[0]["item"]
    assert request["type"] == "mcp_approval_request"
    assert request["arguments"] == '{"a":1}'
    assert book.types() == [
        "response.output_item.added",
        "conversation.item.added",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    yes = {
        "type": "mcp_approval_response",
        "approval_request_id": request["id"],
        "approve": True,
    }
    book >> {"type": "conversation.item.create", "item": yes, "previous_item_id": request["id"]}
    order = book.order(CallTool)
    assert order.arguments == '{"a":1}'
    # The model has thought already: it is asked when the tool has answered.
    assert not [order for order in book.orders if isinstance(order, StartResponse)]
    book.server.tool_ran(order.item_id, "noon", None, 0.0)
    again = book.order(StartResponse)
    assert [item["type"] for item in again.items[-2:]] == ["function_call", "function_call_output"]
    assert again.items[-1]["output"] == "noon"
    assert again.items[-1]["call_id"] == "call_1"
    assert sum(item["type"] == "function_call" for item in again.items) == 1
    book.server.response_finished(again.response_id, None, {}, 0.0)
    book.pump()
    call_item = book.events[-1]["response"]["output"][0]
    assert call_item["approval_request_id"] == request["id"]


def test_approval_is_refused(playbook: MakePlaybook) -> None:
    book = book_with(playbook, CLOCK | {"require_approval": "always"})
    response_id = call(book)
    book.server.response_finished(response_id, None, {}, 0.0)
    book.pump()
    no = {
        "type": "mcp_approval_response",
        "approval_request_id": book.events[0]["item"]["id"],
        "approve": False,
        "reason": "Too dear.",
    }
    book.types()
    book >> {"type": "conversation.item.create", "item": no}
    told = book.order(StartResponse).items[-1]
    assert told["output"] == "The user did not approve this call. Too dear."
    assert not [order for order in book.orders if isinstance(order, CallTool)]


def test_approval_during_another_response_waits_for_its_end(playbook: MakePlaybook) -> None:
    book = book_with(playbook, CLOCK | {"require_approval": "always"})
    response_id = call(book)
    book.server.response_finished(response_id, None, {}, 0.0)
    book.pump()
    request_id = book.events[0]["item"]["id"]
    book >> {"type": "response.create"}
    other = book.started()
    yes = {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": True}
    book >> {"type": "conversation.item.create", "item": yes}
    assert not [order for order in book.orders if isinstance(order, CallTool)]
    book.server.response_finished(other, None, {}, 0.0)
    assert book.order(CallTool).response_id != other


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        (None, {"time", "wind"}),
        ("never", set()),
        ({"never": {"read_only": True}}, {"wind"}),
        ({"never": {"tool_names": ["wind"]}}, {"time"}),
        ({"always": {"tool_names": ["time"]}, "never": {"tool_names": ["time", "wind"]}}, {"time"}),
    ],
)
def test_who_must_be_asked(playbook: MakePlaybook, rule: Any, asked: set[str]) -> None:
    book = book_with(playbook, CLOCK | {"require_approval": rule})
    response_id = call(book, "time")
    book.server.tool_call(response_id, "call_2", "wind", "{}")
    book.pump()
    requests = [
        event["item"]["name"]
        for event in book.events
        if event["type"] == "conversation.item.done"
        and event["item"]["type"] == "mcp_approval_request"
    ]
    assert set(requests) == asked


@pytest.mark.parametrize(
    ("rule", "offered"),
    [
        (None, ["time", "wind"]),
        (["wind", "rain"], ["wind"]),
        ({"read_only": True}, ["time"]),
        ({"read_only": False}, ["wind"]),
        ({"tool_names": ["time"], "read_only": False}, []),
    ],
)
def test_only_allowed_tools_are_offered(
    playbook: MakePlaybook, rule: Any, offered: list[str]
) -> None:
    book = book_with(playbook, CLOCK | {"allowed_tools": rule})
    book.speak()
    assert [tool["name"] for tool in book.order(StartResponse).tools] == offered


def test_two_servers_with_one_name(playbook: MakePlaybook) -> None:
    other = CLOCK | {"server_label": "sundial"}
    function = {"type": "function", "name": "ring"}
    choice = {"type": "mcp", "server_label": "sundial", "name": "time"}
    book = book_with(playbook, CLOCK, function, other)
    book >> {"type": "session.update", "session": {"type": "realtime", "tool_choice": choice}}
    book.speak()
    order = book.order(StartResponse)
    names = [tool["name"] for tool in order.tools]
    assert names == ["time", "wind", "ring", "sundial_time", "sundial_wind"]
    assert order.tool_choice == {"type": "function", "name": "sundial_time"}
    book.server.tool_call(order.response_id, "call_1", "sundial_time", "{}")
    wanted = book.order(CallTool)
    assert (wanted.label, wanted.name) == ("sundial", "time")


def test_a_function_of_the_client_ends_the_response(playbook: MakePlaybook) -> None:
    book = book_with(playbook, CLOCK, {"type": "function", "name": "ring"})
    response_id = call(book)
    book.server.tool_call(response_id, "call_2", "ring", "{}")
    book.server.response_finished(response_id, None, {}, 0.0)
    assert "response.done" not in book.types()
    book.server.tool_ran(book.order(CallTool).item_id, "noon", None, 0.0)
    assert book.types()[-1] == "response.done"


def test_a_caller_who_interrupts_a_tool(playbook: MakePlaybook) -> None:
    book = book_with(playbook, CLOCK)
    response_id = call(book)
    book.server.response_finished(response_id, None, {}, 0.0)
    book.types()
    order = book.order(CallTool)
    book.speak()
    assert book.order(CancelTool).item_id == order.item_id
    types = book.types()
    assert types.index("response.mcp_call.failed") < types.index("response.done")
    book.server.tool_ran(order.item_id, "noon", None, 0.0)
    assert book.types() == []


def test_endless_tools_come_to_an_end(playbook: MakePlaybook) -> None:
    book = book_with(playbook, CLOCK)
    response_id = call(book)
    for _ in range(40):
        book.server.response_finished(response_id, None, {}, 0.0)
        book.pump()
        orders = [order for order in book.orders if isinstance(order, CallTool)]
        if not orders:
            break
        book.server.tool_ran(book.order(CallTool).item_id, "again", None, 0.0)
        if "response.done" in book.types():
            break
        book.server.tool_call(response_id, "call_1", "time", "{}")
    else:
        pytest.fail("the response goes on for ever")
    assert book.server.active_response_id is None

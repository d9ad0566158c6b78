"""A phone call whose model asks for tools of an MCP server in a process of its own."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.peers.mcp_server import TOKEN, McpProcess
from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import (
    FRAME_MS,
    LOUD,
    Conversation,
    Sideband,
    relay_tasks,
    said,
    staged,
    until,
)
from tests.peers.upstream_session import Session
from tests.ports import free_port

pytestmark = pytest.mark.e2e

ANSWER_MS = 600


class Client:
    """What a sideband does for the tools of its call."""

    def __init__(self, sideband: Sideband, talk: Conversation) -> None:
        self._sideband = sideband
        self._talk = talk

    async def ask(self, name: str, **arguments: Any) -> None:
        """Have the model call this tool."""
        text = f"Use the tool {name} {json.dumps(arguments)}"
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await self._sideband.send("conversation.item.create", item=item)
        await self._sideband.send("response.create")

    async def approve(self, *, yes: bool) -> None:
        """The call that is waiting for it."""
        await self._item("mcp_approval_request")
        (*_, request) = self._items("mcp_approval_request")
        answer = {"approval_request_id": request["id"], "approve": yes}
        item = {"type": "mcp_approval_response", **answer}
        await self._sideband.send("conversation.item.create", item=item)

    async def called(self, count: int) -> dict[str, Any]:
        """The `count`th call that ended, once the model has spoken about it."""
        heard = self._talk.heard_ms()
        assert await until(lambda: len(self._items("mcp_call")) == count, 10)
        assert await until(lambda: self._talk.heard_ms() >= heard + ANSWER_MS * 0.9, 5)
        return self._items("mcp_call")[-1]

    async def _item(self, kind: str) -> None:
        assert await until(lambda: bool(self._items(kind)), 5)

    def _items(self, kind: str) -> list[dict[str, Any]]:
        done = [e["item"] for e in self._sideband.events if e["type"] == "conversation.item.done"]
        return [item for item in done if item["type"] == kind]


def outputs(session: Session) -> list[str]:
    """What the model was told of its calls."""
    items = [e["item"] for e in session.received if e["type"] == "conversation.item.create"]
    return [item["output"] for item in items if item["type"] == "function_call_output"]


def server(process: McpProcess) -> dict[str, Any]:
    return {
        "type": "mcp",
        "server_label": "clock",
        "server_url": process.url,
        "authorization": TOKEN,
        "require_approval": {"never": {"tool_names": ["opening_hours", "book", "crash"]}},
    }


ON_THE_CALL = {
    "type": "mcp",
    "server_label": "call",
    "server_url": "call:tools",
    "allowed_tools": ["hold", "end_call"],
    "require_approval": "never",
}


def loud_s(session: Session) -> float:
    return float((np.abs(session.heard.astype(int)) > 1000).sum() / 24_000)


async def use_the_call(sideband: Sideband, talk: Conversation, far: Upstream) -> None:
    client = Client(sideband, talk)
    session = far.sessions[-1]
    before = loud_s(session)
    await client.ask("hold", seconds=1)
    await sideband.wait_for("response.mcp_call.in_progress", count=5)
    talk.phone.say(said(0.5))
    call = await client.called(5)
    assert (call["name"], call["error"]) == ("hold", None)
    assert loud_s(session) == before
    silent = len(talk.levels)
    await client.ask("end_call")
    # Not before its last word has been heard.
    await asyncio.wait_for(talk.phone.ended.wait(), 5)
    assert sum(level > LOUD for level in talk.levels[silent:]) * FRAME_MS >= ANSWER_MS * 0.9


async def use_tools(sideband: Sideband, talk: Conversation, far: Upstream) -> None:
    client = Client(sideband, talk)
    (session,) = far.sessions

    await client.ask("opening_hours", day="Monday")
    call = await client.called(1)
    assert (call["name"], call["error"]) == ("opening_hours", None)
    assert call["output"] == outputs(session)[-1] == "On Monday we are open from nine to five."

    await client.ask("think", seconds=0.1)
    await client.approve(yes=True)
    call = await client.called(2)
    assert call["approval_request_id"]
    assert call["output"] == outputs(session)[-1] == "done"

    await client.ask("book", day="Monday")
    call = await client.called(3)
    assert call["error"]["type"] == "tool_execution_error"
    assert "Monday is full" in outputs(session)[-1]

    await client.ask("crash")
    call = await client.called(4)
    assert call["error"] is not None
    assert sideband.types.count("response.mcp_call.failed") == 2


def test_tools_in_a_call(conforms: Callable[[dict[str, Any]], None]) -> None:
    async def main() -> None:
        far = Upstream(answer_ms=ANSWER_MS)
        with McpProcess(free_port()) as process:
            hosts = {"tools.mcp_hosts": [f"127.0.0.1:{process.port}"]}
            async with staged(far, hosts) as stage:
                talk = Conversation(await stage.call())
                async with stage.sideband() as sideband:
                    tools = {"type": "realtime", "tools": [server(process), ON_THE_CALL]}
                    await sideband.send("session.update", session=tools)
                    await sideband.wait_for("mcp_list_tools.completed", count=2)
                    assert await talk.turn(answer_ms=ANSWER_MS)
                    await use_tools(sideband, talk, far)
                    # The model is lost, and told again what its tools have said.
                    far.drop()
                    assert await until(lambda: len(far.sessions) == 2, 3)
                    assert await talk.turn(answer_ms=ANSWER_MS)
                    await use_the_call(sideband, talk, far)
                    await sideband.ended()
                await talk.phone.close()
        for event in sideband.events:
            conforms(event)
        assert "error" not in sideband.types
        assert [session.refused for session in far.sessions] == [[], []]
        first, second = far.sessions
        told = len(outputs(first))
        assert outputs(second)[:told] == outputs(first)
        # Neither the server nor its key is the model's business.
        assert TOKEN not in str([session.received for session in far.sessions])
        assert process.url not in str([session.received for session in far.sessions])
        assert not relay_tasks()

    asyncio.run(main())

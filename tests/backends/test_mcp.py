"""MCP against a server of the official library in a process of its own."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.backends.mcp import McpServers
from bridge.backends.tools import ToolError
from tests.peers.mcp_server import TOKEN, McpProcess
from tests.ports import free_port


@pytest.fixture(scope="module")
def clock() -> Iterator[McpProcess]:
    with McpProcess(free_port()) as process:
        yield process


def tool(process: McpProcess, **more: Any) -> dict[str, Any]:
    return {"type": "mcp", "server_label": "clock", "server_url": process.url} | more


def test_what_it_offers_and_answers(clock: McpProcess) -> None:
    async def scenario() -> None:
        servers = McpServers(["127.0.0.1"])
        async with servers.open(tool(clock, authorization=TOKEN)) as server:
            listed = {entry["name"]: entry for entry in await server.list()}
            assert set(listed) == {"opening_hours", "book", "think", "crash"}
            hours = listed["opening_hours"]
            assert hours["description"] == "When the shop is open on a day of the week."
            assert hours["annotations"]["readOnlyHint"] is True
            assert hours["input_schema"]["required"] == ["day"]
            answer = await server.call("opening_hours", {"day": "Monday"})
            assert answer == "On Monday we are open from nine to five."
            with pytest.raises(ToolError, match="Monday is full") as failed:
                await server.call("book", {"day": "Monday"})
            assert failed.value.as_dict()["type"] == "tool_execution_error"
            with pytest.raises(ToolError):
                await server.call("opening_hours", {"weekday": 1})
            with pytest.raises(ToolError):
                await server.call("unheard_of", {})

    asyncio.run(scenario())


def test_a_call_can_be_given_up(clock: McpProcess) -> None:
    async def scenario() -> None:
        async with McpServers(["127.0.0.1"]).open(tool(clock, authorization=TOKEN)) as server:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await server.call("think", {"seconds": 60})
            assert await server.call("think", {"seconds": 0}) == "done"

    asyncio.run(scenario())


def test_headers_open_a_server_too(clock: McpProcess) -> None:
    async def scenario() -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with McpServers(["127.0.0.1"]).open(tool(clock, headers=headers)) as server:
            assert await server.list()

    asyncio.run(scenario())


@pytest.mark.parametrize("authorization", [None, "wrong"])
def test_a_server_that_does_not_know_us(clock: McpProcess, authorization: str | None) -> None:
    async def scenario() -> None:
        servers = McpServers(["127.0.0.1"])
        with pytest.raises(ToolError):
            async with servers.open(tool(clock, authorization=authorization)) as server:
                await server.list()

    asyncio.run(scenario())


def test_a_server_that_is_not_there() -> None:
    async def scenario() -> None:
        nowhere = {"server_url": f"http://127.0.0.1:{free_port()}/mcp"}
        with pytest.raises(ToolError, match="cannot be reached"):
            async with McpServers(["127.0.0.1"]).open(nowhere):
                pass

    asyncio.run(scenario())


def test_a_server_that_dies(clock: McpProcess) -> None:
    async def scenario() -> None:
        with McpProcess(free_port()) as mortal:
            servers = McpServers([f"127.0.0.1:{mortal.port}"])
            # The library ends the task that holds the connection.
            with pytest.raises(ToolError, match="cannot be reached"):
                async with servers.open(tool(mortal, authorization=TOKEN)) as server:
                    await server.call("crash", {})

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ([], "https://tools.example.com/mcp"),
        (["tools.example.com"], "https://tools.example.com.evil.test/"),
        (["*.example.com"], "https://example.com/"),
        (["tools.example.com:443"], "https://tools.example.com:8443/"),
        (["tools.example.com"], "http://127.0.0.1/"),
        (["tools.example.com"], "https://tools.example.com@127.0.0.1/"),
        (["tools.example.com"], None),
    ],
)
def test_hosts_that_nobody_named_are_not_called(hosts: list[str], url: str | None) -> None:
    async def scenario() -> None:
        with pytest.raises(ToolError):
            async with McpServers(hosts).open({"server_url": url}):
                pytest.fail("called")

    asyncio.run(scenario())


def test_hosts_by_suffix() -> None:
    servers = McpServers(["*.Example.com"])
    assert servers._url({"server_url": "https://a.b.example.COM/x"}) == "https://a.b.example.COM/x"

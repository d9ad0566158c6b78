"""Tool servers that speak MCP over streamable HTTP; the only door to the mcp library.

The URL is a client's: only hosts that the operator named are called, and a redirect is followed
within its origin only.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bridge.backends.tools import ToolError

if TYPE_CHECKING:
    from mcp import Client

MAX_TOOLS = 256
MAX_OUTPUT = 64 * 1024  # characters of one answer that the model is told


class McpServers:
    """Opens the servers of sessions' `tools`.

    `hosts`: "tools.example.com", "*.example.com" or "127.0.0.1:8001"; without a port any is meant.
    """

    def __init__(self, hosts: Iterable[str], *, connect_timeout_s: float = 10.0) -> None:
        self._hosts = tuple(host.lower() for host in hosts)
        self._timeout_s = connect_timeout_s

    @contextlib.asynccontextmanager
    async def open(self, tool: Mapping[str, Any]) -> AsyncIterator["McpServer"]:
        url = self._url(tool)
        # Half a second and 60 MB: only sessions with MCP tools pay for it.
        try:
            import httpx2
            import mcp
            from mcp.client.streamable_http import streamable_http_client
        except ImportError as error:
            raise ToolError("MCP needs realtime-bridge[mcp] to be installed") from error
        headers = dict(tool.get("headers") or {})
        if tool.get("authorization"):
            headers["Authorization"] = f"Bearer {tool['authorization']}"
        with _faults():
            async with (
                httpx2.AsyncClient(
                    headers=headers, timeout=self._timeout_s, trust_env=False
                ) as http,
                mcp.Client(streamable_http_client(url, http_client=http)) as client,
            ):
                yield McpServer(client)

    def _url(self, tool: Mapping[str, Any]) -> str:
        url = tool.get("server_url")
        if url is None:
            raise ToolError("Only servers with a server_url can be called")
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if not any(_names(rule, host, parts.port) for rule in self._hosts):
            raise ToolError(f"{host} is not among the hosts of tools.mcp_hosts")
        return str(url)


class McpServer:
    def __init__(self, client: "Client") -> None:
        self._client = client

    async def list(self) -> Sequence[Mapping[str, Any]]:
        tools: list[dict[str, Any]] = []
        cursor = None
        with _faults():
            while len(tools) < MAX_TOOLS:
                page = await self._client.list_tools(cursor=cursor)
                tools += [_told(tool.model_dump(mode="json")) for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None:
                    break
        return tools[:MAX_TOOLS]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        with _faults():
            result = await self._client.call_tool(name, dict(arguments))
        text = "\n".join(part.text for part in result.content if part.type == "text")[:MAX_OUTPUT]
        if result.is_error:
            raise ToolError(text or "The tool failed.")
        return text


def _told(tool: Mapping[str, Any]) -> dict[str, Any]:
    told = {"name": tool["name"], "input_schema": tool.get("input_schema") or {"type": "object"}}
    if tool.get("description"):
        told["description"] = tool["description"]
    if tool.get("annotations"):
        hints = tool["annotations"]
        told["annotations"] = {_camel(k): v for k, v in hints.items() if v is not None}
    return told


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _names(rule: str, host: str, port: int | None) -> bool:
    name, _, wanted = rule.partition(":") if rule.count(":") == 1 else (rule, "", "")
    if wanted and wanted != str(port or ""):
        return False
    return host == name or (name.startswith("*.") and host.endswith(name[1:]))


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """What the library and the network raise, alone or in groups, as ToolError."""
    import httpx2
    from mcp import MCPError

    try:
        yield
    except BaseExceptionGroup as group:
        known, rest = group.split((ToolError, httpx2.HTTPError, MCPError, OSError, RuntimeError))
        if rest is not None or known is None:
            raise
        raise _error(_first(known)) from group
    except (httpx2.HTTPError, MCPError, OSError, RuntimeError) as error:
        raise _error(error) from error


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _error(error: BaseException) -> ToolError:
    if isinstance(error, ToolError):
        return error
    import httpx2
    from mcp import MCPError

    if isinstance(error, httpx2.HTTPStatusError):
        status = error.response.status_code
        return ToolError(f"The server answered {status}.", kind="http_error", number=status)
    if isinstance(error, MCPError):
        return ToolError(error.message, kind="protocol_error", number=error.code)
    return ToolError(f"The server cannot be reached: {type(error).__name__}.")

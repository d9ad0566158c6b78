"""What a tool server is to a session: tools to list, and calls that answer with text."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from bridge.errors import BridgeError


class ToolError(BridgeError):
    """A call failed; `as_dict()` is what mcp_call.error says of it."""

    def __init__(self, message: str, *, kind: str = "tool_execution_error", number: int = 0):
        super().__init__(message)
        self._kind = kind
        self._number = number

    def as_dict(self) -> dict[str, Any]:
        error: dict[str, Any] = {"type": self._kind, "message": self.message}
        return error if self._kind == "tool_execution_error" else error | {"code": self._number}


class ToolServer(Protocol):
    async def list(self) -> Sequence[Mapping[str, Any]]:
        """What it offers, in the shape of mcp_list_tools. Raises ToolError."""
        ...

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Raises ToolError. May be cancelled."""
        ...


def no_servers(tool: Mapping[str, Any]) -> AbstractAsyncContextManager[ToolServer]:
    """An Opener where no tool server may be called."""
    raise ToolError("Tool servers are not configured")


Opener = Callable[[Mapping[str, Any]], AbstractAsyncContextManager[ToolServer]]
"""Connects to the server of an entry of `tools`; entering raises ToolError."""

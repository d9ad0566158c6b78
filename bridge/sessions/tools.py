"""The tool servers of one session: a task for each connection and for each call."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.backends.tools import Opener, ToolError, ToolServer, no_servers
from bridge.realtime.outputs import CallTool, CancelTool, CloseServer, OpenServer
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

Order = OpenServer | CloseServer | CallTool | CancelTool


@dataclass(frozen=True, slots=True)
class ToolTimes:
    listing_s: float = 10.0
    call_s: float = 60.0


@dataclass(slots=True)
class _Connection:
    task: asyncio.Task[Any] | None = None
    server: ToolServer | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Tools:
    """`listed(label, tools or None)` and `ran(item_id, output, error)` are called on the loop."""

    def __init__(
        self,
        opener: Opener,
        *,
        listed: Callable[[str, Sequence[Mapping[str, Any]] | None], None],
        ran: Callable[[str, str | None, Mapping[str, Any] | None], None],
        times: ToolTimes = ToolTimes(),
    ) -> None:
        self._opener = opener
        self._listed = listed
        self._ran = ran
        self._times = times
        self._tasks = TaskOwner("tools")
        self._connections: dict[str, _Connection] = {}
        self._calls: dict[str, asyncio.Task[Any]] = {}

    def perform(self, order: Order) -> None:
        match order:
            case OpenServer(label, tool):
                self._leave(label)
                connection = self._connections[label] = _Connection()
                connection.task = self._tasks.spawn(
                    self._serve(label, tool, connection), name=f"server {label}"
                )
            case CloseServer(label):
                self._leave(label)
            case CallTool():
                self._calls[order.item_id] = self._tasks.spawn(
                    self._call(order), name=f"call {order.name}"
                )
            case CancelTool(item_id):
                if (task := self._calls.pop(item_id, None)) is not None:
                    task.cancel()

    async def close(self) -> None:
        for label in list(self._connections):
            self._leave(label)
        for task in self._calls.values():
            task.cancel()
        await self._tasks.settle(timeout_s=1.0)
        await self._tasks.close()
        self._opener, self._listed, self._ran = no_servers, _nobody, _nobody

    def _leave(self, label: str) -> None:
        connection = self._connections.pop(label, None)
        if connection is None:
            return
        connection.over.set()
        if connection.server is None and connection.task is not None:
            # Still connecting.
            connection.task.cancel()

    async def _serve(self, label: str, tool: Mapping[str, Any], connection: _Connection) -> None:
        """One task enters and leaves the connection: libraries tie both to it."""
        try:
            async with asyncio.timeout(self._times.listing_s) as limit:
                async with self._opener(tool) as server:
                    tools = await server.list()
                    limit.reschedule(None)
                    connection.server = server
                    if not connection.over.is_set():
                        self._listed(label, tools)
                    await connection.over.wait()
        except (ToolError, TimeoutError) as error:
            why = error.message if isinstance(error, ToolError) else "no answer in time"
            log.warning("tool server", extra={"server": label, "why": why})
            was_listed, connection.server = connection.server is not None, None
            if not was_listed and self._connections.get(label) is connection:
                self._listed(label, None)

    async def _call(self, order: CallTool) -> None:
        output: str | None = None
        error: Mapping[str, Any] | None = None
        try:
            async with asyncio.timeout(self._times.call_s):
                output = await self._answer(order)
        except ToolError as failure:
            error = failure.as_dict()
        except TimeoutError:
            error = ToolError(f"No answer within {self._times.call_s:g} s.").as_dict()
        if self._calls.pop(order.item_id, None) is not None:
            self._ran(order.item_id, output, error)

    async def _answer(self, order: CallTool) -> str:
        connection = self._connections.get(order.label)
        if connection is None or connection.server is None:
            raise ToolError("The server is not connected.")
        try:
            arguments = json.loads(order.arguments or "{}")
        except ValueError:
            raise ToolError("The arguments are not JSON.") from None
        if not isinstance(arguments, dict):
            raise ToolError("The arguments are not an object.")
        return await connection.server.call(order.name, arguments)


def _nobody(*_: object) -> None: ...

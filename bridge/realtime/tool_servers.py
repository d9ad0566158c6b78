"""MCP servers of a session's `tools`: what they offer, and how the model sees it as functions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.ids import ItemId
from bridge.realtime import server_events as events
from bridge.realtime.conversation import Conversation
from bridge.realtime.items import Item
from bridge.realtime.outbox import Outbox
from bridge.realtime.outputs import CloseServer, OpenServer

Wire = Mapping[str, Any]
LONGEST_NAME = 64  # of a function, for chat-completions servers
NOT_APPROVED = "The user did not approve this call."
NOT_ANSWERED = "The user has not yet said whether this call may be made."


@dataclass(frozen=True, slots=True)
class Target:
    """The tool behind a function's name."""

    server_label: str
    name: str
    needs_approval: bool


@dataclass(slots=True)
class _Server:
    tool: Wire
    item: Item
    offered: dict[str, Wire] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    """Function name to tool name."""


class ToolServers:
    def __init__(
        self, conversation: Conversation, outbox: Outbox, *, new_id: Callable[[str], str]
    ) -> None:
        self._conversation = conversation
        self._outbox = outbox
        self._new_id = new_id
        self._servers: dict[str, _Server] = {}

    def configure(self, tools: Iterable[Wire]) -> None:
        """Servers that are new or changed are asked what they offer."""
        wanted = {tool["server_label"]: tool for tool in tools if tool["type"] == "mcp"}
        for label in list(self._servers):
            if label not in wanted:
                del self._servers[label]
                self._outbox.put(CloseServer(label))
        for label, tool in wanted.items():
            known = self._servers.get(label)
            if known is None or known.tool != tool:
                self._open(label, tool)

    def _open(self, label: str, tool: Wire) -> None:
        members: dict[str, Any] = {"server_label": label, "tools": []}
        item = Item(ItemId(self._new_id("mcpl")), "mcp_list_tools", members)
        self._servers[label] = _Server(tool, item)
        previous = self._conversation.add(item)
        self._outbox.send(events.item_added(item.as_dict(), previous))
        self._outbox.send(events.mcp_list("in_progress", item.id))
        self._outbox.put(OpenServer(label, tool))

    def listed(self, label: str, tools: Sequence[Wire] | None) -> None:
        """What `label` offers, in the shape of mcp_list_tools; None: it could not be asked."""
        server = self._servers.get(label)
        if server is None:
            return
        item = server.item
        allowed = server.tool.get("allowed_tools")
        # agents-realtime drops the item if a tool lacks its description.
        kept = [{"description": "", **t} for t in tools or () if _matches(allowed, t)]
        item.members["tools"] = kept
        server.offered = {tool["name"]: tool for tool in kept}
        taken = {name for other in self._servers.values() for name in other.functions}
        server.functions = dict(_named(label, server.offered, taken))
        self._outbox.send(events.mcp_list("failed" if tools is None else "completed", item.id))
        if item.id in self._conversation:
            previous = self._conversation.previous_id(item.id)
            self._outbox.send(events.item_done(item.as_dict(), previous))

    def knows(self, label: str) -> bool:
        return label in self._servers

    def target(self, function: str) -> Target | None:
        for label, server in self._servers.items():
            if (name := server.functions.get(function)) is not None:
                asks = _needs_approval(server.tool.get("require_approval"), server.offered[name])
                return Target(label, name, asks)
        return None

    def functions(self, tools: Iterable[Wire]) -> tuple[Wire, ...]:
        """`tools` as the model gets them: functions only."""
        return tuple(function for tool in tools for function in self._functions_of(tool))

    def _functions_of(self, tool: Wire) -> Iterator[Wire]:
        if tool["type"] == "function":
            yield tool
            return
        server = self._servers.get(tool["server_label"])
        if server is None:
            return
        for function, name in server.functions.items():
            offered = server.offered[name]
            yield {
                "type": "function",
                "name": function,
                "description": offered["description"],
                "parameters": offered["input_schema"],
            }

    def choice(self, choice: Any) -> Any:
        """`tool_choice` in the model's terms."""
        if not isinstance(choice, Mapping) or choice["type"] != "mcp":
            return choice
        server = self._servers.get(choice["server_label"])
        for function, name in (server.functions if server else {}).items():
            if name == choice.get("name"):
                return {"type": "function", "name": function}
        return "required" if server and server.functions else "auto"

    def in_functions(self, items: Iterable[Item], *, sound: bool = False) -> tuple[Wire, ...]:
        """Items in wire shape, calls of tool servers as function calls with their output; with
        `sound`, those whose words are not known bring it."""
        items = tuple(items)
        answers = {
            item.members["approval_request_id"]: item.members
            for item in items
            if item.type == "mcp_approval_response"
        }
        return tuple(wire for item in items for wire in self._item(item, answers, sound=sound))

    def _item(self, item: Item, answers: Mapping[str, Wire], *, sound: bool) -> Iterator[Wire]:
        match item.type:
            case "mcp_call":
                yield from self._call(item, _output(item))
            case "mcp_approval_request":
                answer = answers.get(item.id)
                if answer is None:
                    yield from self._call(item, NOT_ANSWERED)
                elif not answer["approve"]:
                    yield from self._call(item, f"{NOT_APPROVED} {answer.get('reason') or ''}")
            case "mcp_list_tools" | "mcp_approval_response":
                return
            case _:
                untold = sound and any(part.words is None for part in item.content or ())
                yield item.as_dict(audio=untold)

    def _call(self, item: Item, output: str) -> Iterator[Wire]:
        label, name = item.members["server_label"], item.members["name"]
        server = self._servers.get(label)
        functions = server.functions if server else {}
        function = next((f for f, tool in functions.items() if tool == name), name)
        call_id = item.tool_call_id or item.id
        call = {"object": "realtime.item", "status": "completed", "call_id": call_id}
        arguments = item.members["arguments"]
        yield call | {
            "id": item.id,
            "type": "function_call",
            "name": function,
            "arguments": arguments,
        }
        # The id is nobody's: it is the same whenever this is told.
        yield call | {
            "id": f"{item.id}o",
            "type": "function_call_output",
            "output": output.strip(),
        }


def _output(item: Item) -> str:
    error = item.members.get("error")
    return item.members.get("output") or (error["message"] if error else "")


def _named(label: str, offered: Iterable[str], taken: set[str]) -> Iterator[tuple[str, str]]:
    """A function name for each tool: its own, with the server's in front where that is taken."""
    for name in offered:
        function = name if name not in taken else f"{label}_{name}"
        yield function[:LONGEST_NAME], name


def _matches(rule: Any, tool: Wire) -> bool:
    """`rule` is a list of names or a filter {tool_names, read_only}; None lets all through."""
    if rule is None:
        return True
    wanted = rule if isinstance(rule, Mapping) else {"tool_names": rule}
    names, read_only = wanted.get("tool_names"), wanted.get("read_only")
    if names is not None and tool["name"] not in names:
        return False
    hints = tool.get("annotations") or {}
    return read_only is None or bool(hints.get("readOnlyHint")) is read_only


def _needs_approval(rule: Any, tool: Wire) -> bool:
    if not isinstance(rule, Mapping):
        return bool(rule != "never")
    always, never = rule.get("always"), rule.get("never")
    if always is not None and _matches(always, tool):
        return True
    return never is None or not _matches(never, tool)

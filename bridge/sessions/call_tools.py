"""Tools that act on the call itself, offered to the model as the server "call:tools"."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from bridge.backends.tools import ToolError


class CallVerbs(Protocol):
    """What a model may do to its call; each raises BridgeError where it cannot."""

    def end_call(self) -> None:
        """Once what was said has been heard."""
        ...

    def transfer_call(self, target: str) -> None:
        """Likewise."""
        ...

    def send_digits(self, digits: str) -> None: ...

    async def hold(self, seconds: float) -> None:
        """Returns when the caller has waited for so long."""
        ...


MAX_HOLD_S = 50  # a call of a tool may take ten more


def _tool(name: str, description: str, **parameters: str | Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "input_schema": {
            "type": "object",
            "properties": {
                key: {"type": "string", "description": it} if isinstance(it, str) else it
                for key, it in parameters.items()
            },
            "required": list(parameters),
            "additionalProperties": False,
        },
    }


TOOLS = (
    _tool("end_call", "Hang up, once everything you have said has been heard. Say goodbye."),
    _tool(
        "transfer_call",
        "Transfer the caller, once everything you have said has been heard. Say so first.",
        target="A tel: or sip: URI, or a telephone number in international form.",
    ),
    _tool(
        "send_dtmf",
        "Press keys of the telephone, for menus that ask for them.",
        digits="Keys in order: 0-9, *, #, A-D.",
    ),
    _tool(
        "hold",
        "Have the caller wait, and hear a soft tone. You do not hear the caller meanwhile. Say so"
        " first; go on when this returns.",
        seconds={"type": "integer", "minimum": 1, "maximum": MAX_HOLD_S},
    ),
)
NAMES = tuple(tool["name"] for tool in TOOLS)


class CallTools:
    """A ToolServer."""

    def __init__(self, verbs: CallVerbs) -> None:
        self._verbs = verbs

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["CallTools"]:
        yield self

    async def list(self) -> Sequence[Mapping[str, Any]]:
        return TOOLS

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        match name:
            case "end_call":
                self._verbs.end_call()
                return "The call ends when you have finished speaking. Say goodbye."
            case "transfer_call":
                self._verbs.transfer_call(_text(arguments, "target"))
                return "The caller is transferred when you have finished speaking."
            case "send_dtmf":
                self._verbs.send_digits(_text(arguments, "digits"))
                return "The keys are being pressed."
            case "hold":
                await self._verbs.hold(_seconds(arguments))
                return "The caller has waited, and hears you again."
            case _:
                raise ToolError(f"There is no tool {name[:64]}.")


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise ToolError(f"'{name}' must be text.")
    return value


def _seconds(arguments: Mapping[str, Any]) -> float:
    value = arguments.get("seconds")
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 1 <= value <= MAX_HOLD_S
    ):
        raise ToolError(f"'seconds' must be a number from 1 to {MAX_HOLD_S}.")
    return float(value)

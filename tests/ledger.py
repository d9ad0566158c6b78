"""What the servers of a test run tell their clients: every event counted, each shape kept once.

A run is several processes. Each writes a file of its own into one folder, an event a line: whole
if its shape is new to the process, else its type only.
"""

import os
import secrets
import sys
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bridge.realtime.outbox import Outbox
from bridge.realtime.outputs import Output, Send

FOLDER = "EVENT_LEDGER"
"""The variable of the environment that names the folder."""
ROOT = Path(__file__).parents[1]

# Anything may stand here: all other strings are part of the shape.
_IDS = ("event_id", "id", "item_id", "previous_item_id", "response_id", "conversation_id")
_MORE_IDS = ("call_id", "approval_request_id", "obfuscation", "image_url")
_WORDS = ("delta", "text", "transcript", "audio", "arguments", "output", "message", "instructions")
_FREE = frozenset((*_IDS, *_MORE_IDS, *_WORDS))


def shape(value: Any, key: str = "") -> Hashable:
    """Equal for events that differ in nothing a schema could see."""
    match value:
        case str():
            return str if key in _FREE else value
        case bool() | None:
            return repr(value), bool
        case int() | float():
            return type(value), value < 0
        case Mapping():
            return tuple([(name, shape(member, name)) for name, member in value.items()])
        case list() | tuple():
            return frozenset([shape(member, key) for member in value]), list
        case _:
            raise TypeError(f"{type(value)} in an event")


class Ledger:
    """One file: `kind` says what it is of."""

    def __init__(self, folder: Path, kind: str) -> None:
        name = f"{kind}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        # Unbuffered: some of those who write are killed.
        self._file = (folder / name).open("ab", buffering=0)
        self._shapes: set[Hashable] = set()

    def write(self, event: Mapping[str, Any]) -> None:
        kind = shape(event)
        line = event["type"].encode()
        if kind not in self._shapes:
            self._shapes.add(kind)
            line = msgspec.json.encode(event)
        self._file.write(line + b"\n")

    def close(self) -> None:
        self._file.close()


def read(folder: Path, kind: str) -> tuple[Counter[str], Iterator[dict[str, Any]]]:
    """How many of each type, and one of each shape."""
    counted: Counter[str] = Counter()
    shapes: dict[Hashable, dict[str, Any]] = {}
    for path in folder.glob(f"{kind}-*.jsonl"):
        for line in path.read_bytes().splitlines():
            if line.startswith(b"{"):
                event = msgspec.json.decode(line)
                shapes.setdefault(shape(event), event)
                counted[event["type"]] += 1
            else:
                counted[line.decode()] += 1
    return counted, iter(shapes.values())


def listen(folder: Path) -> None:
    """Write down all that sessions of this process tell from now on."""
    ledger = Ledger(folder, "told")
    take = Outbox.take

    def overheard(outbox: Outbox) -> list[Output]:
        outputs = take(outbox)
        for output in outputs:
            if isinstance(output, Send):
                ledger.write(output.event)
        return outputs

    Outbox.take = overheard  # type: ignore[method-assign, assignment]


def command() -> list[str]:
    """What starts a server: as its users do, and overheard if somebody keeps a ledger."""
    return [sys.executable, "-m", "tests.overheard" if FOLDER in os.environ else "bridge"]

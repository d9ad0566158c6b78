"""What servers that speak the Realtime protocol refuse, and the faults that one can be told."""

import base64
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

Event = dict[str, Any]

RATE = 24_000

GARBAGE: tuple[str | bytes, ...] = (
    "{",
    '{"type": 7}',
    '{"type": "response.output_audio.delta", "response_id": "x", "delta": {"a": 1}}',
    '{"type": "session.updated", "session": []}',
    b"\xff\xfe\x00",
    "[" * 2000,
)

FaultKind = Literal["die", "close", "stall", "hang", "babble", "flood"]
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)
"""The connection breaks; is closed in good form; carries nothing more, not even a pong; nothing is
said on it but pongs; it brings garbage; it brings 20 000 events at once."""


@dataclass(frozen=True, slots=True)
class Fault:
    """After the `count`th event of type `at` of one connection."""

    kind: FaultKind
    at: str
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Fault | None":
        """From instructions: `fault=die@response.created#1`."""
        for word in text.split():
            if word.startswith("fault="):
                kind, _, rest = word.removeprefix("fault=").partition("@")
                at, _, count = rest.partition("#")
                return cls(cast(FaultKind, kind), at, int(count or 1))
        return None


@dataclass(frozen=True, slots=True)
class Rules:
    """What this server takes; everything else is answered with an error."""

    events: Collection[str] | None = None
    """Types of client events; None: all of OpenAI's."""
    fields: Collection[str] | None = None
    """Dotted leaf places of a session; None: all of OpenAI's."""
    needs_type: bool = True
    key_header: str = "authorization"
    key: str = "Bearer sk-upstream"
    query: str = "model"
    confirms: bool = True
    creates: str = "session.created"
    echoes_metadata: bool = True
    echoes_event_id: bool = True
    commits: bool = True
    """Tells of the items it makes of a turn."""
    creates_responses_late: bool = False
    deltas_of_text: bool = True
    item_fields: Collection[str] | None = None
    roles: Collection[str] = ("user", "assistant", "system")
    judged: bool = True
    """openai's types judge what clients send."""


def leaves(value: Event, prefix: str = "") -> list[str]:
    """Dotted places; formats, tools and the like are leaves."""
    found = []
    for name, inner in value.items():
        path = f"{prefix}{name}"
        whole = ("format", "transcription", "noise_reduction", "turn_detection")
        if isinstance(inner, dict) and name not in whole:
            found += leaves(inner, f"{path}.")
        else:
            found.append(path)
    return found


def merge(into: Event, patch: Event) -> None:
    for name, value in patch.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value


def tone(number: int) -> str:
    """A tenth of a second of a steady 500 Hz."""
    n = np.arange(number * RATE // 10, (number + 1) * RATE // 10)
    wave = (np.sin(n * 2 * np.pi * 500 / RATE) * 8000).astype("<i2")
    return base64.b64encode(wave.tobytes()).decode()

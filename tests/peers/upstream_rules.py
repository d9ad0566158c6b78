"""What servers that speak the Realtime protocol refuse, and the faults that one can be told."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

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
    response_fields: Collection[str] | None = None
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
    announces: bool = True
    """Tells that it begins to answer a turn."""
    structures: bool = True
    """Tells of items and parts of a response."""
    deltas_of_text: bool = True
    item_fields: Collection[str] | None = None
    roles: Collection[str] = ("user", "assistant", "system")
    contents: Mapping[str, Collection[str]] | None = None
    """By role; None: all of OpenAI's."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What its events are called instead."""
    coded: bool = True
    """Errors have a code; without, it stands in their type."""
    alone: bool = False
    """It takes one session at a time."""
    formats: Collection[str] = ("audio/pcm", "audio/pcmu", "audio/pcma")
    judged: bool = True
    """openai's types judge what clients send."""


_SESSION = frozenset(
    (
        *("type", "output_modalities", "instructions", "tools", "tool_choice", "truncation"),
        *(
            "parallel_tool_calls",
            "max_output_tokens",
            "audio.input.format",
            "audio.input.transcription",
        ),
        *("audio.input.noise_reduction", "audio.input.turn_detection", "audio.output.format"),
        *("audio.output.voice", "audio.output.speed"),
    )
)

AZURE = Rules(key_header="api-key", key="sk-upstream", fields=_SESSION)
"""OpenAI's of today, with a key of its own; tracing, prompts and reasoning are not there."""

BETA_NAMES = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "conversation.item.added": "conversation.item.created",
}
AZURE_PREVIEW = Rules(
    key_header="api-key",
    key="sk-upstream",
    query="deployment",
    needs_type=False,
    fields=frozenset(
        (
            *("modalities", "instructions", "voice", "tools", "tool_choice", "temperature"),
            *("input_audio_format", "output_audio_format", "input_audio_transcription"),
            *("turn_detection", "max_response_output_tokens"),
        )
    ),
    response_fields=frozenset(
        ("modalities", "instructions", "tools", "tool_choice", "conversation", "metadata", "input")
    ),
    contents={
        "user": ("input_text", "input_audio"),
        "assistant": ("text",),
        "system": ("input_text",),
    },
    names=BETA_NAMES,
    judged=False,
)
"""The API of 2025-04-01-preview: the beta's session and events."""

XAI = Rules(
    needs_type=False,
    events=frozenset(
        (
            *("session.update", "conversation.item.create", "response.create", "response.cancel"),
            *("input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear"),
        )
    ),
    fields=frozenset(
        (
            *("instructions", "voice", "tools", "turn_detection"),
            *("audio.input.format", "audio.output.format"),
        )
    ),
    response_fields=frozenset(("modalities", "output_modalities", "instructions")),
    creates="conversation.created",
    echoes_metadata=False,
    echoes_event_id=False,
    item_fields=frozenset(("type", "role", "content", "call_id", "output", "name", "arguments")),
    contents={
        "user": ("input_text",),
        "assistant": ("output_text", "text"),
        "system": ("input_text",),
    },
    judged=False,
)
"""As docs.x.ai/docs/guides/voice/agent has it."""

SPEECH_TO_SPEECH = Rules(
    events=frozenset(
        (
            *("session.update", "conversation.item.create", "response.create", "response.cancel"),
            *("input_audio_buffer.append", "input_audio_buffer.commit"),
        )
    ),
    confirms=False,
    echoes_metadata=False,
    echoes_event_id=False,
    commits=False,
    announces=False,
    structures=False,
    deltas_of_text=False,
    item_fields=frozenset(("id", "type", "role", "content", "call_id", "output")),
    roles=("user",),
    contents={"user": ("input_text",)},
    coded=False,
    alone=True,
    formats=("audio/pcm",),
)
"""As huggingface/speech-to-speech has it in api/openai_realtime: it takes what openai's types take
and drops what it has no use for, which is refused here."""


def leaves(value: Event, prefix: str = "") -> list[str]:
    """Dotted places; formats, tools and the like are leaves."""
    found = []
    for name, inner in value.items():
        path = f"{prefix}{name}"
        whole = ("format", "transcription", "noise_reduction", "turn_detection")
        if isinstance(inner, dict) and not name.endswith(whole):
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


def tone(number: int) -> NDArray[np.int16]:
    """A tenth of a second of a steady 500 Hz."""
    n = np.arange(number * RATE // 10, (number + 1) * RATE // 10)
    return (np.sin(n * 2 * np.pi * 500 / RATE) * 8000).astype(np.int16)

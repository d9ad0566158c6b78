"""What a RealtimeServer asks of its session: values to act on, in order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.ids import ItemId, ResponseId
from bridge.realtime.session_config import SessionConfig

Pcm = NDArray[np.int16]
"""Mono samples at 24 kHz, shape (samples,)."""

Coded = tuple[bytes, str]
"""The same as octets of G.711 at 8 kHz, and "PCMU" or "PCMA"."""


@dataclass(frozen=True, slots=True)
class Send:
    """One server event, to one client or, if `to` is None, to all."""

    event: dict[str, Any]
    to: str | None = None


@dataclass(frozen=True, slots=True)
class PushAudio:
    """A client appended this to the input buffer: the model must hear it."""

    pcm: Pcm


@dataclass(frozen=True, slots=True)
class Transcribe:
    item_id: ItemId
    pcm: Pcm


@dataclass(frozen=True, slots=True)
class StartResponse:
    """`items` is the context, oldest first, in wire shape without audio bytes."""

    response_id: ResponseId
    items: tuple[Mapping[str, Any], ...]
    instructions: str
    tools: tuple[Mapping[str, Any], ...]
    tool_choice: Any
    output_modalities: tuple[str, ...]
    voice: str
    speed: float
    max_output_tokens: int | None
    in_conversation: bool = True
    own_input: bool = False
    """`items` were given for this response alone."""


@dataclass(frozen=True, slots=True)
class CancelResponse:
    response_id: ResponseId


@dataclass(frozen=True, slots=True)
class Play:
    """More sound of the assistant message whose item id is `key`."""

    key: str
    pcm: Pcm
    coded: Coded | None = None


@dataclass(frozen=True, slots=True)
class FinishPlay:
    key: str


@dataclass(frozen=True, slots=True)
class ClearPlayout:
    """Empty the playout now, report each `playback_cut`, then call `playout_cleared`."""


@dataclass(frozen=True, slots=True)
class SendDigits:
    """Press these keys towards the far end; `client` asked for it in the event `event_id`."""

    digits: str
    client: str
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class OpenServer:
    """Connect to this tool server and ask what it offers; instead of the last of that label."""

    label: str
    tool: Mapping[str, Any]
    """As the client gave it: `authorization` and `headers` are secrets."""


@dataclass(frozen=True, slots=True)
class CloseServer:
    label: str


@dataclass(frozen=True, slots=True)
class CallTool:
    item_id: ItemId
    label: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""
    response_id: ResponseId


@dataclass(frozen=True, slots=True)
class CancelTool:
    item_id: ItemId


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    config: SessionConfig


Output = (
    Send
    | PushAudio
    | Transcribe
    | StartResponse
    | CancelResponse
    | Play
    | FinishPlay
    | ClearPlayout
    | SendDigits
    | OpenServer
    | CloseServer
    | CallTool
    | CancelTool
    | ConfigChanged
)

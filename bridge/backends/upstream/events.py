"""Server events of an upstream, decoded as far as they are acted upon."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pybase64

from bridge.backends.weighed import Logprob
from bridge.errors import PeerError

RENAMED = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "conversation.item.created": "conversation.item.added",
}
"""The beta's names, and what they are today."""


class _Head(msgspec.Struct):
    type: str


class Item(msgspec.Struct):
    id: str = ""
    type: str = ""
    role: str | None = None
    status: str | None = None
    name: str | None = None
    call_id: str | None = None
    arguments: str | None = None


class StatusDetails(msgspec.Struct):
    reason: str | None = None
    error: dict[str, Any] | None = None


class Response(msgspec.Struct):
    id: str = ""
    status: str | None = None
    status_details: StatusDetails | None = None
    metadata: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    conversation_id: str | None = None


class Session(msgspec.Struct):
    id: str | None = None
    expires_at: float | None = None


class Fault(msgspec.Struct):
    type: str | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None
    event_id: str | None = None

    @property
    def name(self) -> str | None:
        """Some servers have the code in place of the type."""
        return self.code or self.type


class Event(msgspec.Struct):
    type: str
    item_id: str = ""
    response_id: str = ""
    call_id: str | None = None
    name: str | None = None
    delta: str | None = None
    transcript: str | None = None
    text: str | None = None
    arguments: str | None = None
    audio_start_ms: float | None = None
    audio_end_ms: float | None = None
    item: Item | None = None
    response: Response | None = None
    session: Session | None = None
    error: Fault | None = None
    rate_limits: list[dict[str, Any]] | None = None
    logprobs: list[Logprob] | None = None


_head = msgspec.json.Decoder(_Head).decode
_event = msgspec.json.Decoder(Event).decode


def parse(text: str | bytes, known: frozenset[str]) -> Event | None:
    """None for a type that is not `known`.

    Raises:
        PeerError: this is no event, or one with values of wrong types.
    """
    try:
        event = _event(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if _known_by_name(text, known):
            raise PeerError(f"no Realtime event: {type(error).__name__}") from None
        return None
    event.type = RENAMED.get(event.type, event.type)
    return event if event.type in known else None


def _known_by_name(text: str | bytes, known: frozenset[str]) -> bool:
    """Others may have what values they like. True for what has no name."""
    try:
        kind = _head(text).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    return RENAMED.get(kind, kind) in known


def sound(event: Event) -> bytes:
    """Of an audio delta. Raises PeerError."""
    try:
        return pybase64.b64decode(event.delta or "", validate=True)
    except ValueError:
        raise PeerError("the audio is not base64") from None


def text_tokens(told: Mapping[str, Any]) -> dict[str, int]:
    """The text tokens that the model counted; sound is counted by our own rule."""
    read, written = told.get("input_token_details"), told.get("output_token_details")
    found = {
        "input_text_tokens": _of(read, "text_tokens"),
        "cached_tokens": _of(read, "cached_tokens"),
        "output_text_tokens": _of(written, "text_tokens"),
    }
    return {name: value for name, value in found.items() if isinstance(value, int) and value >= 0}


def _of(details: object, name: str) -> object:
    return details.get(name) if isinstance(details, Mapping) else None


# Answers to orders that crossed an event.
HARMLESS = frozenset(
    (
        "response_cancel_not_active",
        "conversation_already_has_active_response",
        "input_audio_buffer_commit_empty",
        "item_not_found",
    )
)
_SHAPED = frozenset(("conversation.item.added", "response.output_item.added"))


def check_shape(event: Event) -> None:
    """Raises PeerError for an event that lacks what it is about."""
    if event.response is None and event.item is None and event.type in _SHAPED:
        raise PeerError(f"{event.type} without its object")


def error_told(fault: Fault) -> dict[str, Any]:
    """The error event that clients get."""
    error = {
        "type": fault.type or "server_error",
        "code": fault.code,
        "message": fault.message or "The model's server reports an error.",
        "param": None,
        "event_id": None,
    }
    return {"type": "error", "error": error}

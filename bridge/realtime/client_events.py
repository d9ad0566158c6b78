"""The client's events, decoded by type: fields nobody asked for are skipped, not built.

Generic decoding of a hostile object can hold the loop for seconds, so what has no fixed shape
(session, item, response) stays raw until its structure has been counted.
"""

import re
from typing import Any, NoReturn

import msgspec
from msgspec import UNSET, Raw, UnsetType

from bridge.realtime.errors import BadEvent, invalid_json
from bridge.realtime.fields import as_object, missing, unsupported, wrong_type

MAX_EVENT = 21 * 1024 * 1024  # bytes: an append of 15 MiB in base64 and its envelope
MAX_SESSION = 1024 * 1024  # bytes: it is echoed to every client at each update
MAX_STRUCTURE = 32_768  # commas, or brackets of a kind, in one raw object: 5 ms of decoding


class ClientEvent(msgspec.Struct, frozen=True, tag_field="type"):
    event_id: str | None = None


class SessionUpdate(ClientEvent, frozen=True, tag="session.update"):
    session: Raw | UnsetType = UNSET


class InputAudioAppend(ClientEvent, frozen=True, tag="input_audio_buffer.append", kw_only=True):
    audio: str


class InputAudioCommit(ClientEvent, frozen=True, tag="input_audio_buffer.commit"):
    pass


class InputAudioClear(ClientEvent, frozen=True, tag="input_audio_buffer.clear"):
    pass


class OutputAudioClear(ClientEvent, frozen=True, tag="output_audio_buffer.clear"):
    pass


class ItemCreate(ClientEvent, frozen=True, tag="conversation.item.create"):
    item: Raw | UnsetType = UNSET
    previous_item_id: str | None = None


class ItemRetrieve(ClientEvent, frozen=True, tag="conversation.item.retrieve", kw_only=True):
    item_id: str


class ItemTruncate(ClientEvent, frozen=True, tag="conversation.item.truncate", kw_only=True):
    item_id: str
    content_index: int
    audio_end_ms: int


class ItemDelete(ClientEvent, frozen=True, tag="conversation.item.delete", kw_only=True):
    item_id: str


class ResponseCreate(ClientEvent, frozen=True, tag="response.create"):
    response: Raw | UnsetType = UNSET


class ResponseCancel(ClientEvent, frozen=True, tag="response.cancel"):
    response_id: str | None = None


class TranscriptionSessionUpdate(ClientEvent, frozen=True, tag="transcription_session.update"):
    """The beta's, in the beta's flat shape."""

    session: Raw | UnsetType = UNSET


class DtmfSend(ClientEvent, frozen=True, tag="transport.dtmf.send", kw_only=True):
    """Not OpenAI's: for clients that asked for extra events."""

    event: str


AnyClientEvent = (
    SessionUpdate
    | InputAudioAppend
    | InputAudioCommit
    | InputAudioClear
    | OutputAudioClear
    | ItemCreate
    | ItemRetrieve
    | ItemTruncate
    | ItemDelete
    | ResponseCreate
    | ResponseCancel
    | TranscriptionSessionUpdate
    | DtmfSend
)


class _Envelope(msgspec.Struct):
    type: Raw | UnsetType = UNSET
    event_id: Raw | UnsetType = UNSET


_decoder = msgspec.json.Decoder(AnyClientEvent)
_envelope = msgspec.json.Decoder(_Envelope)
_JSON_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
_EVENT_ID_LIMIT = 512
_TYPES = tuple(sorted(str(event.__struct_config__.tag) for event in AnyClientEvent.__args__))
OFFERED = tuple(name for name in _TYPES if not name.startswith("transport."))
"""What an error names as supported: extras are for those who know of them."""
_COMPLAINT = re.compile(
    r"(?:Expected `(?P<expected>[^`]+)`, got `(?P<got>\w+)`|"
    r"Object missing required field `(?P<missing>\w+)`|(?P<other>.*?))"
    r"(?: - at `\$\.(?P<path>[^`]*)`)?$",
    re.DOTALL,
)
_SAMPLES: dict[str, Any] = {
    "null": None,
    "bool": True,
    "int": 0,
    "float": 0.5,
    "str": "",
    "array": [],
    "object": {},
}
_EXPECTED = {"str": "a string", "int": "an integer", "str | null": "a string"}


def parse(text: str | bytes) -> AnyClientEvent:
    """One event.

    Raises:
        BadEvent: not JSON, no or unknown type, or a field missing or of a wrong type.
    """
    if len(text) > MAX_EVENT:
        raise BadEvent("The event is too large.", code="payload_too_large")
    try:
        event: AnyClientEvent = _decoder.decode(text)
    except msgspec.ValidationError as complaint:
        _diagnose(text, complaint)
    except _JSON_ERRORS:
        raise invalid_json() from None
    if event.event_id is not None and len(event.event_id) > _EVENT_ID_LIMIT:
        raise BadEvent(
            f"Invalid 'event_id': expected at most {_EVENT_ID_LIMIT} characters.", param="event_id"
        )
    return event


def decode_object(raw: Raw | UnsetType, path: str, *, most: int = MAX_EVENT) -> dict[str, Any]:
    """The object in an event that parsed; `path` is its dotted name, `most` its bytes.

    Raises:
        RequestError: missing, not an object, too long, or of more structure than clients need.
    """
    if raw is UNSET:
        raise missing(path)
    data = bytes(raw)
    if len(data) > most:
        raise BadEvent(f"Invalid '{path}': expected at most {most} bytes.", param=path)
    if any(data.count(mark) > MAX_STRUCTURE for mark in (b",", b"{", b"[")):
        raise BadEvent(f"Invalid '{path}': too many elements.", param=path)
    try:
        return as_object(msgspec.json.decode(data), path)
    except msgspec.ValidationError:
        raise BadEvent(f"Invalid '{path}': a number is out of range.", param=path) from None
    except _JSON_ERRORS:
        raise invalid_json() from None


def _diagnose(text: str | bytes, complaint: msgspec.ValidationError) -> NoReturn:
    """Say in OpenAI's words why a JSON text is no event."""
    try:
        envelope = _envelope.decode(text)
    except msgspec.ValidationError:
        raise BadEvent("The event is not an object.", code="invalid_event") from None
    except _JSON_ERRORS:
        raise invalid_json() from None
    bad = _complain(_string(envelope.type), envelope.type is UNSET, str(complaint))
    event_id = _string(envelope.event_id)
    if event_id is not None and len(event_id) <= _EVENT_ID_LIMIT:
        bad.event_id = event_id
    raise bad from None


def _complain(name: str | None, no_type: bool, complaint: str) -> BadEvent:  # noqa: FBT001
    if no_type:
        return BadEvent("Missing required parameter: 'type'.", code="invalid_event", param="type")
    if name is None:
        return BadEvent(
            "Invalid type for 'type': expected a string.", code="invalid_type", param="type"
        )
    if name not in _TYPES:
        error = unsupported("type", name, OFFERED)
    else:
        found = _COMPLAINT.match(complaint)
        path = (found and found["path"]) or ""
        if found and found["missing"]:
            error = missing(found["missing"])
        elif found and found["got"]:
            expected = _EXPECTED.get(found["expected"], found["expected"])
            error = wrong_type(path, expected, _SAMPLES.get(found["got"]))
        else:
            return BadEvent(f"Invalid '{path or name}': out of range.", param=path or None)
    return BadEvent(error.message, code=error.code, param=error.param)


def _string(raw: Raw | UnsetType) -> str | None:
    if raw is UNSET or len(bytes(raw)) > 4 * _EVENT_ID_LIMIT:
        return None if raw is UNSET else _start_of(bytes(raw))
    try:
        value = msgspec.json.decode(raw)
    except _JSON_ERRORS:
        return None
    return value if isinstance(value, str) else None


def _start_of(data: bytes) -> str | None:
    # A type of megabytes is unknown anyway: its beginning names it well enough.
    return data[1:64].decode(errors="replace") if data[:1] == b'"' else None

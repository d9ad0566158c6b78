"""The server's events as dicts, one function each; `event_id` is stamped when one is sent."""

from collections.abc import Mapping
from typing import Any

Event = dict[str, Any]
Wire = Mapping[str, Any]
Logprobs = tuple[Wire, ...]
"""Of each token that was heard; told only to sessions that include them."""


def session_created(session: Wire) -> Event:
    return {"type": "session.created", "session": session}


def session_updated(session: Wire) -> Event:
    return {"type": "session.updated", "session": session}


def transcription_session_updated(session: Wire) -> Event:
    """The beta's answer, in the beta's flat shape, to the client that used the beta's event."""
    return {"type": "transcription_session.updated", "session": session}


def error(
    kind: str, code: str | None, message: str, param: str | None, event_id: str | None
) -> Event:
    """`event_id` is that of the client's event: agents wait for it."""
    return {
        "type": "error",
        "error": {
            "type": kind,
            "code": code,
            "message": message,
            "param": param,
            "event_id": event_id,
        },
    }


def item_added(item: Wire, previous_item_id: str | None) -> Event:
    return {
        "type": "conversation.item.added",
        "previous_item_id": previous_item_id,
        "item": item,
    }


def item_done(item: Wire, previous_item_id: str | None) -> Event:
    return {"type": "conversation.item.done", "previous_item_id": previous_item_id, "item": item}


def item_retrieved(item: Wire) -> Event:
    return {"type": "conversation.item.retrieved", "item": item}


def item_truncated(item_id: str, audio_end_ms: int) -> Event:
    return {
        "type": "conversation.item.truncated",
        "item_id": item_id,
        "content_index": 0,
        "audio_end_ms": audio_end_ms,
    }


def item_deleted(item_id: str) -> Event:
    return {"type": "conversation.item.deleted", "item_id": item_id}


def transcription_delta(
    item_id: str, content_index: int, delta: str, logprobs: Logprobs = ()
) -> Event:
    return {
        "type": "conversation.item.input_audio_transcription.delta",
        "item_id": item_id,
        "content_index": content_index,
        "delta": delta,
        **({"logprobs": logprobs} if logprobs else {}),
    }


def transcription_completed(
    item_id: str, content_index: int, transcript: str, seconds: float, logprobs: Logprobs = ()
) -> Event:
    return {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": item_id,
        "content_index": content_index,
        "transcript": transcript,
        "usage": {"type": "duration", "seconds": seconds},
        **({"logprobs": logprobs} if logprobs else {}),
    }


def transcription_failed(item_id: str, content_index: int, message: str) -> Event:
    # agents-realtime drops the event if code or param is null.
    return {
        "type": "conversation.item.input_audio_transcription.failed",
        "item_id": item_id,
        "content_index": content_index,
        "error": {"type": "server_error", "message": message},
    }


def input_committed(item_id: str, previous_item_id: str | None) -> Event:
    return {
        "type": "input_audio_buffer.committed",
        "previous_item_id": previous_item_id,
        "item_id": item_id,
    }


def input_cleared() -> Event:
    return {"type": "input_audio_buffer.cleared"}


def speech_started(item_id: str, audio_start_ms: int) -> Event:
    return {
        "type": "input_audio_buffer.speech_started",
        "audio_start_ms": audio_start_ms,
        "item_id": item_id,
    }


def speech_stopped(item_id: str, audio_end_ms: int) -> Event:
    return {
        "type": "input_audio_buffer.speech_stopped",
        "audio_end_ms": audio_end_ms,
        "item_id": item_id,
    }


def timeout_triggered(item_id: str, audio_start_ms: int, audio_end_ms: int) -> Event:
    return {
        "type": "input_audio_buffer.timeout_triggered",
        "audio_start_ms": audio_start_ms,
        "audio_end_ms": audio_end_ms,
        "item_id": item_id,
    }


def dtmf_received(digit: str, received_at: int) -> Event:
    return {
        "type": "input_audio_buffer.dtmf_event_received",
        "event": digit,
        "received_at": received_at,
    }


def transport(kind: str, fields: Wire) -> Event:
    return {"type": kind, **fields}


def output_started(response_id: str) -> Event:
    return {"type": "output_audio_buffer.started", "response_id": response_id}


def output_stopped(response_id: str) -> Event:
    return {"type": "output_audio_buffer.stopped", "response_id": response_id}


def output_cleared(response_id: str) -> Event:
    return {"type": "output_audio_buffer.cleared", "response_id": response_id}


def response_created(response: Wire) -> Event:
    return {"type": "response.created", "response": response}


def response_done(response: Wire) -> Event:
    return {"type": "response.done", "response": response}


def output_item_added(response_id: str, output_index: int, item: Wire) -> Event:
    return {
        "type": "response.output_item.added",
        "response_id": response_id,
        "output_index": output_index,
        "item": item,
    }


def output_item_done(response_id: str, output_index: int, item: Wire) -> Event:
    return {
        "type": "response.output_item.done",
        "response_id": response_id,
        "output_index": output_index,
        "item": item,
    }


def part_event(name: str, response_id: str, item_id: str, output_index: int) -> Event:
    """An event about content part 0 of an output item; the caller adds what it carries."""
    return {
        "type": name,
        "response_id": response_id,
        "item_id": item_id,
        "output_index": output_index,
        "content_index": 0,
    }


def arguments_delta(
    response_id: str, item_id: str, output_index: int, tool_call_id: str, delta: str
) -> Event:
    return {
        "type": "response.function_call_arguments.delta",
        "response_id": response_id,
        "item_id": item_id,
        "output_index": output_index,
        "call_id": tool_call_id,
        "delta": delta,
    }


def arguments_done(response_id: str, output_index: int, item: Wire) -> Event:
    return {
        "type": "response.function_call_arguments.done",
        "response_id": response_id,
        "item_id": item["id"],
        "output_index": output_index,
        "call_id": item["call_id"],
        "name": item["name"],
        "arguments": item["arguments"],
    }


def mcp_list(state: str, item_id: str) -> Event:
    """`state`: in_progress, completed or failed."""
    return {"type": f"mcp_list_tools.{state}", "item_id": item_id}


def mcp_arguments_delta(response_id: str, item_id: str, output_index: int, delta: str) -> Event:
    # agents-realtime drops it without `obfuscation`.
    return {
        "type": "response.mcp_call_arguments.delta",
        "response_id": response_id,
        "item_id": item_id,
        "output_index": output_index,
        "delta": delta,
        "obfuscation": "",
    }


def mcp_arguments_done(response_id: str, item_id: str, output_index: int, arguments: str) -> Event:
    return {
        "type": "response.mcp_call_arguments.done",
        "response_id": response_id,
        "item_id": item_id,
        "output_index": output_index,
        "arguments": arguments,
    }


def mcp_call(state: str, item_id: str, output_index: int) -> Event:
    """`state`: in_progress, completed or failed."""
    return {
        "type": f"response.mcp_call.{state}",
        "item_id": item_id,
        "output_index": output_index,
    }

"""Refusals in OpenAI's words; SDKs suppress some of them by `code`, so the spelling is fixed."""

from bridge.errors import ConflictError, NotFoundError, RequestError


class BadEvent(RequestError):
    """A client event that could not be read; `event_id` is the client's, if it had one."""

    event_id: str | None = None


def invalid_json() -> BadEvent:
    return BadEvent("The event is not valid JSON.", code="invalid_json")


def context_too_long(tokens: int, limit: int) -> RequestError:
    return RequestError(
        f"The conversation has about {tokens} tokens, which exceeds the limit of {limit}, and "
        "truncation is disabled.",
        code="context_length_exceeded",
    )


def no_call() -> RequestError:
    return ConflictError("This session has no call.", code="no_call", param="type")


def speed_locked() -> RequestError:
    return ConflictError(
        "Cannot update the speed while a response is in progress.",
        code="cannot_update_speed",
        param="session.audio.output.speed",
    )


def commit_empty(buffered_ms: int) -> RequestError:
    return RequestError(
        "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
        f"but buffer only has {buffered_ms:.2f}ms of audio.",
        code="input_audio_buffer_commit_empty",
    )


def active_response(response_id: str) -> RequestError:
    return ConflictError(
        f"Conversation already has an active response in progress: {response_id}. "
        "Wait until the response is finished before creating a new one.",
        code="conversation_already_has_active_response",
    )


def cancel_not_active() -> RequestError:
    return ConflictError(
        "Cancellation failed: no active response found", code="response_cancel_not_active"
    )


def item_not_found(item_id: str, param: str) -> RequestError:
    return NotFoundError(
        f"Item with item_id '{item_id[:64]}' not found.", code="item_not_found", param=param
    )


def duplicate_item(item_id: str, param: str) -> RequestError:
    return RequestError(
        f"Error adding item: an item with id '{item_id[:64]}' already exists.", param=param
    )


def unknown_tool_call(tool_call_id: str, param: str) -> RequestError:
    return RequestError(
        f"Tool call ID '{tool_call_id[:64]}' not found in conversation.",
        code="invalid_tool_call_id",
        param=param,
    )


def not_truncatable() -> RequestError:
    return RequestError(
        "Only model output audio messages can be truncated", code="unsupported_content_type"
    )


def already_shorter(audio_ms: int, audio_end_ms: int) -> RequestError:
    return RequestError(
        f"Audio content of {audio_ms}ms is already shorter than {audio_end_ms}ms",
        param="audio_end_ms",
    )


def append_on_call() -> RequestError:
    return ConflictError(
        "The audio of a call is its media: input_audio_buffer.append is not accepted here. "
        "Further ones are ignored.",
        code="input_audio_buffer_append_on_call",
    )


def no_responses() -> RequestError:
    return RequestError(
        "response.create is not supported in a transcription session.", param="type"
    )


def buffer_full(seconds: int) -> RequestError:
    return RequestError(
        f"The input audio buffer is full: it holds {seconds} seconds.",
        code="input_audio_buffer_full",
        param="audio",
    )


def bad_audio(expected: str, param: str) -> RequestError:
    return RequestError(f"Invalid '{param}'. Expected base64-encoded {expected}.", param=param)


def session_over() -> RequestError:
    return ConflictError("The session is ending.", code="session_ended")

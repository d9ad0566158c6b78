"""Readers of the options that a session and a single response share: tools, formats, voices."""

from collections.abc import Mapping
from typing import Any

from bridge.realtime.fields import (
    Reader,
    array_of,
    as_bool,
    as_name,
    as_object,
    as_text,
    decimal,
    integer,
    missing,
    nullable,
    one_of,
    out_of_range,
    record,
    unsupported,
    wrong_type,
)

PCM = {"type": "audio/pcm", "rate": 24_000}
VOICE_NAME_LIMIT = 256

_format_type = one_of("audio/pcm", "audio/pcmu", "audio/pcma")
_rate = integer(1, 384_000)


def audio_format(value: Any, path: str) -> dict[str, Any]:
    found = as_object(value, path)
    if "type" not in found:
        raise missing(f"{path}.type")
    name = _format_type(found["type"], f"{path}.type")
    rate = _rate(found["rate"], f"{path}.rate") if "rate" in found else 24_000
    if name != "audio/pcm":
        return {"type": name}
    if rate != PCM["rate"]:
        raise unsupported(f"{path}.rate", str(rate), ("24000",))
    return dict(PCM)


def voice(value: Any, path: str) -> str:
    """A name, or a custom voice `{"id": …}`, which is kept and echoed by its id alone."""
    if isinstance(value, dict):
        if "id" not in value:
            raise missing(f"{path}.id")
        value, path = value["id"], f"{path}.id"
    name = as_name(value, path)
    if len(name) > VOICE_NAME_LIMIT:
        raise out_of_range(path, f"expected at most {VOICE_NAME_LIMIT} characters")
    return name


def output_modalities(value: Any, path: str) -> tuple[str, ...]:
    found: tuple[str, ...] = array_of(one_of("text", "audio"), most=2)(value, path)
    if len(found) != 1:
        raise out_of_range(path, "expected either ['audio'] or ['text']")
    return found


def max_output_tokens(value: Any, path: str) -> int | str:
    if value == "inf":
        return "inf"
    if isinstance(value, str):
        raise unsupported(path, value, ("inf",))
    tokens: int = integer(1, 4096)(value, path)
    return tokens


_function_tool = record(
    {
        "type": one_of("function"),
        "name": as_name,
        "description": nullable(as_text),
        "parameters": nullable(as_object),
    },
    required=("type", "name"),
    extra=True,
)


def _tool(value: Any, path: str) -> dict[str, Any]:
    found = as_object(value, path)
    if "type" not in found:
        raise missing(f"{path}.type")
    if one_of("function", "mcp")(found["type"], f"{path}.type") == "function":
        kept: dict[str, Any] = _function_tool(found, path)
        return kept
    return _mcp_tool(found, path)


_names = array_of(as_name, most=1024)
_filter = record({"tool_names": nullable(_names), "read_only": nullable(as_bool)})
CONNECTORS = tuple(
    f"connector_{name}"
    for name in (
        *("dropbox", "gmail", "googlecalendar", "googledrive", "microsoftteams"),
        *("outlookcalendar", "outlookemail", "sharepoint"),
    )
)


def _headers(value: Any, path: str) -> dict[str, str]:
    return {name: as_text(text, f"{path}.{name}") for name, text in as_object(value, path).items()}


def _allowed(value: Any, path: str) -> Any:
    return _names(value, path) if isinstance(value, list) else _filter(value, path)


def _approval(value: Any, path: str) -> Any:
    if isinstance(value, str):
        return one_of("always", "never")(value, path)
    return record({"always": nullable(_filter), "never": nullable(_filter)})(value, path)


CALL_TOOLS = "call:tools"
"""The tool server that is the call itself."""


def _server_url(value: Any, path: str) -> str:
    url = as_text(value, path)
    if url != CALL_TOOLS and not url.startswith(("https://", "http://")):
        raise out_of_range(path, f"expected an http or https URL, or {CALL_TOOLS}")
    return url


_WHERE: dict[str, Reader] = {
    "server_url": nullable(_server_url),
    "connector_id": nullable(one_of(*CONNECTORS)),
    "tunnel_id": nullable(as_name),
}
_mcp = record(
    {
        "type": one_of("mcp"),
        "server_label": as_name,
        **_WHERE,
        "server_description": nullable(as_text),
        "authorization": nullable(as_text),
        "headers": nullable(_headers),
        "allowed_tools": nullable(_allowed),
        "require_approval": nullable(_approval),
        "allowed_callers": nullable(_names),
        "defer_loading": nullable(as_bool),
    },
    required=("type", "server_label"),
)


def _mcp_tool(found: dict[str, Any], path: str) -> dict[str, Any]:
    tool: dict[str, Any] = _mcp(found, path)
    named = [name for name in _WHERE if tool.get(name) is not None]
    if not named:
        raise missing(f"{path}.server_url")
    if len(named) > 1:
        raise out_of_range(f"{path}.{named[1]}", f"only one of {', '.join(_WHERE)} may be given")
    return tool


_tools = array_of(_tool, most=128)


def tools(value: Any, path: str) -> tuple[dict[str, Any], ...]:
    found: tuple[dict[str, Any], ...] = _tools(value, path)
    labels = set()
    for n, tool in enumerate(found):
        if tool["type"] == "mcp" and tool["server_label"] in labels:
            raise out_of_range(f"{path}[{n}].server_label", "expected each server once")
        labels.add(tool.get("server_label"))
    return found


def told_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as every client may see it: without what opens its server."""
    return {name: tool[name] for name in tool if name not in ("authorization", "headers")}


def tool_choice(value: Any, path: str) -> Any:
    if isinstance(value, str):
        return one_of("auto", "none", "required")(value, path)
    if not isinstance(value, dict):
        raise wrong_type(path, "a string or an object", value)
    if "type" not in value:
        raise missing(f"{path}.type")
    chosen = one_of("function", "mcp")(value["type"], f"{path}.type")
    name = "name" if chosen == "function" else "server_label"
    return record(
        {"type": as_text, "name": nullable(as_name), "server_label": as_name},
        required=("type", name),
        extra=True,
    )(value, path)


parallel_tool_calls: Reader = as_bool
reasoning: Reader = record(
    {"effort": nullable(one_of("minimal", "low", "medium", "high", "xhigh"))}, extra=True
)
prompt: Reader = record(
    {"id": as_name, "version": nullable(as_text), "variables": nullable(as_object)},
    required=("id",),
)


def truncation(value: Any, path: str) -> Any:
    if isinstance(value, str):
        return one_of("auto", "disabled")(value, path)
    return record(
        {
            "type": one_of("retention_ratio"),
            "retention_ratio": decimal(0, 1),
            "token_limits": nullable(
                record({"post_instructions": nullable(integer(0, 10_000_000))}, extra=True)
            ),
        },
        required=("type", "retention_ratio"),
    )(value, path)


def tracing(value: Any, path: str) -> Any:
    if isinstance(value, str):
        return one_of("auto")(value, path)
    return record(
        {
            "workflow_name": nullable(as_text),
            "group_id": nullable(as_text),
            "metadata": nullable(as_object),
        }
    )(value, path)


transcription: Reader = record(
    {
        "model": nullable(as_name),
        "language": nullable(as_text),
        "languages": nullable(array_of(as_name, most=64)),
        "keywords": nullable(array_of(as_name, most=1000)),
        "prompt": nullable(as_text),
        "delay": nullable(one_of("minimal", "low", "medium", "high", "xhigh")),
    },
    extra=True,
)
noise_reduction: Reader = record(
    {"type": nullable(one_of("near_field", "far_field")), "strength": nullable(decimal(0, 10))},
)
LOGPROBS = "item.input_audio_transcription.logprobs"
include: Reader = array_of(one_of(LOGPROBS), most=8)


def metadata(value: Any, path: str) -> dict[str, str]:
    """At most 16 pairs of a key of 64 and a value of 512 characters."""
    found = as_object(value, path)
    if len(found) > 16:
        raise out_of_range(path, "expected at most 16 pairs")
    for key, text in found.items():
        if len(key) > 64:
            raise out_of_range(path, "expected keys of at most 64 characters")
        if len(as_text(text, f"{path}.{key}")) > 512:
            raise out_of_range(f"{path}.{key}", "expected at most 512 characters")
    return dict(found)

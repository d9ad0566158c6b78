"""The types of the official clients, as judges of an event."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from agents.realtime.openai_realtime import get_server_event_type_adapter
from openai.types.beta.realtime import TranscriptionSessionUpdatedEvent
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

NODE = Path(__file__).parent / "interop" / "sdk" / "node"

BETA = frozenset(("transcription_session.updated",))
"""The answer to the beta's own event, in the beta's shape: no union of today has it."""
OURS = "transport."
"""What only clients get that asked for it; README names each."""
UNKNOWN_TO_ZOD = frozenset(
    (
        "input_audio_buffer.dtmf_event_received",
        "input_audio_buffer.timeout_triggered",
        "response.mcp_call.failed",
    )
)
"""Known to the API and to openai-python, and to agents-realtime only as "any other event"."""


def shows_picture(event: Mapping[str, Any]) -> bool:
    """Which agents-realtime does not expect of a user either."""
    content = event.get("item", {}).get("content") or ()
    return any(part["type"] == "input_image" for part in content)


_openai: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
_agents = get_server_event_type_adapter()


def conforms(event: Mapping[str, Any]) -> None:
    """Raises unless openai-python, openai-agents and agents-realtime take this server event."""
    assert isinstance(event["event_id"], str)
    wire = msgspec.json.decode(msgspec.json.encode(event))
    if event["type"] in BETA:
        # The secret comes by REST only, and the beta knew three names of models.
        wire["session"]["client_secret"] = {"value": "", "expires_at": 0}
        (wire["session"]["input_audio_transcription"] or {})["model"] = "whisper-1"
        TranscriptionSessionUpdatedEvent.model_validate(wire)
    else:
        # The union is left to right in openai-python: the type must come back as it went.
        assert _openai.validate_python(wire).type == event["type"]
        assert _agents.validate_python(wire).type == event["type"]
        _javascript(wire)


def _javascript(event: dict[str, Any]) -> None:
    """Shapes that @openai/agents-realtime throws on or silently drops."""
    items = [event.get("item"), *(event.get("response") or {}).get("output", [])]
    for item in filter(None, items):
        assert item["id"], "an item without id is dropped"
        assert item.get("status", "completed") in ("completed", "incomplete", "in_progress")
        if item["type"] == "message":
            for part in item["content"]:
                if part["type"] in ("input_audio", "output_audio"):
                    assert "transcript" in part, "a user's audio without transcript throws"
                if part["type"] == "output_text":
                    assert isinstance(part["text"], str)
        if item["type"] == "function_call":
            assert isinstance(item["arguments"], str)
    assert "audio" not in event.get("part", {})
    if event["type"].endswith("transcription.failed"):
        assert None not in event["error"].values()


def zod_is_here() -> bool:
    return (NODE / "node_modules").is_dir()


def dropped_by_zod(events: Iterable[Mapping[str, Any]], scratch: Path) -> list[dict[str, Any]]:
    """What agents-realtime would drop, beyond what it does not know."""
    scratch.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
    command = ["node", str(NODE / "zod.mjs"), str(scratch)]
    found = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
    dropped: list[dict[str, Any]] = list(map(msgspec.json.decode, found))
    return [e for e in dropped if e["type"] not in UNKNOWN_TO_ZOD and not shows_picture(e)]

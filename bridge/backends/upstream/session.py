"""The session object as an upstream takes it, from the one that clients see."""

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.backends.upstream.dialects import Dialect
from bridge.backends.upstream.settings import UpstreamSettings

DEFAULTS: Mapping[str, Any] = {
    "output_modalities": ["audio"],
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": None,
    "reasoning": None,
    "max_output_tokens": "inf",
    "truncation": "auto",
    "tracing": None,
    "prompt": None,
    "include": None,
    "audio.input.transcription": None,
    "audio.input.noise_reduction": None,
    "audio.output.speed": 1.0,
}
"""What every server begins with: not sent until it changes."""

OLD_FORMATS = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}


def format_name(settings: UpstreamSettings, dialect: Dialect) -> str:
    name = f"audio/{settings.audio}"
    return name if name in dialect.formats else "audio/pcm"


class SessionSync:
    """Knows what one connection was told, so that an update carries only what changed."""

    def __init__(self, settings: UpstreamSettings, dialect: Dialect, refused: set[str]) -> None:
        self._settings = settings
        self._dialect = dialect
        self._refused = refused
        """Places that the server turned out to refuse; shared by all connections of a call."""
        self._told: dict[str, Any] = dict(DEFAULTS)

    def update(self, config: Mapping[str, Any], *, history: str = "") -> dict[str, Any] | None:
        """The session.update that makes the server follow `config`; None if it does already.

        `history` goes behind the instructions of a server that takes no words of its own back.
        """
        session: dict[str, Any] = {}
        for path, value in self._wanted(config, history).items():
            place = self._dialect.fields.get(path)
            if place is None or place in self._refused or self._told.get(path, _NEVER) == value:
                continue
            self._told[path] = value
            _put(session, place, self._old(path, value))
        if not session:
            return None
        if self._dialect.typed_session:
            session["type"] = config.get("type", "realtime")
        return {"type": "session.update", "session": session}

    def refuse(self, param: str | None) -> bool:
        """The server does not know this field. Returns whether that explains its refusal."""
        place = (param or "").removeprefix("session.")
        fresh = {
            known
            for known in self._dialect.fields.values()
            if place == known or place.startswith(f"{known}.")
        } - self._refused
        self._refused |= fresh
        # An update is refused as a whole.
        self._told = dict(DEFAULTS)
        return bool(fresh)

    def _wanted(self, config: Mapping[str, Any], history: str) -> dict[str, Any]:
        wanted = {path: _get(config, path) for path in self._dialect.fields if _has(config, path)}
        coded: dict[str, Any] = {"type": format_name(self._settings, self._dialect)}
        if coded["type"] == "audio/pcm":
            coded["rate"] = 24_000
        for path in ("audio.input.format", "audio.output.format"):
            if path in wanted:
                wanted[path] = coded
        if history and "instructions" in wanted:
            wanted["instructions"] = f"{wanted['instructions']}\n\n{history}".strip()
        if self._settings.voice and "audio.output.voice" in wanted:
            wanted["audio.output.voice"] = self._settings.voice
        transcription = "audio.input.transcription"
        if transcription in wanted and self._settings.transcription:
            wanted[transcription] = wanted[transcription] or {}
            wanted[transcription] = {**wanted[transcription], "model": self._settings.transcription}
        path = "audio.input.turn_detection"
        if path in wanted:
            wanted[path] = self._turn_detection(wanted[path])
        return wanted

    def _turn_detection(self, wanted: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if wanted is None:
            return None
        kind = wanted.get("type")
        known = kind in self._dialect.turn_detection
        detection = {"type": kind if known else "server_vad"}
        return detection | {
            name: wanted[name]
            for name in sorted(self._dialect.turn_fields)
            if name in wanted and (known or name in ("create_response", "interrupt_response"))
        }

    def _old(self, path: str, value: Any) -> Any:
        if not self._dialect.old_names:
            return value
        if path.endswith(".format"):
            return OLD_FORMATS[value["type"]]
        if path == "output_modalities":
            return ["text", "audio"] if "audio" in value else ["text"]
        return value


_NEVER = object()


def _has(config: Mapping[str, Any], path: str) -> bool:
    value: Any = config
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return False
        value = value[step]
    return True


def _get(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for step in path.split("."):
        value = value[step]
    return value


def _put(session: dict[str, Any], place: str, value: Any) -> None:
    *parents, leaf = place.split(".")
    for parent in parents:
        session = session.setdefault(parent, {})
    session[leaf] = value


def as_history(items: Sequence[Mapping[str, Any]]) -> str:
    """The conversation in words, for a server that cannot be given its items."""
    lines = [
        f"{'You' if item.get('role') == 'assistant' else 'Caller'}: {said}"
        for item in items
        if item.get("role") in ("user", "assistant") and (said := words(item))
    ]
    return "\n".join(["What was said so far in this call:", *lines]) if lines else ""


def words(item: Mapping[str, Any]) -> str:
    parts = item.get("content") or ()
    return " ".join(filter(None, (part.get("text") or part.get("transcript") for part in parts)))

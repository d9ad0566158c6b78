"""The session object: defaults, validation, and PATCH by presence.

A key that is absent keeps its value. `null` switches off turn_detection, transcription,
noise_reduction, tracing, prompt and include; for `format` it keeps, because openai-agents sends
it so; anywhere else it is a wrong type. A turn_detection of another type replaces the old one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bridge.errors import RequestError
from bridge.realtime import options
from bridge.realtime.fields import (
    Reader,
    as_bool,
    as_name,
    as_object,
    as_text,
    decimal,
    integer,
    missing,
    nullable,
    one_of,
    refuse_unknown,
)


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """Both kinds in one shape; a kind's own fields are echoed for that kind only."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    create_response: bool = True
    interrupt_response: bool = True
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    idle_timeout_ms: int | None = None
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"

    def as_dict(self) -> dict[str, Any]:
        # openai-agents cancels on its own unless interrupt_response is spelled out as true.
        names = _SERVER_VAD if self.type == "server_vad" else _SEMANTIC_VAD
        return {"type": self.type} | {name: getattr(self, name) for name in names}


_BOTH_KINDS: dict[str, Reader] = {"create_response": as_bool, "interrupt_response": as_bool}
_SERVER_VAD: dict[str, Reader] = {
    "threshold": decimal(0, 1),
    "prefix_padding_ms": integer(0, 10_000),
    "silence_duration_ms": integer(0, 30_000),
    "idle_timeout_ms": nullable(integer(5_000, 30_000)),
} | _BOTH_KINDS
_SEMANTIC_VAD: dict[str, Reader] = {
    "eagerness": one_of("low", "medium", "high", "auto")
} | _BOTH_KINDS


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """The effective session. Values are in wire shape; formats never reach a call's wire."""

    type: Literal["realtime", "transcription"] = "realtime"
    model: str = "gpt-realtime"
    output_modalities: tuple[str, ...] = ("audio",)
    instructions: str = ""
    input_format: Mapping[str, Any] = field(default_factory=lambda: dict(options.PCM))
    transcription: Mapping[str, Any] | None = None
    noise_reduction: Mapping[str, Any] | None = None
    turn_detection: TurnDetection | None = TurnDetection()
    output_format: Mapping[str, Any] = field(default_factory=lambda: dict(options.PCM))
    voice: str = "alloy"
    speed: float = 1.0
    include: tuple[str, ...] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = "auto"
    parallel_tool_calls: bool | None = None
    reasoning: Mapping[str, Any] | None = None
    max_output_tokens: int | Literal["inf"] = "inf"
    truncation: Any = "auto"
    tracing: Any = None
    prompt: Mapping[str, Any] | None = None

    @classmethod
    def create(
        cls,
        obj: Mapping[str, Any] | None,
        *,
        defaults: "SessionConfig | None" = None,
        prefix: str = "session",
    ) -> "SessionConfig":
        """The session that `obj` asks for on top of `defaults`; `prefix` begins each `param`.

        Raises:
            RequestError: with OpenAI's code and the dotted name of what is wrong.
        """
        base = defaults or cls()
        if obj is None:
            return base
        found = as_object(obj, prefix)
        chosen = _session_type(found, prefix)
        if chosen != base.type:
            base = replace(base, type=chosen)
        changes = _read(base, found, prefix)
        if "model" in found:
            changes["model"] = as_name(found["model"], f"{prefix}.model")
        return replace(base, **changes)

    def updated(
        self,
        obj: Mapping[str, Any],
        *,
        assistant_audio_exists: bool,
        strict_voice: bool = False,
        prefix: str = "session",
    ) -> "SessionConfig":
        """The session after a session.update: all of it or, on any error, none.

        A voice that comes after assistant audio is refused if `strict_voice`, as OpenAI does,
        and otherwise dropped: agents send their default voice when they attach, and refusing
        the update would lose their tools and instructions.

        Raises:
            RequestError: with OpenAI's code and the dotted name of what is wrong.
        """
        found = as_object(obj, prefix)
        if _session_type(found, prefix) != self.type:
            raise RequestError(
                f"Passing a session of another type than '{self.type}' is not allowed.",
                code="invalid_value",
                param=f"{prefix}.type",
            )
        changes = _read(self, found, prefix)
        if self.tracing is not None and changes.get("tracing", self.tracing) != self.tracing:
            raise RequestError(
                "Cannot update tracing once it is enabled.",
                code="cannot_update_tracing",
                param=f"{prefix}.tracing",
            )
        if assistant_audio_exists and changes.get("voice", self.voice) != self.voice:
            if strict_voice:
                raise voice_locked()
            del changes["voice"]
        return replace(self, **changes)

    def as_dict(self, session_id: str, expires_at: int) -> dict[str, Any]:
        """The whole session object; `expires_at` is Unix time, 0 before the session begins."""
        heard = {
            "format": dict(self.input_format),
            "transcription": self.transcription,
            "noise_reduction": self.noise_reduction,
            "turn_detection": self.turn_detection and self.turn_detection.as_dict(),
        }
        include = None if self.include is None else list(self.include)
        if self.type == "transcription":
            return {
                "type": "transcription",
                "object": "realtime.transcription_session",
                "id": session_id,
                "expires_at": expires_at,
                "audio": {"input": heard},
                "include": include,
            }
        spoken = {"format": dict(self.output_format), "voice": self.voice, "speed": self.speed}
        session = {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": self.model,
            "output_modalities": list(self.output_modalities),
            "instructions": self.instructions,
            "tools": [options.told_tool(tool) for tool in self.tools],
            "tool_choice": self.tool_choice,
            "max_output_tokens": self.max_output_tokens,
            "truncation": self.truncation,
            "tracing": self.tracing,
            "prompt": self.prompt,
            "expires_at": expires_at,
            "audio": {"input": heard, "output": spoken},
            "include": include,
        }
        # Models without reasoning have neither key at OpenAI.
        for name in ("parallel_tool_calls", "reasoning"):
            if (value := getattr(self, name)) is not None:
                session[name] = value
        return session


_SESSION: dict[str, Reader] = {
    "instructions": as_text,
    "output_modalities": options.output_modalities,
    "tools": options.tools,
    "tool_choice": options.tool_choice,
    "parallel_tool_calls": nullable(options.parallel_tool_calls),
    "reasoning": nullable(options.reasoning),
    "max_output_tokens": options.max_output_tokens,
    "truncation": options.truncation,
    "tracing": nullable(options.tracing),
    "prompt": nullable(options.prompt),
    "include": nullable(options.include),
}
_TRANSCRIPTION_SESSION = {"include": _SESSION["include"]}
# Keys of the session object that a client may send back unread; `model` cannot be changed by an
# update, yet official samples and both agents SDKs name it in each. `temperature` was in the beta.
_UNREAD = dict.fromkeys(("type", "id", "object", "expires_at", "model", "audio", "temperature"))
_OUTPUT: dict[str, Reader] = {"voice": options.voice, "speed": decimal(0.25, 1.5)}
_AUDIO = dict.fromkeys(("input", "output"))
_AUDIO_INPUT = dict.fromkeys(("format", "transcription", "noise_reduction", "turn_detection"))
_AUDIO_OUTPUT = dict.fromkeys(("format", *_OUTPUT))


def voice_locked() -> RequestError:
    return RequestError(
        "Cannot update a conversation's voice if assistant audio is present.",
        code="cannot_update_voice",
    )


def _session_type(found: Mapping[str, Any], path: str) -> Literal["realtime", "transcription"]:
    if "type" not in found:
        raise missing(f"{path}.type")
    name = one_of("realtime", "transcription")(found["type"], f"{path}.type")
    return "realtime" if name == "realtime" else "transcription"


def _read(base: SessionConfig, found: Mapping[str, Any], path: str) -> dict[str, Any]:
    readers = _SESSION if base.type == "realtime" else _TRANSCRIPTION_SESSION
    refuse_unknown(found, _UNREAD | readers, path)
    changes = {
        name: reader(found[name], f"{path}.{name}")
        for name, reader in readers.items()
        if name in found
    }
    if "audio" in found:
        audio = as_object(found["audio"], f"{path}.audio")
        refuse_unknown(audio, _AUDIO, f"{path}.audio")
        if "input" in audio:
            changes |= _read_input(base, audio["input"], f"{path}.audio.input")
        if "output" in audio:
            changes |= _read_output(audio["output"], f"{path}.audio.output")
    return changes


def _read_input(base: SessionConfig, value: Any, path: str) -> dict[str, Any]:
    found = as_object(value, path)
    refuse_unknown(found, _AUDIO_INPUT, path)
    changes: dict[str, Any] = {}
    if found.get("format") is not None:
        changes["input_format"] = options.audio_format(found["format"], f"{path}.format")
    if "transcription" in found:
        changes["transcription"] = _merged(
            base.transcription,
            nullable(options.transcription)(found["transcription"], f"{path}.transcription"),
            "model",
        )
    if "noise_reduction" in found:
        given = nullable(options.noise_reduction)(
            found["noise_reduction"], f"{path}.noise_reduction"
        )
        changes["noise_reduction"] = _merged(base.noise_reduction, given, None)
    if "turn_detection" in found:
        changes["turn_detection"] = _read_turn_detection(
            base.turn_detection, found["turn_detection"], f"{path}.turn_detection"
        )
    return changes


def _read_output(value: Any, path: str) -> dict[str, Any]:
    found = as_object(value, path)
    refuse_unknown(found, _AUDIO_OUTPUT, path)
    changes = {
        name: reader(found[name], f"{path}.{name}")
        for name, reader in _OUTPUT.items()
        if name in found
    }
    if found.get("format") is not None:
        changes["output_format"] = options.audio_format(found["format"], f"{path}.format")
    return changes


def _merged(
    old: Mapping[str, Any] | None, given: Mapping[str, Any] | None, identity: str | None
) -> Mapping[str, Any] | None:
    """`given` over `old`, unless `given` names another `identity`."""
    if given is None or old is None:
        return given
    if identity is not None and given.get(identity, old.get(identity)) != old.get(identity):
        return given
    return {**old, **given}


def _read_turn_detection(
    current: TurnDetection | None, value: Any, path: str
) -> TurnDetection | None:
    if value is None:
        return None
    found = as_object(value, path)
    if "type" not in found and current is None:
        raise missing(f"{path}.type")
    chosen = one_of("server_vad", "semantic_vad")(
        found.get("type", current.type if current else None), f"{path}.type"
    )
    readers = _SERVER_VAD if chosen == "server_vad" else _SEMANTIC_VAD
    refuse_unknown(found, {"type": None} | readers, path)
    base = current if current and current.type == chosen else TurnDetection(type=chosen)
    return replace(
        base,
        **{
            name: reader(found[name], f"{path}.{name}")
            for name, reader in readers.items()
            if name in found
        },
    )

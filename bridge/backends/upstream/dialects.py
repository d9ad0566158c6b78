"""What the servers that speak this protocol do and take, as data.

A field is named by its place in today's session object; the value is its place in the server's.
What is not named is refused there, so it is never sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bridge.errors import ConfigError

_INPUT = {
    name: f"audio.input.{name}"
    for name in ("format", "transcription", "noise_reduction", "turn_detection")
}
_OUTPUT = {name: f"audio.output.{name}" for name in ("format", "voice", "speed")}
_TOP = (
    "output_modalities",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "max_output_tokens",
    "truncation",
    "tracing",
    "prompt",
    "include",
)
TODAY: Mapping[str, str] = {path: path for path in (*_TOP, *_INPUT.values(), *_OUTPUT.values())}

BETA: Mapping[str, str] = {
    "output_modalities": "modalities",
    "instructions": "instructions",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "max_output_tokens": "max_response_output_tokens",
    "audio.input.format": "input_audio_format",
    "audio.input.transcription": "input_audio_transcription",
    "audio.input.turn_detection": "turn_detection",
    "audio.output.format": "output_audio_format",
    "audio.output.voice": "voice",
}


def _some(*paths: str) -> Mapping[str, str]:
    return {path: path for path in paths}


FLAGS = ("create_response", "interrupt_response")
TUNING = ("threshold", "prefix_padding_ms", "silence_duration_ms", "eagerness")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The defaults are OpenAI's."""

    name: str
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    model_query: str = "model"
    fields: Mapping[str, str] = field(default_factory=lambda: TODAY)
    typed_session: bool = True
    """The session object says its `type`."""
    old_names: bool = False
    """Formats, modalities and content types are the beta's."""
    turn_detection: frozenset[str] = frozenset(("server_vad", "semantic_vad"))
    turn_fields: frozenset[str] = frozenset((*FLAGS, *TUNING))
    answers_turns: bool = True
    confirms_session: bool = True
    """Answers session.update with session.updated."""
    cancels: bool = True
    truncates: bool = True
    deletes: bool = True
    commits: bool = True
    """Takes input_audio_buffer.commit and .clear."""
    takes_ids: bool = True
    """Clients may name and place the items they create."""
    takes_assistant_items: bool = True
    takes_system_items: bool = True
    takes_audio_items: bool = True
    echoes_metadata: bool = True
    out_of_band: bool = True
    """Takes `conversation: none` and `input`."""
    response_fields: frozenset[str] = frozenset(
        ("instructions", "tools", "tool_choice", "output_modalities", "max_output_tokens", "voice")
    )
    formats: frozenset[str] = frozenset(("audio/pcm", "audio/pcmu", "audio/pcma"))
    session_limit_s: float = 0.0


OPENAI = Dialect("openai", session_limit_s=3600.0)

AZURE = Dialect("azure", key_header="api-key", key_prefix="", session_limit_s=1800.0)

AZURE_PREVIEW = Dialect(
    "azure-preview",
    key_header="api-key",
    key_prefix="",
    model_query="deployment",
    fields=BETA,
    typed_session=False,
    old_names=True,
    response_fields=frozenset(("instructions", "tools", "tool_choice", "output_modalities")),
    session_limit_s=1800.0,
)

_BARE = Dialect(
    "",
    turn_detection=frozenset(("server_vad",)),
    truncates=False,
    deletes=False,
    takes_ids=False,
    takes_audio_items=False,
    echoes_metadata=False,
    out_of_band=False,
)
"""Of servers whose clients may talk with the model, and cannot edit what was said."""

XAI = replace(
    _BARE,
    name="xai",
    fields={
        **_some("instructions", "tools", "audio.input.format", "audio.output.format"),
        "audio.input.turn_detection": "turn_detection",
        "audio.output.voice": "voice",
    },
    typed_session=False,
    turn_fields=frozenset(TUNING[:3]),
    response_fields=frozenset(("instructions", "output_modalities")),
    session_limit_s=3600.0,
)

SPEECH_TO_SPEECH = replace(
    _BARE,
    name="speech-to-speech",
    fields=_some(
        "instructions",
        "tools",
        "tool_choice",
        "audio.input.format",
        "audio.input.turn_detection",
        "audio.output.format",
        "audio.output.voice",
    ),
    confirms_session=False,
    commits=False,
    takes_assistant_items=False,
    takes_system_items=False,
    response_fields=frozenset(("instructions", "tool_choice")),
    formats=frozenset(("audio/pcm",)),
)

GENERIC = Dialect(
    "generic",
    fields=_some(
        "output_modalities",
        "instructions",
        "tools",
        "tool_choice",
        *_INPUT.values(),
        *_OUTPUT.values(),
    ),
    echoes_metadata=False,
    takes_ids=False,
    confirms_session=False,
    formats=frozenset(("audio/pcm",)),
)

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (OPENAI, AZURE, AZURE_PREVIEW, XAI, SPEECH_TO_SPEECH, GENERIC)
}


def dialect_by(name: str) -> Dialect:
    """Raises ConfigError."""
    try:
        return DIALECTS[name]
    except KeyError:
        known = ", ".join(DIALECTS)
        raise ConfigError(
            f"there is no dialect {name}; there is {known}", param="upstream.dialect"
        ) from None

"""The beta's flat session objects, to and from the session of today."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from bridge.errors import RequestError
from bridge.realtime.fields import array_of, as_object, decimal, one_of, unknown

Kind = Literal["realtime", "transcription"]

FORMATS: Mapping[str, dict[str, Any]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
TEMPERATURE = 0.8  # the beta's default; models behind this server choose their own

_HEARD: Mapping[str, tuple[str, ...]] = {
    "input_audio_format": ("audio", "input", "format"),
    "input_audio_transcription": ("audio", "input", "transcription"),
    "input_audio_noise_reduction": ("audio", "input", "noise_reduction"),
    "turn_detection": ("audio", "input", "turn_detection"),
}
_SPOKEN: Mapping[str, tuple[str, ...]] = {
    "output_audio_format": ("audio", "output", "format"),
    "voice": ("audio", "output", "voice"),
    "speed": ("audio", "output", "speed"),
    "max_response_output_tokens": ("max_output_tokens",),
    "modalities": ("output_modalities",),
}
_SAME = ("instructions", "tools", "tool_choice", "tracing", "prompt")
_PLACES: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    "realtime": {
        **_HEARD,
        **_SPOKEN,
        **{name: (name,) for name in (*_SAME, "include", "model")},
    },
    "transcription": {**_HEARD, "include": ("include",), "model": ("model",)},
}
_UNPLACED = dict.fromkeys(("type", "id", "object", "expires_at", "temperature", "modalities"))
_temperature = decimal(0.6, 1.2)
_modalities = array_of(one_of("text", "audio"), most=2)
_format = one_of(*FORMATS)


def read_session(
    flat: Mapping[str, Any], kind: Kind, *, prefix: str = "session."
) -> dict[str, Any]:
    """The session that `flat` means; what is not in it is left out.

    Raises RequestError; whoever reads the result does so within `flat_names`.
    """
    found = as_object(flat, prefix.rstrip(".") or "body")
    places = _PLACES[kind]
    for name in found:
        if name not in places and name not in _UNPLACED:
            raise unknown(f"{prefix}{name[:64]}")
    if found.get("temperature") is not None:
        _temperature(found["temperature"], f"{prefix}temperature")
    session: dict[str, Any] = {"type": kind}
    for name, path in places.items():
        if name in found:
            _put(session, path, _today(name, found[name], f"{prefix}{name}"))
    return session


def _today(name: str, value: Any, param: str) -> Any:
    if name.endswith("_format"):
        return dict(FORMATS[_format(value, param)])
    if name == "modalities":
        # Both at once were the beta's way to ask for speech.
        return ["audio"] if "audio" in _modalities(value, param) else ["text"]
    return value


def _put(session: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *parents, leaf = path
    for parent in parents:
        session = session.setdefault(parent, {})
    session[leaf] = value


def write_session(session: Mapping[str, Any]) -> dict[str, Any]:
    """A session object as `SessionConfig.as_dict` gives it, flat."""
    flat: dict[str, Any] = {name: session[name] for name in ("id", "object", "expires_at")}
    kind: Kind = "transcription" if session["type"] == "transcription" else "realtime"
    for name, path in _PLACES[kind].items():
        value: Any = session
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        flat[name] = _then(name, value)
    if kind == "realtime":
        flat["temperature"] = TEMPERATURE
    else:
        # No model answers there; the beta named its transcription model elsewhere too.
        del flat["model"]
    return flat


def _then(name: str, value: Any) -> Any:
    if name.endswith("_format"):
        return next(old for old, new in FORMATS.items() if new["type"] == value["type"])
    if name == "modalities":
        return ["audio", "text"] if "audio" in value else ["text"]
    return value


@contextmanager
def flat_names(kind: Kind, *, prefix: str = "session.") -> Iterator[None]:
    """Errors about the session of today name the beta's parameter."""
    try:
        yield
    except RequestError as error:
        for name, path in _PLACES[kind].items():
            dotted = ".".join(("session", *path))
            if error.param == dotted or (error.param or "").startswith(
                (f"{dotted}.", f"{dotted}[")
            ):
                error.param = f"{prefix}{name}{(error.param or '').removeprefix(dotted)}"
                error.message = error.message.replace(dotted, f"{prefix}{name}")
                break
        raise

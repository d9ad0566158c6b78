"""The session object: what is accepted, kept, refused, and in which words."""

import asyncio
from typing import Any

import pytest
from agents.realtime import RealtimeAgent
from agents.realtime.openai_realtime import OpenAIRealtimeSIPModel

from bridge.errors import RequestError
from bridge.realtime.session_config import SessionConfig, TurnDetection


def session(**more: Any) -> dict[str, Any]:
    return {"type": "realtime", **more}


def heard(**more: Any) -> dict[str, Any]:
    return session(audio={"input": more})


def spoken(**more: Any) -> dict[str, Any]:
    return session(audio={"output": more})


def update(patch: dict[str, Any], config: SessionConfig | None = None) -> SessionConfig:
    return (config or SessionConfig()).updated(patch, assistant_audio_exists=False)


@pytest.mark.parametrize(
    ("patch", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "voice"}, "invalid_value", "session.type"),
        ({"type": "transcription"}, "invalid_value", "session.type"),
        (session(custom_voice_id="x"), "unknown_parameter", "session.custom_voice_id"),
        (session(instructions=5), "invalid_type", "session.instructions"),
        (session(instructions=None), "invalid_type", "session.instructions"),
        (
            session(output_modalities=["audio", "text"]),
            "invalid_value",
            "session.output_modalities",
        ),
        (session(output_modalities=["video"]), "invalid_value", "session.output_modalities[0]"),
        (session(max_output_tokens=0), "invalid_value", "session.max_output_tokens"),
        (session(max_output_tokens=4097), "invalid_value", "session.max_output_tokens"),
        (session(max_output_tokens=1.5), "invalid_type", "session.max_output_tokens"),
        (session(max_output_tokens=True), "invalid_type", "session.max_output_tokens"),
        (session(max_output_tokens="many"), "invalid_value", "session.max_output_tokens"),
        (
            session(tools=[{"type": "function"}]),
            "missing_required_parameter",
            "session.tools[0].name",
        ),
        (session(tools=[{"type": "retrieval"}]), "invalid_value", "session.tools[0].type"),
        (session(tools={}), "invalid_type", "session.tools"),
        (session(tool_choice="maybe"), "invalid_value", "session.tool_choice"),
        (
            session(tool_choice={"type": "function"}),
            "missing_required_parameter",
            "session.tool_choice.name",
        ),
        (
            session(truncation={"type": "retention_ratio", "retention_ratio": 2}),
            "invalid_value",
            "session.truncation.retention_ratio",
        ),
        (session(tracing="manual"), "invalid_value", "session.tracing"),
        (session(prompt={}), "missing_required_parameter", "session.prompt.id"),
        (session(include=["everything"]), "invalid_value", "session.include[0]"),
        (session(audio=None), "invalid_type", "session.audio"),
        (session(audio={"both": {}}), "unknown_parameter", "session.audio.both"),
        (heard(format="pcm16"), "invalid_type", "session.audio.input.format"),
        (heard(format={"type": "audio/mp3"}), "invalid_value", "session.audio.input.format.type"),
        (
            heard(format={"type": "audio/pcm", "rate": 8000}),
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            heard(turn_detection={"type": "none"}),
            "invalid_value",
            "session.audio.input.turn_detection.type",
        ),
        (
            heard(turn_detection={"threshold": 7}),
            "invalid_value",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            heard(turn_detection={"type": "semantic_vad", "threshold": 0.5}),
            "unknown_parameter",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            heard(turn_detection={"idle_timeout_ms": 100}),
            "invalid_value",
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
        (
            heard(noise_reduction={"type": "loud"}),
            "invalid_value",
            "session.audio.input.noise_reduction.type",
        ),
        (
            heard(transcription={"language": 1}),
            "invalid_type",
            "session.audio.input.transcription.language",
        ),
        (spoken(speed=2), "invalid_value", "session.audio.output.speed"),
        (spoken(speed=float("nan")), "invalid_value", "session.audio.output.speed"),
        (spoken(voice=3), "invalid_type", "session.audio.output.voice"),
        (
            spoken(voice={"name": "x"}),
            "missing_required_parameter",
            "session.audio.output.voice.id",
        ),
        (session(tools=[{}]), "missing_required_parameter", "session.tools[0].type"),
        (
            session(tools=[{"type": "function", "name": ""}]),
            "invalid_value",
            "session.tools[0].name",
        ),
        (
            session(tools=[{"type": "mcp"}]),
            "missing_required_parameter",
            "session.tools[0].server_label",
        ),
        (session(tool_choice=5), "invalid_type", "session.tool_choice"),
        (session(tool_choice={}), "missing_required_parameter", "session.tool_choice.type"),
        (session(parallel_tool_calls=1), "invalid_type", "session.parallel_tool_calls"),
        (session(include=["x"] * 9), "invalid_value", "session.include"),
        (session(instructions="x" * 300_000), "invalid_value", "session.instructions"),
        (session(instructions="\ud800"), "invalid_value", "session.instructions"),
        (heard(format={}), "missing_required_parameter", "session.audio.input.format.type"),
        (spoken(speed="fast"), "invalid_type", "session.audio.output.speed"),
        (spoken(voice="x" * 300), "invalid_value", "session.audio.output.voice"),
    ],
)
def test_refusals_name_code_and_param(patch: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(RequestError) as refusal:
        update(patch)
    assert (refusal.value.code, refusal.value.param) == (code, param)


def test_messages_are_openais() -> None:
    with pytest.raises(RequestError, match=r"^Missing required parameter: 'session.type'\.$"):
        update({})
    with pytest.raises(RequestError, match=r"^Unknown parameter: 'session.foo'\.$"):
        update(session(foo=1))
    with pytest.raises(RequestError, match=r"expected an object, but got null"):
        update(session(audio={"input": None}))
    with pytest.raises(RequestError, match=r"Supported values are: 'realtime', and 'transcr"):
        update({"type": "x"})


def test_a_refused_update_changes_nothing_and_prefixes_follow_the_caller() -> None:
    with pytest.raises(RequestError) as refusal:
        SessionConfig.create({"type": "realtime", "voice": "ash"}, prefix="body")
    assert refusal.value.param == "body.voice"


def test_absent_keeps_and_null_switches_off() -> None:
    config = update(
        session(
            instructions="Be brief.",
            tools=[{"type": "function", "name": "f", "parameters": {}}],
            tracing=None,
            prompt={"id": "pmpt_1"},
            include=["item.input_audio_transcription.logprobs"],
            audio={
                "input": {
                    "transcription": {"model": "whisper-1", "language": "en"},
                    "noise_reduction": {"type": "near_field", "strength": 0.5},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 200},
                }
            },
        )
    )
    assert update(session(), config) == config
    assert update(session(instructions=""), config).instructions == ""
    assert update(session(tools=[]), config).tools == ()
    off = update(
        session(
            prompt=None,
            include=None,
            audio={
                "input": {"transcription": None, "noise_reduction": None, "turn_detection": None}
            },
        ),
        config,
    )
    assert (off.prompt, off.include, off.transcription) == (None, None, None)
    assert (off.noise_reduction, off.turn_detection) == (None, None)


def test_sub_objects_merge() -> None:
    config = update(
        heard(
            transcription={"model": "whisper-1", "language": "en"},
            noise_reduction={"type": "near_field", "strength": 0.5},
            turn_detection={"type": "server_vad", "silence_duration_ms": 200},
        )
    )
    kept = update(heard(turn_detection={"type": "server_vad", "threshold": 0.7}), config)
    assert kept.turn_detection == TurnDetection(threshold=0.7, silence_duration_ms=200)
    replaced = update(heard(turn_detection={"type": "semantic_vad", "eagerness": "low"}), config)
    assert replaced.turn_detection == TurnDetection("semantic_vad", eagerness="low")
    again = update(heard(turn_detection={"type": "server_vad"}), replaced)
    assert again.turn_detection == TurnDetection()
    quieter = update(heard(noise_reduction={"type": "far_field"}), config)
    assert quieter.noise_reduction == {"type": "far_field", "strength": 0.5}
    german = update(heard(transcription={"model": "whisper-1", "language": "de"}), config)
    assert german.transcription == {"model": "whisper-1", "language": "de"}
    other = update(heard(transcription={"model": "other"}), config)
    assert other.transcription == {"model": "other"}


def test_null_format_keeps_the_format() -> None:
    config = update(heard(format={"type": "audio/pcmu", "rate": 8000}))
    assert config.input_format == {"type": "audio/pcmu"}
    assert update(heard(format=None), config) == config
    assert update(spoken(format=None), config) == config


def test_model_is_ignored_in_an_update_and_read_at_creation() -> None:
    config = SessionConfig.create(session(model="mine"))
    assert config.model == "mine"
    assert update(session(model="gpt-realtime-2.1"), config).model == "mine"


def test_a_session_object_can_be_sent_back() -> None:
    config = update(heard(turn_detection={"type": "semantic_vad"}))
    assert update(config.as_dict("sess_1", 5), config) == config


def test_tracing_cannot_change_once_enabled() -> None:
    config = update(session(tracing="auto"))
    assert update(session(tracing="auto"), config).tracing == "auto"
    with pytest.raises(RequestError) as refusal:
        update(session(tracing={"workflow_name": "x"}), config)
    assert refusal.value.param == "session.tracing"


def test_voice_after_assistant_audio() -> None:
    config = SessionConfig.create(spoken(voice="marin"))
    patch = session(instructions="New.", audio={"output": {"voice": "ash"}})
    lenient = config.updated(patch, assistant_audio_exists=True)
    assert (lenient.voice, lenient.instructions) == ("marin", "New.")
    with pytest.raises(RequestError) as refusal:
        config.updated(patch, assistant_audio_exists=True, strict_voice=True)
    assert (refusal.value.code, refusal.value.param) == ("cannot_update_voice", None)
    same = config.updated(spoken(voice="marin"), assistant_audio_exists=True, strict_voice=True)
    assert same == config
    assert update(patch, config).voice == "ash"
    assert update(spoken(voice={"id": "voice_1"}), config).voice == "voice_1"


def test_turn_detection_flags_are_echoed() -> None:
    echoed = update(heard(turn_detection={"type": "semantic_vad"})).as_dict("sess_1", 0)
    assert echoed["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    }
    assert set(SessionConfig().as_dict("sess_1", 0)["audio"]["input"]["turn_detection"]) == {
        "type",
        "threshold",
        "prefix_padding_ms",
        "silence_duration_ms",
        "idle_timeout_ms",
        "create_response",
        "interrupt_response",
    }


def test_transcription_session() -> None:
    config = SessionConfig.create(
        {"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    )
    assert config.as_dict("sess_1", 0)["object"] == "realtime.transcription_session"
    with pytest.raises(RequestError) as refusal:
        SessionConfig.create({"type": "transcription", "instructions": "x"})
    assert refusal.value.param == "session.instructions"


def test_what_agents_send_is_accepted() -> None:
    agent: RealtimeAgent[Any] = RealtimeAgent(name="desk", instructions="Be kind.")
    payload = asyncio.run(OpenAIRealtimeSIPModel.build_initial_session_payload(agent))
    config = SessionConfig.create(payload.model_dump(exclude_unset=True))
    assert config.instructions == "Be kind."
    assert config.turn_detection is not None
    assert config.turn_detection.type == "semantic_vad"


def test_everything_else_is_kept_and_echoed() -> None:
    given = {
        "tools": [{"type": "mcp", "server_label": "files", "server_url": "https://x.test"}],
        "tool_choice": {"type": "mcp", "server_label": "files"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "max_output_tokens": 100,
        "truncation": {"type": "retention_ratio", "retention_ratio": 0.8},
        "tracing": {"workflow_name": "desk"},
        "prompt": {"id": "pmpt_1", "variables": {"city": "Oslo"}},
        "include": ["item.input_audio_transcription.logprobs"],
        "output_modalities": ["text"],
    }
    echoed = update(session(**given)).as_dict("sess_1", 7)
    assert {name: echoed[name] for name in given} == given
    assert SessionConfig.create(None) == SessionConfig()


def test_turn_detection_needs_a_type_when_it_is_off() -> None:
    off = update(heard(turn_detection=None))
    with pytest.raises(RequestError) as refusal:
        update(heard(turn_detection={"threshold": 0.5}), off)
    assert refusal.value.param == "session.audio.input.turn_detection.type"

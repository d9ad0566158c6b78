"""What the beta's endpoints take and give, and what their secrets open."""

from typing import Any

import pytest
from openai.types.beta.realtime import SessionCreateResponse, TranscriptionSession
from starlette.testclient import TestClient

from tests.api.board import NOON, OFFER, Board

SESSIONS = "/v1/realtime/sessions"
TRANSCRIPTIONS = "/v1/realtime/transcription_sessions"
KEY = {"authorization": "Bearer sk-one"}
FLAT: dict[str, Any] = {
    "model": "gpt-4o-realtime-preview",
    "modalities": ["audio", "text"],
    "instructions": "Be brief.",
    "voice": "verse",
    "input_audio_format": "g711_ulaw",
    "output_audio_format": "g711_alaw",
    "input_audio_transcription": {"model": "whisper-1"},
    "turn_detection": {"type": "server_vad", "silence_duration_ms": 700},
    "temperature": 0.7,
    "max_response_output_tokens": 100,
    "client_secret": {"expires_after": {"anchor": "created_at", "seconds": 60}},
}


def test_a_flat_session_comes_back_with_its_secret(locked: TestClient, board: Board) -> None:
    answer = locked.post(SESSIONS, headers=KEY, json=FLAT)
    assert answer.status_code == 200
    body = answer.json()
    SessionCreateResponse.model_validate(body)
    for name in ("model", "modalities", "voice", "input_audio_format", "output_audio_format"):
        assert body[name] == FLAT[name]
    assert body["turn_detection"]["silence_duration_ms"] == 700
    assert body["max_response_output_tokens"] == 100
    assert body["object"] == "realtime.session"
    secret = body["client_secret"]
    assert secret["expires_at"] == NOON + 60

    headers = {"authorization": f"Bearer {secret['value']}", "content-type": "application/sdp"}
    url = "/v1/realtime?model=gpt-4o-realtime-preview"
    posted = locked.post(url, headers=headers, content=OFFER)
    assert posted.status_code == 201
    [(verb, sdp, session)] = board.asked
    assert (verb, sdp) == ("offer", OFFER)
    assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert session["audio"]["output"] == {"format": {"type": "audio/pcma"}, "voice": "verse"}
    assert session["output_modalities"] == ["audio"]


def test_a_transcription_session(locked: TestClient, board: Board) -> None:
    asked = {
        "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en"},
        "input_audio_noise_reduction": {"type": "near_field"},
        "turn_detection": None,
        "include": ["item.input_audio_transcription.logprobs"],
        "client_secret": {"expires_at": {"seconds": 10}},
    }
    body = locked.post(TRANSCRIPTIONS, headers=KEY, json=asked).json()
    TranscriptionSession.model_validate(body)
    assert body["object"] == "realtime.transcription_session"
    assert body["turn_detection"] is None
    assert "model" not in body
    secret = body["client_secret"]
    assert secret["expires_at"] == NOON + 10
    protocols = ["realtime", f"openai-insecure-api-key.{secret['value']}"]
    with locked.websocket_connect("/v1/realtime?intent=transcription", subprotocols=protocols):
        pass
    [(_, model, session)] = board.asked
    assert (model, session["type"]) == ("", "transcription")
    assert session["audio"]["input"]["transcription"]["language"] == "en"


@pytest.mark.parametrize("path", [SESSIONS, TRANSCRIPTIONS])
def test_everything_is_optional_but_the_key(locked: TestClient, path: str) -> None:
    body = locked.post(path, headers=KEY).json()
    assert body["client_secret"]["value"].startswith("ek_")
    assert body["input_audio_format"] == "pcm16"
    assert locked.post(path).status_code == 401
    ephemeral = {"authorization": f"Bearer {body['client_secret']['value']}"}
    assert locked.post(path, headers=ephemeral).status_code == 401


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"mood": 1}, "unknown_parameter", "mood"),
        ({"audio": {}}, "unknown_parameter", "audio"),
        ({"input_audio_format": "mp3"}, "invalid_value", "input_audio_format"),
        ({"input_audio_format": {}}, "invalid_type", "input_audio_format"),
        ({"modalities": ["video"]}, "invalid_value", "modalities[0]"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"turn_detection": {"type": "none"}}, "invalid_value", "turn_detection.type"),
        ({"tools": [{"type": "x"}]}, "invalid_value", "tools[0].type"),
        ({"max_response_output_tokens": 0}, "invalid_value", "max_response_output_tokens"),
        ({"client_secret": {"expires_after": {"seconds": 9}}}, "invalid_value", "client_secret"),
        ({"client_secret": 7}, "invalid_value", "client_secret"),
    ],
)
def test_faults_are_named_as_the_beta_names_them(
    locked: TestClient, body: dict[str, Any], code: str, param: str
) -> None:
    answer = locked.post(SESSIONS, headers=KEY, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert "session." not in error["message"]


def test_a_transcription_session_has_no_voice(locked: TestClient) -> None:
    error = locked.post(TRANSCRIPTIONS, headers=KEY, json={"voice": "ash"}).json()["error"]
    assert (error["code"], error["param"]) == ("unknown_parameter", "voice")

"""Minting browser tokens, what they remember and when they end."""

from typing import Any

import pytest
from openai.types.realtime import ClientSecretCreateResponse
from starlette.testclient import TestClient

from bridge.api.auth import ClientSecrets
from bridge.errors import AuthenticationError
from tests.api.board import NOON, OFFER, Board

SECRETS = "/v1/realtime/client_secrets"
CALLS = "/v1/realtime/calls"
KEY = {"authorization": "Bearer sk-one"}
SDP = {"content-type": "application/sdp"}
SESSION = {
    "type": "realtime",
    "model": "gpt-realtime",
    "instructions": "Be brief.",
    "audio": {"output": {"voice": "marin", "speed": 1.1}},
}


def offer_with(api: TestClient, secret: str, **more: Any) -> int:
    headers = {"authorization": f"Bearer {secret}"}
    if "files" not in more:
        headers |= SDP
        more["content"] = OFFER
    return api.post(CALLS, headers=headers, **more).status_code


def test_a_secret_comes_with_the_effective_session(locked: TestClient) -> None:
    response = locked.post(SECRETS, headers=KEY, json={"session": SESSION})
    assert response.status_code == 200
    body = response.json()
    assert body["value"].startswith("ek_")
    assert body["expires_at"] == NOON + 600
    session = body["session"]
    assert session["id"].startswith("sess_")
    assert (session["object"], session["expires_at"]) == ("realtime.session", 0)
    assert session["audio"]["output"]["voice"] == "marin"
    assert ClientSecretCreateResponse.model_validate(body).session.type == "realtime"


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"expires_after":null,"session":null}', b'{"expires_after":{}}'],
)
def test_everything_is_optional(locked: TestClient, body: bytes) -> None:
    response = locked.post(SECRETS, headers=KEY, content=body)
    assert response.status_code == 200
    assert response.json()["expires_at"] == NOON + 600


def test_a_transcription_session_is_described_as_one(locked: TestClient) -> None:
    response = locked.post(SECRETS, headers=KEY, json={"session": {"type": "transcription"}})
    assert response.json()["session"]["object"] == "realtime.transcription_session"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"expires_after": {"seconds": 9}}, "invalid_value", "expires_after.seconds"),
        ({"expires_after": {"seconds": 7201}}, "invalid_value", "expires_after.seconds"),
        ({"expires_after": {"seconds": "60"}}, "invalid_type", "expires_after.seconds"),
        ({"expires_after": {"anchor": "now"}}, "invalid_value", "expires_after.anchor"),
        ({"ttl": 60}, "unknown_parameter", "ttl"),
        ({"session": "realtime"}, "invalid_type", "session"),
        ({"session": {"model": "gpt-realtime"}}, "missing_required_parameter", "session.type"),
        ({"session": {"type": "realtime", "mood": 1}}, "unknown_parameter", "session.mood"),
    ],
)
def test_a_bad_request_is_named(
    locked: TestClient, body: dict[str, Any], code: str, param: str
) -> None:
    response = locked.post(SECRETS, headers=KEY, json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)


def test_one_secret_starts_many_calls_with_its_session(locked: TestClient, board: Board) -> None:
    secret = locked.post(SECRETS, headers=KEY, json={"session": SESSION}).json()["value"]
    assert offer_with(locked, secret) == 201
    assert offer_with(locked, secret) == 201
    assert board.asked == [("offer", OFFER, SESSION)] * 2


def test_the_browser_may_override_what_the_secret_set(locked: TestClient, board: Board) -> None:
    secret = locked.post(SECRETS, headers=KEY, json={"session": SESSION}).json()["value"]
    session = '{"type":"realtime","audio":{"output":{"speed":1.2},"input":{}}}'
    parts = {"sdp": (None, OFFER), "session": (None, session)}
    assert offer_with(locked, secret, files=parts) == 201
    wanted = SESSION | {"audio": {"output": {"voice": "marin", "speed": 1.2}, "input": {}}}
    assert board.asked == [("offer", OFFER, wanted)]


@pytest.mark.parametrize("seconds", [10, 7200])
def test_a_secret_ends_on_time(locked: TestClient, clock: list[float], seconds: int) -> None:
    body = {"expires_after": {"anchor": "created_at", "seconds": seconds}}
    secret = locked.post(SECRETS, headers=KEY, json=body).json()["value"]
    clock[0] = NOON + seconds - 0.1
    assert offer_with(locked, secret) == 201
    clock[0] = NOON + seconds
    assert offer_with(locked, secret) == 401


def test_expired_secrets_end_in_development_too(api: TestClient, clock: list[float]) -> None:
    secret = api.post(SECRETS, json={}).json()["value"]
    assert offer_with(api, secret) == 201
    clock[0] += 601
    assert offer_with(api, secret) == 401


def test_expired_secrets_do_not_pile_up() -> None:
    clock = [0.0]
    secrets = ClientSecrets(lambda: clock[0])
    values = set()
    for _ in range(1000):
        values.add(secrets.issue(None, 10).value)
        clock[0] += 1
    assert len(values) == 1000
    assert len(secrets) <= 10
    with pytest.raises(AuthenticationError):
        secrets.redeem(values.pop() + "x")

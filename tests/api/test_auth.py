"""Who may do what: keys, client secrets, origins."""

import pytest
from starlette.testclient import TestClient

from tests.api.board import ACTIVE, OFFER, Board
from tests.api.conftest import Connect

CALLS = "/v1/realtime/calls"
SDP = {"content-type": "application/sdp"}
SECRETS = "/v1/realtime/client_secrets"
CONTROL = [
    ("GET", CALLS),
    ("GET", f"{CALLS}/{ACTIVE}"),
    ("DELETE", f"{CALLS}/{ACTIVE}"),
    ("POST", f"{CALLS}/{ACTIVE}/accept"),
    ("POST", f"{CALLS}/{ACTIVE}/reject"),
    ("POST", f"{CALLS}/{ACTIVE}/hangup"),
    ("POST", SECRETS),
]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("key", ["sk-one", "sk-two"])
def test_every_configured_key_is_accepted(locked: TestClient, key: str) -> None:
    assert locked.get(CALLS, headers=bearer(key)).status_code == 200
    assert locked.get(CALLS, headers={"authorization": f"bearer  {key}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("sk-on"),
        bearer("sk-one2"),
        bearer("\xff"),
        bearer("ek_unknown"),
        {"authorization": "Basic sk-one"},
        {"authorization": "sk-one"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [*CONTROL, ("POST", CALLS)])
def test_anything_else_is_401_before_the_switchboard_is_asked(
    locked: TestClient, board: Board, method: str, path: str, headers: dict[str, str]
) -> None:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    response = locked.request(method, path, headers=encoded)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"
    assert board.asked == []


@pytest.mark.parametrize("headers", [{}, bearer("sk-anything"), {"authorization": "Basic x"}])
def test_without_keys_everyone_is_let_in(api: TestClient, headers: dict[str, str]) -> None:
    assert api.get(CALLS, headers=headers).status_code == 200
    assert api.post(CALLS, content=OFFER, headers=headers | SDP).status_code == 201


@pytest.mark.parametrize("keys", [(), ("sk-one",)])
@pytest.mark.parametrize(("method", "path"), CONTROL)
def test_a_client_secret_controls_nothing(
    connect: Connect, board: Board, keys: tuple[str, ...], method: str, path: str
) -> None:
    api = connect(*keys)
    secret = api.post(SECRETS, headers=bearer("sk-one"), json={}).json()["value"]
    assert api.request(method, path, headers=bearer(secret)).status_code == 401
    assert api.post(CALLS, content=OFFER, headers=SDP | bearer(secret)).status_code == 201
    assert [verb for verb, *_ in board.asked] == ["offer"]


PAGES = ["http://localhost", "https://localhost:5173", "http://127.0.0.1:8080", "http://[::1]:3000"]
STRANGERS = [
    "https://evil.example",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "null",
    "http://localhost:1@evil.example",
]


@pytest.mark.parametrize("origin", PAGES)
def test_without_keys_pages_of_this_machine_may_call(api: TestClient, origin: str) -> None:
    response = api.post(CALLS, content=OFFER, headers=SDP | {"origin": origin})
    assert response.status_code == 201
    assert response.headers["access-control-allow-origin"] == origin
    assert response.headers["access-control-expose-headers"].lower() == "location"


@pytest.mark.parametrize("origin", STRANGERS)
def test_without_keys_other_pages_may_not(api: TestClient, board: Board, origin: str) -> None:
    response = api.post(f"{CALLS}/{ACTIVE}/hangup", headers={"origin": origin})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in response.headers
    assert board.asked == []


def test_configured_origins_may_call_with_and_without_keys(connect: Connect) -> None:
    page = {"origin": "https://shop.example"}
    for keys in ((), ("sk-one",)):
        api = connect(*keys, origins=("https://shop.example",))
        response = api.post(CALLS, content=OFFER, headers=SDP | page | bearer("sk-one"))
        assert response.status_code == 201
        assert response.headers["access-control-allow-origin"] == "https://shop.example"


def test_with_keys_localhost_is_no_longer_special(locked: TestClient) -> None:
    headers = SDP | bearer("sk-one") | {"origin": "http://localhost"}
    response = locked.post(CALLS, content=OFFER, headers=headers)
    assert response.status_code == 201
    assert "access-control-allow-origin" not in response.headers


def test_preflight_allows_what_sdks_send(api: TestClient) -> None:
    asked = (
        "authorization,content-type,x-openai-agents-sdk,openai-safety-identifier,"
        "x-stainless-lang,x-stainless-retry-count"
    )
    response = api.options(
        CALLS,
        headers={
            "origin": "http://localhost:5173",
            "access-control-request-method": "POST",
            "access-control-request-headers": asked,
        },
    )
    assert response.status_code == 200
    allowed = response.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
    assert set(asked.split(",")) <= set(allowed)


def test_errors_are_readable_across_origins(locked: TestClient, connect: Connect) -> None:
    api = connect("sk-one", origins=("https://shop.example",))
    response = api.post(CALLS, content=OFFER, headers=SDP | {"origin": "https://shop.example"})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == "https://shop.example"

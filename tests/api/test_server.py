"""The application around the routes: unknown URLs, health, metrics, the console's files."""

import re

import pytest
from starlette.testclient import TestClient

import bridge
from bridge.api.console.routes import STATIC
from tests.api.board import ACTIVE, Board
from tests.api.conftest import Connect


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("POST", "/v1/realtime/calls/", 404),
        ("POST", f"/v1/realtime/calls/{ACTIVE}/dance", 404),
        ("PUT", "/v1/realtime/calls", 405),
        ("GET", f"/v1/realtime/calls/{ACTIVE}/accept", 405),
        ("GET", "/docs", 404),
        ("GET", "/console/..%2froutes.py", 404),
        ("GET", "/console/nothing.js", 404),
    ],
)
def test_unknown_urls_get_the_error_object(
    api: TestClient, method: str, path: str, status: int
) -> None:
    response = api.request(method, path)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert ("allow" in response.headers) is (status == 405)


def test_a_fault_of_ours_is_a_500_that_tells_nothing(api: TestClient, board: Board) -> None:
    board.asked = None  # type: ignore[assignment]
    response = api.post(f"/v1/realtime/calls/{ACTIVE}/hangup")
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "NoneType" not in response.text


def test_health_follows_the_process_and_readiness_the_server(connect: Connect) -> None:
    assert connect("sk-one").get("/healthz").status_code == 200
    assert connect("sk-one", ready=True).get("/readyz").status_code == 200
    draining = connect("sk-one", ready=False)
    assert draining.get("/readyz").status_code == 503
    assert draining.get("/healthz").status_code == 200


def test_readiness_tells_what_works_less_well(connect: Connect) -> None:
    assert connect("sk-one").get("/readyz").json() == {"status": "ready"}
    told = connect("sk-one", degraded=("WebRTC is slow",)).get("/readyz")
    assert (told.status_code, told.json()["degraded"]) == (200, ["WebRTC is slow"])


def test_metrics_speak_prometheus(api: TestClient) -> None:
    response = api.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "# TYPE" in response.text


def test_the_page_needs_no_key_and_loads_only_its_own_files(locked: TestClient) -> None:
    page = locked.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    linked = re.findall(r'(?:href|src)="([^"#]+)"', page.text)
    assert linked
    for path in linked:
        assert path.startswith("/console/")
        assert locked.get(path).status_code == 200


@pytest.mark.parametrize("script", sorted(file.name for file in STATIC.glob("*.js")))
def test_every_import_of_a_script_is_served(locked: TestClient, script: str) -> None:
    response = locked.get(f"/console/{script}")
    assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    for path in re.findall(r'from "\./([^"]+)"', response.text):
        assert locked.get(f"/console/{path}").status_code == 200


@pytest.mark.parametrize(("keys", "development"), [((), True), (("sk-one",), False)])
def test_the_page_learns_how_to_call(
    connect: Connect, keys: tuple[str, ...], development: bool
) -> None:
    assert connect(*keys).get("/console.json").json() == {
        "version": bridge.__version__,
        "development": development,
        "sip_uris": ["sip:agent@127.0.0.1:5060"],
    }

"""The WebSocket: who gets in, what it selects, what travels, how it closes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from bridge.api.auth import ClientSecrets, Keyring
from bridge.api.realtime import RealtimeRoutes
from bridge.errors import BackendError
from tests.api.board import ACTIVE, RINGING, Board
from tests.api.conftest import Connect

WS = "/v1/realtime"
KEY = {"authorization": "Bearer sk-one"}
HELLO = '{"type":"session.created"}'


def refused(
    api: TestClient,
    url: str,
    *,
    headers: dict[str, str] | None = None,
    protocols: Sequence[str] = (),
) -> tuple[int, str | None]:
    """Status and error code of a refusal before the upgrade."""
    with (
        pytest.raises(WebSocketDenialResponse) as refusal,
        api.websocket_connect(url, subprotocols=protocols or None, headers=headers or {}),
    ):
        pass
    response = refusal.value
    body = response.json()
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return response.status_code, body["error"]["code"]


def test_a_model_opens_a_session(locked: TestClient, board: Board) -> None:
    with locked.websocket_connect(f"{WS}?model=gpt-x", headers=KEY) as websocket:
        assert websocket.accepted_subprotocol is None
        assert websocket.receive_text() == HELLO
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello"
    assert board.asked == [("open_session", "gpt-x", None)]
    assert board.plain.detached == board.plain.clients


def test_a_long_event_is_done_before_the_next(locked: TestClient) -> None:
    with locked.websocket_connect(f"{WS}?model=gpt-x", headers=KEY) as websocket:
        assert websocket.receive_text() == HELLO
        websocket.send_text("long 2")
        websocket.send_text("next")
        told = [websocket.receive_text() for _ in range(4)]
    assert told == ["long 2", "2 left", "1 left", "next"]


def test_a_call_id_attaches_to_the_call_and_wins_over_a_model(
    locked: TestClient, board: Board
) -> None:
    url = f"{WS}?model=gpt-x&call_id={ACTIVE}"
    with locked.websocket_connect(url, headers=KEY) as websocket:
        assert websocket.receive_text() == HELLO
    assert board.asked == []
    assert len(board.on_call.clients) == 1
    assert board.on_call.detached == board.on_call.clients


@pytest.mark.parametrize(("query", "extras"), [("", False), ("&events=bridge", True)])
def test_extra_events_are_opt_in(api: TestClient, board: Board, query: str, extras: bool) -> None:
    with api.websocket_connect(f"{WS}?call_id={ACTIVE}{query}"):
        pass
    assert [client.extras for client in board.on_call.clients] == [extras]


@pytest.mark.parametrize(
    ("url", "headers", "answer"),
    [
        (f"{WS}?call_id=rtc_nobody", KEY, (404, "call_id_not_found")),
        (f"{WS}?call_id=", KEY, (404, "call_id_not_found")),
        (f"{WS}?call_id={RINGING}", KEY, (404, "call_id_not_found")),
        (WS, KEY, (400, "missing_required_parameter")),
        (f"{WS}?model=", KEY, (400, "missing_required_parameter")),
        (f"{WS}?model=gpt-x", {}, (401, "invalid_api_key")),
        (f"{WS}?call_id={ACTIVE}", {"authorization": "Bearer nope"}, (401, "invalid_api_key")),
        (f"{WS}?call_id=rtc_nobody", {}, (401, "invalid_api_key")),
    ],
)
def test_refusals_come_before_the_upgrade(
    locked: TestClient, url: str, headers: dict[str, str], answer: tuple[int, str]
) -> None:
    assert refused(locked, url, headers=headers) == answer


@pytest.mark.parametrize("more", ["", "&model=gpt-x"])
def test_an_intent_opens_a_transcription_session(
    locked: TestClient, board: Board, more: str
) -> None:
    with locked.websocket_connect(f"{WS}?intent=transcription{more}", headers=KEY) as websocket:
        assert websocket.receive_text() == HELLO
    assert board.asked == [("open_session", "", {"type": "transcription"})]


def test_an_unknown_intent_is_refused(api: TestClient) -> None:
    assert refused(api, f"{WS}?intent=espionage") == (400, "invalid_value")


def test_a_secret_for_transcription_opens_nothing_else(locked: TestClient, board: Board) -> None:
    session = {"type": "transcription", "include": None}
    minted = locked.post("/v1/realtime/client_secrets", headers=KEY, json={"session": session})
    protocols = ["realtime", f"openai-insecure-api-key.{minted.json()['value']}"]
    for query in ("", "?intent=transcription", "?model=gpt-z"):
        with locked.websocket_connect(f"{WS}{query}", subprotocols=protocols):
            pass
    assert board.asked == [("open_session", "", session)] * 3


def test_a_secret_for_speech_may_transcribe(locked: TestClient, board: Board) -> None:
    minted = locked.post("/v1/realtime/client_secrets", headers=KEY, json={})
    protocols = ["realtime", f"openai-insecure-api-key.{minted.json()['value']}"]
    with locked.websocket_connect(f"{WS}?intent=transcription", subprotocols=protocols):
        pass
    assert board.asked == [("open_session", "", {"type": "transcription"})]


def test_a_model_that_is_away_refuses_before_the_upgrade(api: TestClient, board: Board) -> None:
    board.refuse = BackendError("the model is away")
    assert refused(api, f"{WS}?model=gpt-x") == (502, "backend_unavailable")


BROWSER = ["realtime", "openai-insecure-api-key.sk-two", "openai-agents-sdk.0.20.0"]


def test_a_browser_offers_its_key_as_a_subprotocol(locked: TestClient) -> None:
    with locked.websocket_connect(f"{WS}?model=gpt-x", subprotocols=BROWSER) as websocket:
        assert websocket.accepted_subprotocol == "realtime"


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        (["openai-insecure-api-key.sk-one"], None),
        (["openai-insecure-api-key.sk-one", "realtime"], "realtime"),
        (["openai-organization.o", *BROWSER], "realtime"),
    ],
)
def test_only_realtime_is_ever_selected(
    locked: TestClient, offered: list[str], selected: str | None
) -> None:
    with locked.websocket_connect(f"{WS}?model=m", subprotocols=offered) as websocket:
        assert websocket.accepted_subprotocol == selected


@pytest.mark.parametrize("key", ["sk-three", ""])
def test_a_wrong_key_in_a_subprotocol_is_refused(locked: TestClient, key: str) -> None:
    offered = ["realtime", f"openai-insecure-api-key.{key}"]
    assert refused(locked, f"{WS}?model=m", protocols=offered) == (401, "invalid_api_key")


def test_a_client_secret_opens_sessions_of_its_own_only(locked: TestClient, board: Board) -> None:
    session = {"type": "realtime", "model": "gpt-y", "instructions": "hi"}
    minted = locked.post("/v1/realtime/client_secrets", headers=KEY, json={"session": session})
    protocols = ["realtime", f"openai-insecure-api-key.{minted.json()['value']}"]
    with locked.websocket_connect(WS, subprotocols=protocols):
        pass
    with locked.websocket_connect(f"{WS}?model=gpt-z", subprotocols=protocols):
        pass
    assert board.asked == [
        ("open_session", "gpt-y", session),
        ("open_session", "gpt-z", session | {"model": "gpt-z"}),
    ]
    url = f"{WS}?call_id={ACTIVE}"
    assert refused(locked, url, protocols=protocols) == (401, "invalid_api_key")


def test_the_beta_header_is_tolerated(api: TestClient) -> None:
    headers = {"openai-beta": "realtime=v1"}
    with api.websocket_connect(f"{WS}?model=m", headers=headers) as websocket:
        assert websocket.receive_text() == HELLO


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_without_keys_other_pages_may_not_listen(api: TestClient, origin: str) -> None:
    answer = refused(api, f"{WS}?call_id={ACTIVE}", headers={"origin": origin})
    assert answer == (401, "origin_not_allowed")


def test_binary_frames_are_read_as_text(api: TestClient, board: Board) -> None:
    with api.websocket_connect(f"{WS}?model=m") as websocket:
        websocket.receive_text()
        websocket.send_bytes(b'{"type":"x"}')
        assert websocket.receive_text() == '{"type":"x"}'
        websocket.send_bytes(b"\xff")
        assert websocket.receive_text() == "\ufffd"


@pytest.mark.parametrize(
    ("asked", "code", "reason"),
    [
        ("close 1000 call ended", 1000, "call ended"),
        ("close", 1000, ""),
        ("close 1008 slow_consumer", 1008, "slow_consumer"),
        ("close 4000 invalid_request_error.x", 4000, "invalid_request_error.x"),
        ("close 1001 " + "é" * 100, 1001, "é" * 61),
    ],
)
def test_the_session_closes_with_its_own_code(
    connect: Connect, board: Board, asked: str, code: int, reason: str
) -> None:
    with connect().websocket_connect(f"{WS}?call_id={ACTIVE}") as websocket:
        websocket.receive_text()
        websocket.send_text(asked)
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
    assert (closed.value.code, closed.value.reason) == (code, reason)
    assert board.on_call.detached == board.on_call.clients


def test_two_sidebands_see_one_session(api: TestClient, board: Board) -> None:
    url = f"{WS}?call_id={ACTIVE}"
    with api.websocket_connect(url) as one, api.websocket_connect(url) as two:
        assert one.receive_text() == two.receive_text() == HELLO
        for client in board.on_call.clients:
            client.push("to all")
        assert one.receive_text() == two.receive_text() == "to all"


Message = dict[str, Any]


def attach(board: Board, send: Callable[[Message], Awaitable[None]]) -> None:
    """One sideband over bare ASGI, to a client that says nothing and whose socket is `send`."""
    routes = RealtimeRoutes(board, Keyring((), ClientSecrets(lambda: 0.0)), send_timeout_s=0.01)
    connected = asyncio.Event()

    async def receive() -> Message:
        if connected.is_set():
            await asyncio.Event().wait()
        connected.set()
        return {"type": "websocket.connect"}

    scope = {
        "type": "websocket",
        "path": WS,
        "query_string": f"call_id={ACTIVE}".encode(),
        "headers": [],
        "subprotocols": [],
    }
    asyncio.run(routes.connect(WebSocket(scope, receive, send)))  # type: ignore[arg-type]


def test_a_client_that_vanishes_while_written_to_is_only_detached(board: Board) -> None:
    async def broken(message: Message) -> None:
        if message["type"] == "websocket.send":
            raise ConnectionResetError

    attach(board, broken)
    assert board.on_call.detached == board.on_call.clients


def test_a_client_that_stops_reading_is_closed_and_detached(board: Board) -> None:
    closed: list[Message] = []

    async def stuck(message: Message) -> None:
        if message["type"] == "websocket.close":
            closed.append(message)
        if message["type"] != "websocket.accept":
            await asyncio.Event().wait()

    attach(board, stuck)
    assert [(message["code"], message["reason"]) for message in closed] == [(1008, "slow_consumer")]
    assert board.on_call.detached == board.on_call.clients

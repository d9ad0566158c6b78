"""A switchboard in memory behind the real application."""

from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from bridge.api.server import ApiSettings, create_api
from tests.api.board import NOON, Board


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def clock() -> list[float]:
    """Unix seconds, moved by hand."""
    return [NOON]


Connect = Callable[..., TestClient]


@pytest.fixture
def connect(board: Board, clock: list[float]) -> Iterator[Connect]:
    clients: list[TestClient] = []

    def connect(
        *api_keys: str,
        origins: tuple[str, ...] = (),
        ready: bool = True,
        degraded: tuple[str, ...] = (),
    ) -> TestClient:
        app = create_api(
            board,
            config=ApiSettings(api_keys=api_keys, cors_origins=origins),
            ready=lambda: ready,
            degraded=degraded,
            sip_uris=lambda: ["sip:agent@127.0.0.1:5060"],
            clock=lambda: clock[0],
        )
        client = TestClient(app, raise_server_exceptions=False)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def api(connect: Connect) -> TestClient:
    """A server in development mode."""
    return connect()


@pytest.fixture
def locked(connect: Connect) -> TestClient:
    """A server that knows two API keys."""
    return connect("sk-one", "sk-two")

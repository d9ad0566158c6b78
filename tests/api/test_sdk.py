"""The routes as OpenAI's own Python SDK drives them."""

from collections.abc import Iterator
from typing import cast

import pytest
from openai import (
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    OpenAI,
)
from openai.types.realtime import RealtimeSessionCreateRequestParam
from starlette.testclient import TestClient

from bridge.errors import ConflictError, OverloadedError
from tests.api.board import ACTIVE, ANSWER, OFFER, RINGING, Board
from tests.api.conftest import Connect

SESSION = cast(
    RealtimeSessionCreateRequestParam,
    {"type": "realtime", "model": "gpt-realtime", "audio": {"output": {"voice": "marin"}}},
)


@pytest.fixture
def openai(locked: TestClient) -> Iterator[OpenAI]:
    with OpenAI(api_key="sk-one", base_url="http://server/v1", http_client=locked) as client:
        yield client


def test_an_offer_with_and_without_a_session(openai: OpenAI, board: Board) -> None:
    assert openai.realtime.calls.create(sdp=OFFER).text == ANSWER
    response = openai.realtime.calls.with_raw_response.create(sdp=OFFER, session=SESSION)
    assert response.headers["location"].split("/")[-1] == ACTIVE
    assert board.asked == [("offer", OFFER, None), ("offer", OFFER, SESSION)]


def test_the_verbs(openai: OpenAI, board: Board) -> None:
    calls = openai.realtime.calls
    calls.accept(RINGING, type="realtime", instructions="Be brief.")
    calls.reject(RINGING)
    calls.reject(RINGING, status_code=486)
    calls.hangup(ACTIVE)
    assert board.accepted == {"type": "realtime", "instructions": "Be brief."}
    assert board.asked == [
        ("accept", RINGING),
        ("reject", RINGING, 603),
        ("reject", RINGING, 486),
        ("hangup", ACTIVE),
    ]


def test_the_agents_examples_way_to_accept(openai: OpenAI) -> None:
    """It casts the empty answer to a dict, which fails when that claims to be JSON."""
    openai.post(f"/realtime/calls/{RINGING}/accept", body=dict(SESSION), cast_to=dict)


def test_a_client_secret(openai: OpenAI) -> None:
    secret = openai.realtime.client_secrets.create(
        expires_after={"anchor": "created_at", "seconds": 60}, session=SESSION
    )
    assert secret.value.startswith("ek_")
    assert secret.session.type == "realtime"


def test_errors_become_typed_exceptions(openai: OpenAI, connect: Connect) -> None:
    with pytest.raises(NotFoundError) as gone:
        openai.realtime.calls.hangup("rtc_nobody")
    assert gone.value.code == "call_id_not_found"
    with pytest.raises(BadRequestError) as bad:
        openai.realtime.calls.reject(RINGING, status_code=200)
    assert (bad.value.code, bad.value.param) == ("invalid_value", "status_code")
    stranger = openai.with_options(api_key="sk-three")
    with pytest.raises(AuthenticationError) as refused:
        stranger.realtime.calls.create(sdp=OFFER)
    assert refused.value.code == "invalid_api_key"


def test_a_conflict_is_asked_once(openai: OpenAI, board: Board) -> None:
    board.refuse = ConflictError("already accepted")
    with pytest.raises(BadRequestError):
        openai.realtime.calls.accept(RINGING, type="realtime")
    assert len(board.asked) == 1


def test_an_overload_is_a_server_error(openai: OpenAI, board: Board) -> None:
    board.refuse = OverloadedError("full")
    with pytest.raises(InternalServerError):
        openai.with_options(max_retries=0).realtime.calls.create(sdp=OFFER)

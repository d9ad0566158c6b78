"""openai-agents over its WebSocket and its SIP model."""

import sys
from collections.abc import Callable

import pytest

from tests.interop.sdk.peer import Bench, Told

CLIENTS = "tests.interop.sdk.clients"

pytestmark = pytest.mark.interop("espeak-ng", "sox", "openssl")


def test_two_agents_over_a_socket(show: Callable[..., Told], plain: Bench) -> None:
    show("agents-python, WebSocket", plain, [sys.executable, "-m", f"{CLIENTS}.agents_python"])


def test_an_agent_on_a_phone_call(show: Callable[..., Told], plain: Bench) -> None:
    told = show("agents-python, SIP", plain, [sys.executable, "-m", f"{CLIENTS}.agents_sip"])
    assert any(line.startswith("BYE ") for line in told.phones["agents"].seen)

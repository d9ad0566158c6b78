"""@openai/agents-realtime over its WebSocket, its SIP and, in Chromium, its WebRTC transport."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.sdk.peer import Bench, Told

NODE = Path(__file__).parent / "node"

pytestmark = pytest.mark.interop("node", "@openai/agents-realtime", "espeak-ng", "sox", "openssl")


def test_two_agents_over_a_socket(show: Callable[..., Told], secure: Bench) -> None:
    show("agents-realtime, WebSocket", secure, ["node", str(NODE / "agents_socket.mjs")])


def test_an_agent_on_a_phone_call(show: Callable[..., Told], secure: Bench) -> None:
    told = show("agents-realtime, SIP", secure, ["node", str(NODE / "agents_sip.mjs")])
    assert any(line.startswith("BYE ") for line in told.phones["agents"].seen)


@pytest.mark.interop(
    "node", "@openai/agents-realtime", "playwright-core", "chromium", "espeak-ng", "sox", "openssl"
)
def test_an_agent_in_a_browser(show: Callable[..., Told], secure: Bench) -> None:
    command = ["node", str(NODE / "agents_browser.mjs")]
    chromium = shutil.which("chromium") or ""
    show("agents-realtime, WebRTC", secure, command, PEER_CHROMIUM=chromium)

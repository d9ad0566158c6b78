"""openai-node: its sockets are wss only."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.sdk.peer import Bench, Told

NODE = Path(__file__).parent / "node"

pytestmark = pytest.mark.interop("node", "openai", "espeak-ng", "sox", "openssl")


def test_all_of_it(show: Callable[..., Told], secure: Bench) -> None:
    told = show("openai-node 7.55", secure, ["node", str(NODE / "openai_node.mjs")])
    assert told.phones["rejected"].statuses[-1] == 486
    accepted = told.phones["accepted"]
    assert any(packet.peak > 2000 for packet in accepted.packets)
    assert any(line.startswith("BYE ") for line in accepted.seen)
    transferred = told.phones["transferred"]
    assert transferred.referred_to == ["<tel:+4930123456>"]
    assert any(line.startswith("BYE ") for line in transferred.seen)

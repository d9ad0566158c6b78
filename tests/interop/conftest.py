"""Peers from Debian, npm and PyPI: what is not installed is left out, and named."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.interop.judge import Judge
from tests.interop.sdk import venvs
from tests.processes import say

HERE = Path(__file__).parent
NODE_PEERS = {
    "jssip": HERE / "node",
    "playwright-core": HERE / "node",
    "openai": HERE / "sdk" / "node",
    "@openai/agents-realtime": HERE / "sdk" / "node",
}
REQUIRED = os.environ.get("BRIDGE_REQUIRE_PEERS") == "1"


def is_here(peer: str) -> bool:
    if peer in NODE_PEERS:
        return (NODE_PEERS[peer] / "node_modules" / peer).is_dir()
    if peer in venvs.NAMES:
        return venvs.is_here(peer)
    return shutil.which(peer) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `interop("peer", …)` run when every peer they name is here."""
    missing: Counter[str] = Counter()
    kept = []
    for item in items:
        marker = item.get_closest_marker("interop")
        absent = [peer for peer in (marker.args if marker else ()) if not is_here(peer)]
        missing.update(absent)
        if not absent:
            kept.append(item)
    if missing:
        named = ", ".join(f"{peer} ({count} tests)" for peer, count in sorted(missing.items()))
        say(config, f"left out for want of peers: {named}; scripts/install-peers")
    if missing.keys() & venvs.HEAVY:
        say(config, "  pipecat, livekit and gllm: scripts/install-peers --all")
    if missing and REQUIRED:
        raise pytest.UsageError(f"missing peers: {', '.join(missing)}; scripts/install-peers --all")
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(scope="session")
def judge(conforms: Callable[[dict[str, Any]], None]) -> Iterator[Judge]:
    """Hears every event that reached a client of these tests."""
    with closing(Judge(conforms)) as judge:
        yield judge

"""BRIDGE_SCENARIOS=10000 pytest tests/sip/test_simulation.py plays more of them."""

import os
from collections import Counter

import pytest

from tests.garbage import none_of_ours
from tests.sip.simulation import play

SCENARIOS = int(os.environ.get("BRIDGE_SCENARIOS", "500"))
BLOCKS = 10


@pytest.mark.parametrize("block", range(BLOCKS))
def test_both_ends_agree_and_nothing_is_left(block: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(block, SCENARIOS, BLOCKS):
        for calls in play(seed).named.values():
            seen.update(type(event).__name__ for call in calls for event in call.ends)
    assert min(seen[kind] for kind in ("CallEnded", "CallCancelled", "OutgoingFailed")) > 0


def test_a_call_is_freed_without_a_collection() -> None:
    play(1)
    with none_of_ours():
        world = play(2)  # the agents themselves are not meant
    assert world.named

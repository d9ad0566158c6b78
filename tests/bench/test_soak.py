"""A leak is seen, and what is left over is named."""

from dataclasses import replace

import pytest

from tests.bench.soak import State, slope

START = State(rss_kib=100_000, tasks=9, threads=2, fds=40, ports=1, calls=0, sessions=0, ended=0)


def states(leak_kib: float) -> list[State]:
    """Calls end ten at a time; the first quarter of the memory is growing up."""
    grown = [min(at, 5) * 5000 for at in range(40)]
    return [
        replace(START, rss_kib=START.rss_kib + grown[at] + leak_kib * 10 * at, ended=10 * at)
        for at in range(40)
    ]


@pytest.mark.parametrize("leak_kib", [0.0, 3.0])
def test_the_slope_is_what_a_call_leaves_behind(leak_kib: float) -> None:
    assert slope(states(leak_kib)) == pytest.approx(leak_kib, abs=0.01)


def test_no_slope_without_calls() -> None:
    assert slope(states(1.0)[:3]) is None
    assert slope([START] * 20) is None


def test_what_is_left_over_is_named() -> None:
    after = replace(START, tasks=10, fds=42, ports=2, threads=1)
    assert after.left_over(START) == [
        "tasks: 9 before, 10 after",
        "fds: 40 before, 42 after",
        "ports: 1 before, 2 after",
    ]
    assert START.left_over(START) == []

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bridge.media.clock import ClockStats, MediaClock
from tests.virtual import VirtualLoop


class Plane:
    """Notes when it is ticked; `work` may stall the loop or raise."""

    def __init__(self, loop: VirtualLoop, work: Callable[[int], float] = lambda _: 0.0) -> None:
        self.loop = loop
        self.work = work
        self.ticks: list[float] = []
        self.polls = 0

    def poll(self, now: float) -> int:
        assert now == self.loop.time()
        assert len(self.ticks) == self.polls
        self.polls += 1
        return 0

    def tick(self, now: float) -> None:
        self.ticks.append(round(now - 1000.0, 6))
        self.loop.selector.now += self.work(len(self.ticks))


def run(work: Callable[[int], float], seconds: float) -> tuple[MediaClock, Plane]:
    loop = VirtualLoop()
    plane = Plane(loop, work)
    clock = MediaClock(plane, plane)

    async def main() -> None:
        clock.start()
        with pytest.raises(RuntimeError):
            clock.start()
        await asyncio.sleep(seconds)
        await clock.close()
        await clock.close()
        ticks = len(plane.ticks)
        await asyncio.sleep(1)
        assert len(plane.ticks) == ticks

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    return clock, plane


def test_fifty_ticks_a_second_polled_before_each() -> None:
    clock, plane = run(lambda _: 0.0, 10.01)
    assert len(plane.ticks) == 500
    assert plane.ticks == pytest.approx([0.02 * n for n in range(1, 501)])
    assert clock.stats.ticks == 500
    assert clock.stats.skipped == 0
    assert clock.stats.percentile(0.99) < 0.001


def test_long_work_does_not_add_up() -> None:
    _, plane = run(lambda _: 0.015, 10.01)
    assert plane.ticks == pytest.approx([0.02 * n for n in range(1, 501)])


def test_after_a_stall_it_skips_and_keeps_its_phase() -> None:
    clock, plane = run(lambda n: 0.105 if n == 10 else 0.0, 0.5)
    assert plane.ticks[9:12] == pytest.approx([0.2, 0.32, 0.34])
    assert clock.stats.skipped == 5


def test_lateness_is_measured() -> None:
    clock, _ = run(lambda n: 0.025 if n == 10 else 0.0, 1.0)
    assert clock.stats.skipped == 1
    assert clock.stats.percentile(0.5) == pytest.approx(0, abs=0.001)
    assert ClockStats().percentile(0.5) == 0


def test_a_tick_that_fails_does_not_stop_the_clock() -> None:
    def fail_once(n: int) -> float:
        if n == 3:
            raise ArithmeticError("once")
        return 0.0

    loop = VirtualLoop()
    plane = Plane(loop, fail_once)
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    clock = MediaClock(plane, plane, loop)

    async def main() -> None:
        clock.start()
        await asyncio.sleep(0.205)
        await clock.close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert len(plane.ticks) == 10
    assert [type(failure["exception"]) for failure in failures] == [ArithmeticError]

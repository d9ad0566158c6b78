import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from itertools import pairwise
from typing import Any

import pytest

from bridge.media.clock import FEW, MANY_DATAGRAMS, ClockStats, MediaClock
from tests.media.clocked import Plane, few
from tests.virtual import VirtualLoop


def run(
    work: Callable[[int], float], seconds: float, phases: Collection[int] = range(4)
) -> tuple[MediaClock, Plane]:
    loop = VirtualLoop()
    plane = Plane(loop, work)
    plane.phases = phases
    clock = MediaClock(plane, plane, stopwatch=loop.time)

    async def main() -> None:
        clock.start()
        with pytest.raises(RuntimeError):
            clock.start()
        await asyncio.sleep(seconds)
        await clock.close()
        await clock.close()
        slots = len(plane.slots)
        await asyncio.sleep(1)
        assert len(plane.slots) == slots
        plane.close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    return clock, plane


def test_two_hundred_slots_a_second_polled_before_each() -> None:
    clock, plane = run(lambda _: 0.0, 10.001)
    assert plane.numbers == list(range(1, 2001))
    assert [at for _, at in plane.slots] == pytest.approx([0.005 * n for n in range(1, 2001)])
    assert plane.polls == 2000
    assert clock.stats.slots == 2000
    assert clock.stats.skipped == 0
    assert clock.stats.percentile(0.99) < 0.001


def test_long_work_does_not_add_up() -> None:
    clock, plane = run(lambda _: 0.004, 1.001)
    assert clock.stats.busy_s == pytest.approx(0.8)
    assert [at for _, at in plane.slots] == pytest.approx([0.005 * n for n in range(1, 201)])


def test_up_to_three_late_slots_are_made_up_for_at_once() -> None:
    clock, plane = run(lambda n: 0.018 if n == 10 else 0.0, 0.2)
    assert plane.numbers[9:15] == [10, 11, 12, 13, 14, 15]
    assert [at for _, at in plane.slots[9:15]] == pytest.approx(
        [0.05, 0.068, 0.068, 0.068, 0.07, 0.075]
    )
    assert clock.stats.skipped == 0
    assert clock.stats.max_late_ms == pytest.approx(13)


def test_after_a_stall_no_phase_comes_twice_and_the_deadlines_stay() -> None:
    clock, plane = run(lambda n: 0.105 if n == 10 else 0.0, 0.5)
    assert plane.numbers[9:15] == [10, 28, 29, 30, 31, 32]
    assert [at for _, at in plane.slots[9:15]] == pytest.approx(
        [0.05, 0.155, 0.155, 0.155, 0.155, 0.16]
    )
    assert clock.stats.skipped == 17


def test_too_much_work_leaves_time_for_everything_else() -> None:
    """Four slots take 28 ms and would fill every turn of the loop."""
    clock, plane = run(lambda _: 0.007, 2.0)
    turns = Counter(at for _, at in plane.slots)
    # The first may have been a stall; after each other one a tenth of its work is left.
    for (begin, slots), (after, _) in list(pairwise(turns.items()))[1:]:
        assert after - begin >= slots * 0.007 * 1.1 - 1e-6
    full = [after - begin for begin, after in pairwise(turns) if turns[begin] == 4]
    assert min(full) >= 0.028 + 0.0025
    assert clock.stats.skipped > 0


def test_work_that_nearly_fills_the_time_leaves_no_slot_out() -> None:
    clock, plane = run(lambda n: 0.002 if n % 8 < 2 else 0.0052, 2.0)
    assert plane.numbers == list(range(1, 400))
    assert clock.stats.skipped == 0


def test_it_rests_while_there_are_no_calls() -> None:
    loop = VirtualLoop()
    plane = Plane(loop)
    plane.calls = 0
    clock = MediaClock(plane, plane, stopwatch=loop.time)

    async def main() -> None:
        clock.start()
        await asyncio.sleep(1)
        assert plane.polls == 0
        plane.calls = FEW + 1
        assert plane.on_busy is not None
        plane.on_busy()
        plane.on_busy()
        await asyncio.sleep(0.052)
        assert plane.numbers == list(range(201, 211))
        plane.calls = 0
        await asyncio.sleep(1)
        assert len(plane.slots) == 11
        plane.calls = FEW + 1
        plane.on_busy()
        await asyncio.sleep(0.1)
        await clock.close()
        assert plane.on_busy is None
        plane.close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert clock.stats.skipped == 0
    assert clock.stats.max_late_ms < 0.001


def test_lateness_is_measured() -> None:
    clock, _ = run(lambda n: 0.03 if n == 10 else 0.0, 1.0)
    assert clock.stats.skipped == 2
    assert clock.stats.percentile(0.5) == pytest.approx(0, abs=0.001)
    assert ClockStats().percentile(0.5) == 0


def test_a_slot_that_fails_does_not_stop_the_clock() -> None:
    def fail_once(n: int) -> float:
        if n == 3:
            raise ArithmeticError("once")
        return 0.0

    loop = VirtualLoop()
    plane = Plane(loop, fail_once)
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    clock = MediaClock(plane, plane, loop, stopwatch=loop.time)

    async def main() -> None:
        clock.start()
        await asyncio.sleep(0.051)
        await clock.close()
        plane.close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert len(plane.slots) == 10
    assert [type(failure["exception"]) for failure in failures] == [ArithmeticError]


def test_few_calls_wake_it_to_send_and_when_packets_come() -> None:
    async def scenario(plane: Plane) -> None:
        await asyncio.sleep(0.021)
        plane.peer.send(b"x")
        await asyncio.sleep(0.03)
        assert plane.polls == 3

    clock, plane = few(scenario)
    assert plane.slots == [(3, 0.015), (7, 0.035)]
    assert plane.heard == [0.021]
    assert clock.stats.skipped == 0


def test_what_is_nearly_due_goes_when_packets_come() -> None:
    async def scenario(plane: Plane) -> None:
        await asyncio.sleep(0.032)
        plane.peer.send(b"x")
        await asyncio.sleep(0.03)

    clock, plane = few(scenario)
    assert plane.slots == [(3, 0.015), (7, 0.032), (11, 0.055)]
    assert plane.heard == []
    assert plane.polls == 3
    assert clock.stats.skipped == 0


def test_what_is_nearly_due_waits_for_the_last_of_them() -> None:
    async def scenario(plane: Plane) -> None:
        plane.missing = {7}
        await asyncio.sleep(0.032)
        plane.peer.send(b"x")
        await asyncio.sleep(0.02)
        plane.peer.send(b"x")
        await asyncio.sleep(0.01)

    _, plane = few(scenario)
    assert plane.slots == [(3, 0.015), (7, 0.035), (11, 0.052)]
    assert plane.heard == [0.032]


def test_some_calls_are_polled_when_any_of_them_sends() -> None:
    _, plane = run(lambda _: 0.0, 0.051, phases=(1, 2))
    assert plane.numbers == [1, 2, 5, 6, 9, 10]
    assert plane.polls == 6
    clock, plane = run(lambda n: 0.012 if n == 2 else 0.0, 0.051, phases=(0, 2))
    assert plane.slots == [(2, 0.01), (4, 0.02), (6, 0.032), (8, 0.04), (10, 0.05)]
    assert clock.stats.skipped == 0
    assert clock.stats.slots == 5


def test_more_calls_are_polled_in_every_slot_again() -> None:
    async def scenario(plane: Plane) -> None:
        await asyncio.sleep(0.016)
        plane.calls = FEW + 1
        plane.phases = range(4)
        await asyncio.sleep(0.035)
        plane.peer.send(b"x")
        await asyncio.sleep(0.001)
        assert plane.on_heard is None
        plane.calls = FEW
        await asyncio.sleep(0.005)
        assert plane.on_heard is not None

    _, plane = few(scenario)
    assert plane.numbers == [3, 7, 8, 9, 10, 11]
    assert plane.heard == []


def test_a_flood_at_a_few_calls_waits_until_somebody_sends() -> None:
    async def scenario(plane: Plane) -> None:
        await asyncio.sleep(0.016)
        plane.peer.send(b"x" * (MANY_DATAGRAMS + 1))
        await asyncio.sleep(0.001)
        plane.peer.send(b"x")
        await asyncio.sleep(0.01)
        assert plane.polls == 2
        await asyncio.sleep(0.01)
        assert plane.polls == 3

    _, plane = few(scenario)
    assert plane.numbers == [3, 7]


def test_no_calls_at_all_are_not_woken() -> None:
    async def scenario(plane: Plane) -> None:
        await asyncio.sleep(0.016)
        plane.calls = 0
        await asyncio.sleep(0.03)
        plane.peer.send(b"x")
        await asyncio.sleep(0.03)

    _, plane = few(scenario)
    assert plane.numbers == [3, 7]
    assert plane.polls == 2

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import pairwise
from random import Random
from socket import socketpair
from typing import Any

import numpy as np
import pytest

from bridge.media.clock import FEW, MANY_DATAGRAMS, ClockStats, MediaClock
from tests.virtual import VirtualLoop

RTCP = b"r"
"""A datagram that is nothing to hear."""


class Plane:
    """Notes its slots; `work` may stall the loop or raise. Each of `phases` sends."""

    phases: Collection[int] = range(4)

    def __init__(self, loop: VirtualLoop, work: Callable[[int], float] = lambda _: 0.0) -> None:
        self.on_busy: Callable[[], None] | None = None
        self.on_heard: Callable[[], None] | None = None
        self.loop = loop
        self.work = work
        self.calls = FEW + 1
        self.port, self.peer = socketpair()
        self.port.setblocking(False)
        self.heard: list[float] = []
        self.slots: list[tuple[int, float]] = []
        self.polls = 0
        self.came = False  # a packet, since the last slot
        self.missing: set[int] = set()  # slots before which somebody else's does not come

    def __len__(self) -> int:
        return self.calls

    def fileno(self) -> int:
        return self.port.fileno()

    def poll(self, now: float) -> int:
        assert now == self.loop.time()
        self.polls += 1
        try:
            data = self.port.recv(1000)
        except BlockingIOError:
            return 0
        self.came = self.came or data != RTCP
        if self.on_heard is not None and data != RTCP:
            self.on_heard()
        return len(data)

    def hear(self, now: float) -> None:
        self.heard.append(round(now - 1000.0, 6))

    def next_sending(self, number: int) -> int:
        return min(number + (phase - number) % 4 for phase in self.phases)

    def complete(self, number: int) -> bool:
        return self.came and number not in self.missing

    def close(self) -> None:
        self.port.close()
        self.peer.close()

    def slot(self, number: int, now: float) -> None:
        assert self.polls
        self.came = False
        self.slots.append((number, round(now - 1000.0, 6)))
        self.loop.selector.now += self.work(len(self.slots))

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.slots]


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


def few(scenario: Callable[[Plane], Awaitable[None]]) -> tuple[MediaClock, Plane]:
    loop = VirtualLoop()
    plane = Plane(loop)
    plane.phases = (3,)
    plane.calls = FEW
    clock = MediaClock(plane, plane, stopwatch=loop.time)

    async def main() -> None:
        clock.start()
        await scenario(plane)
        await clock.close()
        plane.peer.send(b"x")
        await asyncio.sleep(0.1)
        plane.close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    return clock, plane


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


@pytest.mark.parametrize("offset_ms", [0, 1, 4, 8, 12, 16, 19])
@pytest.mark.parametrize("ppm", [-200, 0, 200])
def test_the_packets_of_a_single_call_and_ours_share_a_waking(offset_ms: int, ppm: int) -> None:
    polls = []

    async def scenario(plane: Plane) -> None:
        plane.calls = 1
        await asyncio.sleep(offset_ms / 1000)
        for _ in range(500):
            plane.peer.send(b"x")
            polls.append(plane.polls)
            await asyncio.sleep(0.02 * (1 + ppm / 1e6))

    clock, plane = few(scenario)
    assert polls[-1] - polls[-200] == 199
    assert plane.numbers == list(range(3, plane.numbers[-1] + 1, 4))
    spaces = [later - earlier for (_, earlier), (_, later) in pairwise(plane.slots[:500])]
    assert all(0.0155 < space < 0.0202 for space in spaces)
    assert sum(space < 0.0197 for space in spaces) <= 1
    assert clock.stats.skipped == 0


@pytest.mark.parametrize("offset_ms", [0.5, 2, 5, 8, 11, 14, 17, 19.5])
def test_no_packet_more_waits_while_the_clock_comes_to_follow(offset_ms: float) -> None:
    packets_at = [offset_ms / 1000 + 0.02 * n for n in range(400)]
    _, plane = alone(packets_at)
    sent_at = [at for _, at in plane.slots if packets_at[0] <= at <= packets_at[-1]]
    frames = np.searchsorted(packets_at, np.add(sent_at, 1e-6))
    assert np.diff(frames).tolist() == [1] * (len(frames) - 1)
    assert len(frames) >= 398


def alone(packets_at: Iterable[float]) -> tuple[MediaClock, Plane]:
    """A call that is alone, whose packets come at these times."""

    async def scenario(plane: Plane) -> None:
        plane.calls = 1
        for at in packets_at:
            await asyncio.sleep(1000 + at - plane.loop.time())
            plane.peer.send(b"x")
        await asyncio.sleep(0.1)

    return few(scenario)


def steadily(count: int) -> list[float]:
    return [0.013 + 0.02 * n for n in range(count)]


@pytest.mark.parametrize("late_ms", [2, 5, 9.5, 15.5])
def test_what_a_single_caller_says_late_is_waited_for(late_ms: float) -> None:
    """Sent back in the same frame, it leaves no gap in an echo."""
    packets_at = steadily(200)
    packets_at[150] += late_ms / 1000
    clock, plane = alone(packets_at)
    sent_at = [at for _, at in plane.slots]
    assert sent_at[149:153] == pytest.approx(packets_at[149:153], abs=1e-6)
    assert all(at < packets_at[20] for at in plane.heard)
    assert clock.stats.skipped == 0
    assert clock.stats.max_late_ms < 0.001


def test_what_a_single_caller_leaves_out_is_waited_for_once() -> None:
    packets_at = steadily(200)
    missing = packets_at[150:153]
    del packets_at[150:153]
    clock, plane = alone(packets_at)
    sent_at = [at for _, at in plane.slots]
    expected = [missing[0] + 0.016, missing[1] + 0.002, missing[2] + 0.002]
    assert sent_at[150:153] == pytest.approx(expected, abs=2e-4)
    assert sent_at[153:160] == pytest.approx(packets_at[150:157], abs=1e-6)
    assert clock.stats.max_late_ms < 0.001


def test_what_a_single_caller_says_early_goes_when_it_is_due() -> None:
    packets_at = steadily(200)
    packets_at[150] -= 0.008
    _, plane = alone(packets_at)
    sent_at = [at for _, at in plane.slots]
    assert sent_at[149:152] == pytest.approx(
        [packets_at[149], packets_at[150] + 0.010, packets_at[151]], abs=2e-4
    )


def test_what_a_single_caller_says_late_is_waited_for_after_what_was_early() -> None:
    packets_at = steadily(200)
    packets_at[150] -= 0.008
    packets_at[151] += 0.006
    _, plane = alone(packets_at)
    sent_at = [at for _, at in plane.slots]
    assert sent_at[150] == pytest.approx(packets_at[150] + 0.010, abs=2e-4)
    assert sent_at[151:153] == pytest.approx(packets_at[151:153], abs=1e-6)


@pytest.mark.parametrize("uneven_ms", [2, 5, 8])
def test_the_less_evenly_packets_come_the_longer_before_ours(uneven_ms: float) -> None:
    """Each is there when we send, and ours are uneven by what is nearly due at most."""
    lottery = Random(7)
    packets_at = [at + lottery.uniform(0, uneven_ms / 1000) for at in steadily(2000)]
    _, plane = alone(packets_at)
    sent_at = [at for _, at in plane.slots]
    settled = sent_at[1000:1900]
    frames = np.searchsorted(packets_at, np.add(settled, 1e-6))
    assert np.diff(frames).tolist() == [1] * 899
    spaces = np.diff(settled)
    assert 0.0158 < spaces.min() <= spaces.max() < 0.0242


def test_reports_make_nothing_go_early() -> None:
    """They come right before packets, and not in their place."""

    async def scenario(plane: Plane) -> None:
        plane.calls = 1
        for at in steadily(200):
            await asyncio.sleep(1000 + at - 0.001 - plane.loop.time())
            plane.peer.send(RTCP)
            await asyncio.sleep(0.001)
            plane.peer.send(b"x")
        await asyncio.sleep(0.1)

    _, plane = few(scenario)
    sent_at = [at for _, at in plane.slots]
    assert sent_at[100:200] == pytest.approx(steadily(200)[100:], abs=1e-6)


def test_a_second_call_is_not_waited_for() -> None:
    async def scenario(plane: Plane) -> None:
        plane.calls = 1
        for at in steadily(200):
            await asyncio.sleep(1000 + at - plane.loop.time())
            plane.peer.send(b"x")
        plane.calls = 2
        await asyncio.sleep(1)

    _, plane = few(scenario)
    spaces = [later - earlier for (_, earlier), (_, later) in pairwise(plane.slots[202:])]
    assert spaces == pytest.approx([0.02] * len(spaces))


@pytest.mark.parametrize("offset_ms", [0.5, 2, 5, 8, 11, 14, 17, 19.5])
def test_it_follows_a_call_before_much_is_said(offset_ms: float) -> None:
    """What it were put on by later, the far end had to leave out of speech."""
    loop = VirtualLoop()
    plane = Plane(loop)
    plane.phases, plane.calls = (3,), 0
    clock = MediaClock(plane, plane, stopwatch=loop.time)

    async def main() -> None:
        clock.start()
        await asyncio.sleep(0.4)
        plane.calls = 1
        assert plane.on_busy is not None
        plane.on_busy()
        for number in range(400):
            await asyncio.sleep(1000.4 + offset_ms / 1000 + 0.02 * number - loop.time())
            plane.peer.send(b"x")
        await clock.close()
        plane.close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    sent_at = np.array([at for _, at in plane.slots])
    spaces = np.diff(sent_at)
    assert 0.0155 < spaces.min() <= spaces.max() < 0.0202
    late_ms = 1000 * (sent_at - sent_at[-1]) % 20
    assert np.minimum(late_ms, 20 - late_ms)[50:].max() < 0.01
    assert np.minimum(late_ms, 20 - late_ms)[14:].max() < 2.1


def test_no_flood_puts_the_clock_on_faster() -> None:
    async def scenario(plane: Plane) -> None:
        plane.calls = 1
        await asyncio.sleep(0.024)
        for _ in range(40):
            for _ in range(20):
                plane.peer.send(b"x")
                await asyncio.sleep(0.0001)
            await asyncio.sleep(0.018)

    _, plane = few(scenario)
    spaces = [later - earlier for (_, earlier), (_, later) in pairwise(plane.slots[:40])]
    assert len(plane.heard) > 700
    assert all(space > 0.0198 for space in spaces)


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

"""The clock follows a call that is alone."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from bridge.media.clock import MediaClock
from tests.media.clocked import RTCP, Plane, alone, few, steadily
from tests.virtual import VirtualLoop


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


def beginning(scenario: Callable[[Plane], Awaitable[None]]) -> list[float]:
    """When was sent after a call began, at 1000.4, that is alone."""
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
        await scenario(plane)
        await clock.close()
        plane.close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    return [at for _, at in plane.slots]


@pytest.mark.parametrize("offset_ms", [0.5, 2, 5, 8, 11, 14, 17, 19.5])
def test_it_follows_a_call_before_much_is_said(offset_ms: float) -> None:
    """What it were put on by later, the far end had to leave out of speech."""

    async def scenario(plane: Plane) -> None:
        for number in range(400):
            await asyncio.sleep(1000.4 + offset_ms / 1000 + 0.02 * number - plane.loop.time())
            plane.peer.send(b"x")

    sent_at = np.array(beginning(scenario))
    spaces = np.diff(sent_at)
    assert 0.0155 < spaces.min() <= spaces.max() < 0.0202
    late_ms = 1000 * (sent_at - sent_at[-1]) % 20
    assert np.minimum(late_ms, 20 - late_ms)[50:].max() < 0.01
    assert np.minimum(late_ms, 20 - late_ms)[14:].max() < 2.1


def test_it_follows_slowly_who_is_alone_again() -> None:
    async def scenario(plane: Plane) -> None:
        for number in range(200):
            await asyncio.sleep(1000.414 + 0.02 * number - plane.loop.time())
            plane.peer.send(b"x")
            plane.calls = 2 if 3 <= number < 50 else 1

    spaces = np.diff(beginning(scenario))
    assert spaces[:3].min() < 0.019
    assert spaces[51:80].min() > 0.0198


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

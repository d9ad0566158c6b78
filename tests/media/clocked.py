"""A plane that notes what its clock does with it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from socket import socketpair

from bridge.media.clock import FEW, MediaClock
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

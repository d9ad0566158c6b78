"""A loop whose clock jumps to the next timer instead of waiting for it.

`patience_s` is how long it really waits before each jump, for loops with sockets: the kernel may
take a moment to hand a datagram over.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START = 1000.0
A_DAY_S = 86_400.0


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.now = START
        self.patience_s = patience_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(self.patience_s if timeout else 0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, patience_s: float = 0.0) -> None:
        self.selector = _JumpingSelector(patience_s)
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def run(main: Coroutine[Any, Any, T], *, patience_s: float = 0.0) -> T:
    """As asyncio.run; what would wait forever times out at once, and no task may be left."""

    async def limited() -> T:
        async with asyncio.timeout(A_DAY_S):
            result = await main
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(patience_s)) as runner:
        return runner.run(limited())


async def settle() -> None:
    """Let everything happen that waits for nothing but its turn."""
    for _ in range(5):
        await wait(0.001)


async def wait(seconds: float) -> None:
    """Until the clock has passed every timer on the way."""
    due = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, due.set)
    await due.wait()

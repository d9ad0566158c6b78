"""One timer for all calls that look whether their model is still there."""

import asyncio
from collections.abc import Callable

SHARES = 5
"""Of all who look, one after the other: hundreds at once would keep the media waiting."""

Look = Callable[[float], None]


class Beat:
    """Each who has joined is called every `every_s`, with the loop's time. A timer for each would
    wake the process for nothing, a thousand times a second with a hundred calls."""

    def __init__(self, every_s: float) -> None:
        self._step_s = every_s / SHARES
        self._shares: list[dict[Look, None]] = [{} for _ in range(SHARES)]
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def join(self, look: Look) -> None:
        """A bound method is known again; joining twice is once."""
        self.leave(look)
        min(self._shares, key=len)[look] = None
        if self._timer is None:
            self._arm()

    def leave(self, look: Look) -> None:
        """Idempotent."""
        for share in self._shares:
            share.pop(look, None)
        if self._timer is not None and not any(self._shares):
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        steps = range(1, SHARES + 1)
        step = next((n for n in steps if self._shares[(self._next + n) % SHARES]), None)
        if step is None:
            self._timer = None
            return
        self._next = (self._next + step) % SHARES
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(step * self._step_s, self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        looking = tuple(self._shares[self._next])
        self._arm()
        now = loop.time()
        for look in looking:
            look(now)

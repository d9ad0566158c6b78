"""How a model ends its call: once what it said last has been heard, by BYE or a transfer."""

import asyncio
from collections.abc import Callable

from bridge.ids import ResponseId

# The far end still plays what its jitter buffer holds when the last packet has left.
FAREWELL_S = 0.06


class LastWord:
    """`leave` gets where the caller is to be transferred to, or "" to hang up."""

    def __init__(self, loop: asyncio.AbstractEventLoop, leave: Callable[[str], None]) -> None:
        self._loop = loop
        self._leave = leave
        self._response: ResponseId | None = None
        self._target = ""
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, response_id: ResponseId | None, target: str = "") -> None:
        """This is the response after which the call ends; None: there is none."""
        self._response = response_id
        self._target = target

    def cancelled(self, response_id: ResponseId) -> None:
        """A farewell is taken back with the response that held it."""
        if response_id == self._response:
            self._response = None

    def interrupted(self) -> None:
        self._response = None
        self.close()

    def heard(self) -> None:
        """Nothing is left to be said."""
        if self._response is not None and self._timer is None:
            self._timer = self._loop.call_later(FAREWELL_S, self._go)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go(self) -> None:
        if self._target:
            # Should it fail, the caller and the model talk on.
            self._response = self._timer = None
        self._leave(self._target)

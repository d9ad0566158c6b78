"""What happens to a call once the model has been heard to the end: a hangup, a transfer."""

import asyncio
from collections.abc import Callable

from bridge.ids import ResponseId

# The far end still plays what its jitter buffer holds when the last packet has left.
FAREWELL_S = 0.06


class LastWord:
    """One response at most is the last; a caller who interrupts takes that back."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._response_id: ResponseId | None = None
        self._then: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, response_id: ResponseId | None, then: Callable[[], None]) -> None:
        """`then` is called soon after `said`."""
        self._response_id, self._then = response_id, then

    def cancelled(self, response_id: ResponseId) -> None:
        if response_id == self._response_id:
            self._response_id = self._then = None

    def take_back(self) -> None:
        self._response_id = self._then = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def said(self) -> None:
        """Nothing more is to be heard."""
        if self._response_id is not None and self._timer is None:
            self._timer = self._loop.call_later(FAREWELL_S, self._act)

    def _act(self) -> None:
        then = self._then
        self._response_id = self._then = self._timer = None
        if then is not None:
            then()

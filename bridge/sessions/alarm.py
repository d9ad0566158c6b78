"""One timer of the loop, for the time last asked for."""

import asyncio
from collections.abc import Callable


class Alarm:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: float | None = None
        self._handle: asyncio.Handle | None = None

    def set(self, due: float | None, ring: Callable[[], None]) -> None:
        """None: never."""
        if due != self._due:
            self.stop()
        if due is not None and self._handle is None:
            self._due, self._handle = due, self._loop.call_at(due, self._passed, ring)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._due = None

    def _passed(self, ring: Callable[[], None]) -> None:
        self._handle = self._due = None
        ring()

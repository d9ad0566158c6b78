"""The 20 ms clock of all calls: deadlines from one start, so that lateness never adds up."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from bridge.audio.frames import FRAME_MS

INTERVAL_S = FRAME_MS / 1000
REMEMBERED_TICKS = 3000  # a minute of lateness for the percentiles


class Ticking(Protocol):
    def tick(self, now: float, /) -> None: ...


class Polling(Protocol):
    def poll(self, now: float, /) -> object: ...


@dataclass(slots=True)
class ClockStats:
    """Lateness is from the deadline to the start of the tick's work."""

    ticks: int = 0
    skipped: int = 0
    """Deadlines that had passed before the tick ahead of them was over."""
    max_late_ms: float = 0.0
    late_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_TICKS))

    def percentile(self, fraction: float) -> float:
        """Of the last minute, in ms; 0 before the first tick."""
        ordered = sorted(self.late_ms)
        return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else 0.0


class MediaClock:
    """Polls the sockets, then ticks the plane, at t0 + k * 20 ms.

    After a stall it goes on at the next deadline to come: a burst would reach every far end as
    jitter. The plane sees from `now` how much time has passed.
    """

    def __init__(
        self, plane: Ticking, poller: Polling, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.stats = ClockStats()
        self._plane = plane
        self._poller = poller
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._started_at = 0.0
        self._count = 0

    def start(self) -> None:
        """Raises RuntimeError if it runs already."""
        if self._timer is not None:
            raise RuntimeError("the media clock runs already")
        loop = self._loop = self._loop or asyncio.get_running_loop()
        self._started_at = loop.time()
        self._count = 0
        self._arm(loop)

    async def close(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._count += 1
        self._timer = loop.call_at(self._started_at + self._count * INTERVAL_S, self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        late_ms = max(0.0, now - self._started_at - self._count * INTERVAL_S) * 1000
        stats = self.stats
        stats.ticks += 1
        stats.late_ms.append(late_ms)
        stats.max_late_ms = max(stats.max_late_ms, late_ms)
        try:
            self._poller.poll(now)
            self._plane.tick(now)
        finally:
            if self._timer is not None:
                self._skip_missed(loop.time())
                self._arm(loop)

    def _skip_missed(self, now: float) -> None:
        passed = int((now - self._started_at) / INTERVAL_S)
        if passed > self._count:
            self.stats.skipped += passed - self._count
            self._count = passed

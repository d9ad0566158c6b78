"""The clock of all calls in slots of 5 ms; deadlines from one start, so lateness never adds up.

To wake costs more than what some calls have to do, so slots in which nobody sends are skipped: what
comes meanwhile is heard in the next one, 10 ms later in the mean where all calls send in one. A few
calls' packets wake the clock when they come, and what is nearly due is sent with the last of them.
A call that is alone has the clock follow its packets, so that one waking does for both; what comes
late is waited for, or an echo had a gap.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from bridge.audio.frames import FRAME_MS
from bridge.media.schedule import PHASES

SLOT_S = FRAME_MS / PHASES / 1000
REST = 0.1  # of the work's time, for everything else on the loop, when slots outlast themselves
REMEMBERED_SLOTS = 3000  # 15 s of lateness for the percentiles
FEW = 3
"""Calls at most whose packets wake the clock, 50 times a second each."""
NEAR_S = 0.004
"""What is due so soon may go when all packets have come."""
LEAD_S, MAX_LEAD_S = 0.002, 0.010
"""Between a single call's packets and ours, as far as they come unevenly."""
GRACE_S = 0.014
"""What went with packets the last time waits so long for the next ones."""
SLEW_S = 0.0001
"""By so much the clock is put on or back for it, once in 20 ms at most: nobody hears that."""
SETTLING = 12
SETTLE_S = 0.002
"""With so many packets it is put on by so much, as a call begins: what it goes on to do slowly, a
far end's jitter buffer must take back in the midst of speech."""
UNEVEN_GAIN = 1 / 16  # as jitter is averaged in RFC 3550 6.4.1
MANY_DATAGRAMS = 24
"""At once: a flood, which must wait until somebody sends."""


class Slotted(Protocol):
    """The media plane."""

    on_busy: Callable[[], None] | None
    on_heard: Callable[[], None] | None

    def __len__(self) -> int: ...

    def slot(self, number: int, now: float, /) -> None: ...

    def hear(self, now: float, /) -> None: ...

    def next_sending(self, number: int, /) -> int: ...

    def complete(self, number: int, /) -> bool: ...


class Polling(Protocol):
    def fileno(self) -> int: ...

    def poll(self, now: float, /) -> int: ...


@dataclass(slots=True)
class ClockStats:
    """Lateness is from the deadline to the start of the slot's work."""

    slots: int = 0
    skipped: int = 0
    """Deadlines that had passed by 20 ms and more before their turn came."""
    busy_s: float = 0.0
    """Spent in slots since the start."""
    max_late_ms: float = 0.0
    late_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_SLOTS))

    def percentile(self, fraction: float) -> float:
        """Of the last 15 s, in ms; 0 before the first slot."""
        ordered = sorted(self.late_ms)
        return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else 0.0

    def late(self, late_ms: float) -> None:
        self.slots += 1
        self.late_ms.append(late_ms)
        self.max_late_ms = max(self.max_late_ms, late_ms)


def _within_frame(seconds: float) -> float:
    """From half a frame before to half a frame after."""
    return (seconds + FRAME_MS / 2000) % (FRAME_MS / 1000) - FRAME_MS / 2000


class MediaClock:
    """Polls the sockets, then gives the plane its slot, at t0 + k * 5 ms; rests while it is empty.

    Slots that are late by less than 20 ms are made up for at once: each is another phase, so no
    call sends twice. After a longer stall the rest is left out: a burst would reach every far end
    as jitter. Work that keeps outlasting its slot is followed by a rest of a tenth of what it took:
    signalling must go on, and a longer one would cost slots that there is still time for.
    """

    def __init__(
        self,
        plane: Slotted,
        poller: Polling,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`stopwatch`: in seconds, for what slots take; uvloop's own time stands still within one
        turn of it."""
        self.stats = ClockStats()
        self._stopwatch = stopwatch
        self._plane = plane
        self._poller = poller
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._running = False
        self._started_at = 0.0
        self._number = 0  # of the next slot
        self._behind = 0
        self._awaits_packets = False
        self._hearing: asyncio.Handle | None = None
        self._reads = self._came = self._followed = False
        self._ahead_s = self._uneven_s = 0.0  # of a single call's packets
        self._settling = 0  # packets until it follows slowly
        self._paired = False  # what the single call was sent last went with a packet of its own
        self._grace_s = 0.0  # since what is due waits for them

    def start(self) -> None:
        """Raises RuntimeError if it runs already."""
        if self._running:
            raise RuntimeError("the media clock runs already")
        loop = self._loop = self._loop or asyncio.get_running_loop()
        self._running = True
        self._started_at = loop.time()
        self._number = 0
        self._plane.on_busy = self._go_on
        self._go_on()

    async def close(self) -> None:
        """Idempotent."""
        self._running = False
        self._plane.on_busy = None
        if self._loop is not None:
            self._await_packets(self._loop, wanted=False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        if self._loop is not None and self._timer is None:
            # What was left out while nobody called was not missed.
            self._number = max(self._number, self._slot_at(self._loop.time()) + 1)
            # Who is left of others may be in the midst of speech.
            self._settling = SETTLING if len(self._plane) == 1 else 0
            self._arm(self._loop)

    def _slot_at(self, now: float) -> int:
        """The last one that is due; rounding errors are much smaller than a tenth of a slot."""
        return int((now - self._started_at) / SLOT_S + 0.1)

    def _arm(
        self, loop: asyncio.AbstractEventLoop, free_at: float = 0.0, took: float = 0.0
    ) -> None:
        """`free_at`: when the work before was done, and how long it `took`."""
        calls = len(self._plane) if self._running else 0
        self._await_packets(loop, wanted=0 < calls <= FEW)
        if not calls:
            return
        if calls > 1:
            self._settling = 0
        self._number = self._plane.next_sending(self._number)
        due = self._started_at + self._number * SLOT_S
        self._behind = self._behind + 1 if free_at > due else 0
        # Once is a stall, and made up for; again is too little time for all that there is to do.
        if self._behind > 1:
            due = free_at + REST * took
        self._timer = loop.call_at(due, self._wake, loop)

    def _await_packets(self, loop: asyncio.AbstractEventLoop, *, wanted: bool) -> None:
        if wanted == self._awaits_packets:
            return
        self._awaits_packets = wanted
        if wanted:
            loop.add_reader(self._poller.fileno(), self._read, loop)
            self._plane.on_heard = self._heard
            return
        loop.remove_reader(self._poller.fileno())
        self._plane.on_heard = None
        if self._hearing is not None:
            self._hearing.cancel()
            self._hearing = None

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._reads, self._came = True, False
        try:
            count = self._poller.poll(now)
        finally:
            self._reads = False
        if count > MANY_DATAGRAMS:
            # Until the next slot.
            self._await_packets(loop, wanted=False)
        elif self._came:
            self._come(loop, now)

    def _heard(self) -> None:
        self._came = True
        # What is being read is heard after it, not in another turn of the loop.
        if not self._reads and self._hearing is None and self._loop is not None:
            self._hearing = self._loop.call_soon(self._hear, self._loop)

    def _hear(self, loop: asyncio.AbstractEventLoop) -> None:
        self._hearing = None
        self._come(loop, loop.time())

    def _come(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        """Packets of a few calls have been read."""
        ahead = self._started_at + self._number * SLOT_S - now
        near = not self._behind and ahead <= NEAR_S
        if len(self._plane) == 1:
            near = near and not self._settling
            if not self._followed:
                self._followed = True
                self._follow(ahead)
        timer = self._timer
        if timer is not None and near and self._plane.complete(self._number):
            timer.cancel()
            self._run(loop, now)
        else:
            self._plane.hear(now)

    def _follow(self, ahead: float) -> None:
        """`ahead`: how long before we send the packets came."""
        if self._settling == SETTLING:
            self._ahead_s, self._uneven_s = ahead, 0.0
        uneven = abs(_within_frame(ahead - self._ahead_s))
        self._uneven_s += (uneven - self._uneven_s) * UNEVEN_GAIN
        # From the middle to the last is so much, if each moment is as likely as the other.
        lead = min(LEAD_S + 1.5 * self._uneven_s, MAX_LEAD_S)
        most = SETTLE_S if self._settling else SLEW_S
        self._settling = max(0, self._settling - 1)
        # Not the shorter way round a frame: past a packet, an echo is a frame more behind.
        moved = max(-SLEW_S, min(ahead - lead, most))
        self._started_at -= moved
        self._ahead_s = ahead - moved

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        until = self._started_at + self._number * SLOT_S + GRACE_S
        waits = self._paired and not self._grace_s and now < until
        if waits and not self._plane.complete(self._number):
            self._grace_s = GRACE_S
            self._timer = loop.call_at(until, self._wake, loop)
        else:
            self._run(loop, now, polls=True)

    def _run(self, loop: asyncio.AbstractEventLoop, now: float, *, polls: bool = False) -> None:
        """What is due, or soon will be."""
        began = self._stopwatch()
        stats = self.stats
        due_by = now - self._grace_s
        first, last = self._number, max(self._number, self._slot_at(due_by))
        stats.skipped += max(0, last + 1 - PHASES - first)
        self._number = last + 1
        self._timer = None
        self._followed = False
        self._grace_s = 0.0
        try:
            if polls:
                self._poller.poll(now)
            self._paired = len(self._plane) == 1 and self._plane.complete(first)
            for number in range(max(first, last + 1 - PHASES), last + 1):
                stats.late(max(0.0, due_by - self._started_at - number * SLOT_S) * 1000)
                self._plane.slot(number, now)
        finally:
            took = self._stopwatch() - began
            stats.busy_s += took
            # A callback may have ended the last call and begun another.
            if self._timer is None:
                self._arm(loop, now + took, took)

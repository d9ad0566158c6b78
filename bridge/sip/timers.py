"""The SIP timers: their values (RFC 3261 appendix A, RFC 6026) and the queue that fires them."""

import heapq
from enum import StrEnum
from typing import Protocol

T1 = 0.5  # seconds: estimate of the round trip
T2 = 4.0  # seconds: longest gap between two copies of a non-INVITE request or an INVITE response
T4 = 5.0  # seconds: how long the network may keep a message
GIVE_UP = 64 * T1
TIMER_D = GIVE_UP  # RFC 3261 says "at least 32 seconds", which is what timer H of the peer needs
REFRESH_PROVISIONAL = 60.0  # seconds; RFC 3261 section 13.3.1.1, lest a proxy give up on us


class Timer(StrEnum):
    """Names as in the RFCs; those with longer names belong to the users of transactions."""

    A = "A"
    B = "B"
    D = "D"
    E = "E"
    F = "F"
    G = "G"
    H = "H"
    I = "I"  # noqa: E741
    J = "J"
    K = "K"
    L = "L"
    M = "M"
    SUCCESS = "2xx"
    NO_ACK = "no ACK"
    PROVISIONAL = "1xx"
    RELIABLE = "reliable 1xx"
    NO_PRACK = "no PRACK"
    ABANDON = "no answer"
    GLARE = "491"
    REFRESH = "refresh"
    EXPIRY = "expiry"
    REFERRAL = "no NOTIFY"


class TimerOwner(Protocol):
    def timer_fired(self, timer: Timer, now: float) -> None: ...


class TimerQueue:
    """Deadlines of many owners; each owner has one timer of a name, and setting it moves it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerOwner, Timer]] = []
        self._live: dict[TimerOwner, dict[Timer, int]] = {}
        self._serial = 0

    def __len__(self) -> int:
        """Owners with a timer running."""
        return len(self._live)

    def start(self, owner: TimerOwner, timer: Timer, deadline: float) -> None:
        self._serial += 1
        self._live.setdefault(owner, {})[timer] = self._serial
        heapq.heappush(self._heap, (deadline, self._serial, owner, timer))

    def stop(self, owner: TimerOwner, timer: Timer) -> None:
        running = self._live.get(owner)
        if running is not None and running.pop(timer, None) is not None and not running:
            del self._live[owner]

    def stop_all(self, owner: TimerOwner) -> None:
        self._live.pop(owner, None)

    def next_deadline(self) -> float | None:
        heap = self._heap
        # Stopped timers stay in the heap until they surface: stopping is what happens to most.
        while heap and not self._is_live(heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def fire(self, now: float) -> None:
        """Fire what is due, oldest first, including what falls due by firing."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            _, _, owner, timer = heapq.heappop(self._heap)
            self.stop(owner, timer)
            owner.timer_fired(timer, now)

    def _is_live(self, entry: tuple[float, int, TimerOwner, Timer]) -> bool:
        _, serial, owner, timer = entry
        return self._live.get(owner, {}).get(timer) == serial

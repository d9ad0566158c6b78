"""When which stream's RTCP report is due: every 5 s in slots of 5 ms, and none is left out."""

from typing import Generic, TypeVar

from bridge.audio.frames import FRAMES_PER_SECOND

PHASES = 4
INTERVAL = 5 * FRAMES_PER_SECOND * PHASES  # slots; RFC 3550 section 6.2's minimum
FIRST = INTERVAL // 2  # the same section: half of it before the first

Stream = TypeVar("Stream")


class Schedule(Generic[Stream]):
    """A stream reports in its own phase, half an interval after the slot before its first."""

    def __init__(self) -> None:
        self._due: list[list[Stream]] = [[] for _ in range(INTERVAL)]
        self._places: dict[Stream, int] = {}
        self._new: dict[Stream, int] = {}
        """With their phases: what slot it is will be known in the next one."""
        self._last = 0

    def add(self, stream: Stream, phase: int) -> None:
        self._new[stream] = phase

    def remove(self, stream: Stream) -> None:
        if self._new.pop(stream, None) is None:
            self._due[self._places.pop(stream)].remove(stream)

    def due(self, number: int) -> list[Stream]:
        """In slot `number`, and in those that were left out before it."""
        first = max(self._last + 1, number + 1 - INTERVAL)
        self._last = number
        slots = range(first, number + 1)
        found = [stream for slot in slots for stream in self._due[slot % INTERVAL]]
        for stream, phase in self._new.items():
            begin = number - 1 + FIRST
            place = self._places[stream] = (begin + (phase - begin) % PHASES) % INTERVAL
            self._due[place].append(stream)
        self._new.clear()
        return found

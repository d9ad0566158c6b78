"""Packets that come a little before their time go out at once: the clock is put on for them."""

from itertools import product

from bridge.media.jitter import MAX_EARLY, JitterBuffer, Lost
from tests.media.test_jitter import packet

SLOT_S = 0.005


class Slots:
    """A jitter buffer that is asked in slots, when something has come or once in four of them."""

    def __init__(self) -> None:
        self.jitter = JitterBuffer(8000)
        self.number = 0
        self.given = self.waited = 0

    def slot(self, *numbers: int) -> None:
        for number in numbers:
            self.jitter.push(packet(number))
        if numbers or not self.number % 4:
            self.jitter.advance(self.number * SLOT_S)
            while (item := self.jitter.pop()) is not None:
                self.given += not isinstance(item, Lost)
                if self.jitter.hurried:
                    self.jitter.surplus()
            self.waited += bool(self.jitter.delay_ms)
        self.number += 1


def at_slots(frames: int, *, first: int, then: int) -> Slots:
    """Packet 0 in slot `first` of its frame, all others in slot `then` of theirs."""
    slots = Slots()
    for number in range(4 * frames):
        due = first if number < 4 else then
        slots.slot(*([number // 4] if number % 4 == due else []))
    return slots


def test_a_first_packet_that_was_late_holds_nobody_up() -> None:
    for first, then in product(range(4), repeat=2):
        slots = at_slots(100, first=first, then=then)
        assert slots.given == 100
        assert slots.waited == slots.jitter.stats.merged == 0


def test_a_burst_is_late_and_not_early() -> None:
    """What is given in the second after it is a second of sound, and one packet."""
    slots = Slots()
    for number in range(200):
        slots.slot(*([number // 4] if number % 4 == 1 else []))
    given = slots.given
    for number in range(200):
        coming = range(50, 56) if number == 0 else [55 + number // 4]
        slots.slot(*(coming if number == 0 or (number >= 4 and number % 4 == 1) else []))
    assert slots.given - given <= 51
    assert slots.jitter.delay_ms > 0


def test_the_clock_stays_true() -> None:
    """Whoever sends faster than time gets one frame ahead of it, and merged then."""
    slots, sent = Slots(), 0
    for number in range(72_000):
        came = sent
        while came * 0.02 / 1.001 <= number * SLOT_S:
            came += 1
        slots.slot(*range(sent, came))
        sent = came
    assert sent > 18_017
    assert 18_000 <= slots.given <= 18_001 + MAX_EARLY
    stats = slots.jitter.stats
    assert (stats.dropped, stats.lost, stats.starved) == (0, 0, 0)
    assert stats.merged >= 15
    assert slots.jitter.delay_ms <= 40

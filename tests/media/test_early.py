"""Packets that come a little before their time go out at once: the clock is put on for them."""

from itertools import product

from bridge.media.jitter import EARLY, REST_FRAMES, JitterBuffer, Lost
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


def test_a_sender_whose_clock_is_fast_is_never_cut_short() -> None:
    """200 ppm for an hour are 36 packets too many."""
    slots, sent = Slots(), 0
    for number in range(720_000):
        came = sent
        while came * 0.02 / 1.0002 <= number * SLOT_S:
            came += 1
        slots.slot(*range(sent, came))
        sent = came
    stats = slots.jitter.stats
    assert sent > 180_035
    assert slots.given == sent
    assert (stats.merged, stats.dropped, stats.lost, stats.starved) == (0, 0, 0, 0)
    assert slots.waited == 0


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


def test_once_in_a_while_and_by_less_than_a_slot_too_much() -> None:
    """Who comes earlier each time, by more than any clock would, has to wait in between."""
    slots = Slots()
    sent = 0
    for number in range(4 * 200):
        if number >= sent * 4 - sent // 2:
            slots.slot(sent)
            sent += 1
        else:
            slots.slot()
    ahead = slots.given - 200
    assert 0 < ahead <= 1 + 200 // REST_FRAMES * (1 - 2 * EARLY)

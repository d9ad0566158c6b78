import pytest
from hypothesis import given, strategies as st

from bridge.rtp.reception import Reception


def steady(reception: Reception, sequence_numbers: list[int], *, start: float = 0.0) -> None:
    for index, number in enumerate(sequence_numbers):
        reception.received(number & 0xFFFF, index * 160, start + index * 0.02)


def test_nothing_received() -> None:
    block = Reception(8000, ssrc=9).report_block(1.0)
    assert (block.ssrc, block.fraction_lost, block.packets_lost, block.jitter) == (9, 0, 0, 0)


def test_no_loss() -> None:
    reception = Reception(8000)
    steady(reception, list(range(100, 150)))
    stats = reception.stats
    assert (stats.received, stats.expected, stats.lost, stats.jitter_ms) == (50, 50, 0, 0.0)
    assert stats.highest_sequence == 149


def test_loss_and_its_fraction_since_the_last_report() -> None:
    reception = Reception(8000)
    steady(reception, [n for n in range(100) if n % 4])  # base is 1: 99 expected, 75 arrived
    block = reception.report_block(2.0)
    assert block.packets_lost == 24
    assert block.fraction_lost == 24 * 256 // 99
    steady(reception, list(range(100, 150)))
    block = reception.report_block(3.0)
    assert (block.packets_lost, block.fraction_lost) == (24, 0)


def test_everything_lost_but_the_ends() -> None:
    reception = Reception(8000)
    steady(reception, [0])
    reception.report_block(1.0)
    steady(reception, [2999])
    assert reception.report_block(2.0).fraction_lost == 2998 * 256 // 2999


def test_duplicates_make_loss_negative() -> None:
    reception = Reception(8000)
    steady(reception, [1, 2, 2, 2, 3])
    block = reception.report_block(1.0)
    assert (block.packets_lost, block.fraction_lost) == (-2, 0)


def test_numbers_wrap() -> None:
    reception = Reception(8000)
    steady(reception, list(range(65530, 65546)))
    assert reception.report_block(1.0).highest_sequence == 0x10000 + 9
    assert reception.stats.lost == 0


def test_reordering_over_the_wrap() -> None:
    reception = Reception(8000)
    steady(reception, [65534, 0, 65535, 1])
    assert reception.stats.highest_sequence == 0x10001
    assert reception.stats.lost == 0


def test_one_wild_number_is_refused_and_two_in_a_row_restart() -> None:
    reception = Reception(8000)
    steady(reception, [10, 11, 12])
    assert not reception.received(30000, 480, 0.06)
    assert reception.received(13, 480, 0.06)
    assert not reception.received(40000, 640, 0.08)
    assert reception.received(40001, 800, 0.1)
    stats = reception.stats
    assert (stats.received, stats.expected, stats.restarts) == (1, 1, 1)


def test_jitter_follows_appendix_a8() -> None:
    """Arrivals 0, 10, 0, 10 ms off the beat: |D| is 80 units each time."""
    reception = Reception(8000)
    expected = 0
    for index in range(40):
        reception.received(index, index * 160, 1.0 + index * 0.02 + (index % 2) * 0.01)
        if index:
            expected += 80 - ((expected + 8) >> 4)
    assert reception.report_block(2.0).jitter == expected >> 4
    assert reception.stats.jitter_ms == pytest.approx((expected >> 4) / 8)


@given(st.lists(st.integers(0, 4000), min_size=2, max_size=100), st.integers(0, 2**32 - 1))
def test_jitter_against_the_formula(late: list[int], start: int) -> None:
    reception = Reception(8000)
    estimate = 0.0
    for index, units in enumerate(late):
        timestamp = (start + index * 160) & 0xFFFF_FFFF
        reception.received(index, timestamp, (index * 160 + units + 0.5) / 8000)
        if index:
            estimate += (abs(units - late[index - 1]) - estimate) / 16
    # The integer form of the appendix rounds each step by at most half a sixteenth.
    assert abs(reception.report_block(0.0).jitter - estimate) <= 1.5


def test_telephone_events_leave_jitter_alone() -> None:
    reception = Reception(8000)
    steady(reception, [0, 1, 2])
    assert reception.received(3, None, 5.0)
    assert reception.stats.jitter_ms == 0.0
    assert reception.stats.received == 4


def test_last_sender_report_and_the_delay_since() -> None:
    reception = Reception(8000)
    steady(reception, [0])
    assert reception.report_block(1.0).last_sr == 0
    reception.sender_report(0x11112222_33334444, 1.0)
    block = reception.report_block(2.5)
    assert block.last_sr == 0x22223333
    assert block.delay_since_last_sr == 98304


@given(st.lists(st.tuples(st.integers(-3, 4), st.integers(0, 4000))))
def test_the_next_number_counts_like_any_other(packets: list[tuple[int, int]]) -> None:
    """`received` leaves all as `_advance` would."""
    short, long = Reception(8000), Reception(8000)
    number = 65_530
    for step, timestamp in packets:
        number = (number + step) & 0xFFFF
        short.received(number, timestamp, 1.0)
        if long._advance(number):
            long._received += 1
            long._measure(timestamp, 1.0)
        assert vars(short) == vars(long)

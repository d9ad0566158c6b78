import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings, strategies as st

from bridge.media.jitter import CAPACITY, HOLD_MS, JitterBuffer, Lost
from bridge.rtp.packet import RtpPacket

FRAME = 160


def packet(sequence: int, *, ssrc: int = 1, samples: int = FRAME, label: int = -1) -> RtpPacket:
    """Its payload repeats a label, by default the sequence number modulo 250."""
    value = sequence % 250 if label < 0 else label
    return RtpPacket(0, False, sequence & 0xFFFF, 0, ssrc, bytes([value]) * samples)


@dataclass
class Line:
    """A jitter buffer, its clock, and a reader that merges what is surplus."""

    jitter: JitterBuffer = field(default_factory=lambda: JitterBuffer(8000))
    now: float = 100.0

    def tick(self, *packets: RtpPacket) -> list[int | str]:
        """Packets arrive, 20 ms end: labels of what comes out, "lost 160" for what does not."""
        for each in packets:
            self.jitter.push(each)
        out: list[int | str] = []
        self.jitter.advance(self.now)
        while (item := self.jitter.pop()) is not None:
            if isinstance(item, Lost):
                out.append(f"{'muted' if item.muted else 'lost'} {item.duration}")
                continue
            out.append(item[0])
            if self.jitter.hurried and (surplus := self.jitter.surplus()) is not None:
                out.append(surplus[0])
        self.now += 0.02
        return out


def test_nothing_is_due_before_the_first_packet() -> None:
    line = Line()
    assert [line.tick() for _ in range(10)] == [[]] * 10


def test_in_order_packets_go_out_at_the_next_tick() -> None:
    line = Line()
    assert [line.tick(packet(n)) for n in range(5)] == [[0], [1], [2], [3], [4]]
    assert line.jitter.delay_ms == 0


def test_a_packet_just_after_the_tick_costs_nothing() -> None:
    line = Line()
    line.tick(packet(0))
    assert line.tick() == []
    assert line.tick(packet(1), packet(2)) == [1, 2]
    assert line.tick(packet(3)) == [3]
    assert line.jitter.stats.starved == 0


def test_reordering_within_the_hold_is_mended() -> None:
    line = Line()
    line.tick(packet(0))
    assert line.tick(packet(2)) == []
    assert line.tick(packet(1)) == [1, 2]
    assert line.tick(packet(3)) == [3]


def test_a_loss_is_given_up_after_the_hold() -> None:
    line = Line()
    line.tick(packet(0))
    assert HOLD_MS == 40
    assert line.tick() == []
    assert line.tick(packet(2)) == []
    assert line.tick(packet(3)) == ["lost 160", 2, 3]
    assert line.tick(packet(4)) == [4]
    assert line.tick(packet(5), packet(1)) == [5]
    assert (line.jitter.stats.lost, line.jitter.stats.late) == (1, 1)
    assert line.tick(packet(6), packet(1)) == [6]
    assert line.jitter.stats.duplicates == 1


def test_the_first_two_packets_may_be_swapped() -> None:
    line = Line()
    line.jitter.push(packet(11))
    assert line.tick(packet(10)) == [10]
    assert line.tick() == [11]


def test_duplicates_are_heard_once() -> None:
    line = Line()
    assert line.tick(packet(0), packet(0)) == [0]
    assert line.tick(packet(1), packet(0)) == [1]
    assert line.jitter.stats.duplicates == 2


def test_sequence_numbers_wrap() -> None:
    line = Line()
    out = [line.tick(packet(0xFFFE + n, label=n)) for n in range(5)]
    assert out == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("start", [100, 40_000])
def test_a_jump_of_sequence_numbers_is_followed_by_the_second_packet(start: int) -> None:
    line = Line()
    for n in range(3):
        line.tick(packet(n))
    assert line.tick(packet(start + 5000, label=200)) == []
    assert line.tick(packet(start + 5001, label=201)) == [200, 201]
    assert line.jitter.stats.restarts == 1


def test_a_new_source_takes_over_and_a_stray_packet_does_not() -> None:
    line = Line()
    line.tick(packet(0))
    assert line.tick(packet(1), packet(77, ssrc=9)) == [1]
    assert line.tick(packet(2)) == [2]
    assert line.tick(packet(500, ssrc=5, label=50)) == []
    assert line.tick(packet(501, ssrc=5, label=51)) == [50, 51]
    assert line.jitter.ssrc == 5
    assert line.jitter.stats.restarts == 1


def test_no_source_takes_over_from_one_that_goes_on() -> None:
    line = Line()
    line.tick(packet(0))
    others: list[RtpPacket] = []
    for n in range(1, 50):
        others = [packet(1000 + 10 * n + each, ssrc=5) for each in range(10)]
        assert line.tick(*others, packet(n)) == [n]
    assert line.jitter.stats.restarts == 0
    assert line.tick(*others[:2]) == []
    assert line.tick(packet(2000, ssrc=5, label=7), packet(2001, ssrc=5, label=8)) == [7, 8]
    assert (line.jitter.ssrc, line.jitter.stats.restarts) == (5, 1)


def test_silence_is_filled_while_nothing_comes_and_the_clock_stays_true() -> None:
    line = Line()
    line.tick(packet(0))
    starving = [line.tick() for _ in range(50)]
    assert starving[:2] == [[], []]
    filled = [item for out in starving for item in out]
    assert filled == ["lost 160"] * 50
    # After a pause there is room for jitter again.
    assert line.tick(packet(1)) == [1]
    assert line.tick() == []
    assert line.tick(packet(2), packet(3)) == [2, 3]


def test_telephone_events_and_comfort_noise_take_numbers_and_no_time() -> None:
    line = Line()
    line.tick(packet(0))
    out = []
    for n in range(1, 11):
        line.jitter.skip(packet(n))
        out += line.tick()
    assert out == ["muted 160"] * 10
    line.jitter.skip(packet(11))
    line.jitter.skip(packet(12))
    assert line.tick(packet(13)) == [13]
    assert line.jitter.stats.lost == 0


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
def test_any_ptime_keeps_the_clock(ptime_ms: int) -> None:
    line = Line()
    samples = 8 * ptime_ms
    heard: list[int | str] = []
    sent = 0
    for tick in range(300):
        due = []
        while sent * ptime_ms < (tick + 1) * 20:
            due.append(packet(sent, samples=samples))
            sent += 1
        heard += line.tick(*due)
    assert [item for item in heard if isinstance(item, str)] == []
    assert abs(len(heard) - 6000 // ptime_ms) <= 1
    assert line.jitter.stats.dropped == 0
    line.tick()
    line.tick()
    # A loss is replaced by as much as was lost.
    assert line.jitter.delay_ms == 0


def test_packets_sent_in_pairs_are_not_an_excess() -> None:
    line = Line()
    heard = []
    for n in range(0, 1000, 2):
        heard += line.tick(packet(n), packet(n + 1))
        heard += line.tick()
    assert heard == [n % 250 for n in range(1000)]
    assert line.jitter.stats.dropped == 0


def test_jitter_beyond_the_hold_leaves_a_delay_that_wears_off() -> None:
    line = Line(JitterBuffer(8000, quiet=lambda payload: payload[0] % 10 == 0))
    n = 0
    for _ in range(20):
        line.tick(packet(n))
        n += 1
    stalled = [line.tick() for _ in range(4)]
    assert stalled == [[], [], ["lost 160"], ["lost 160"]]
    out = line.tick(*(packet(n + k) for k in range(5)))
    n += 5
    assert out == [20, 21, 22]
    assert line.jitter.delay_ms == 40
    for _ in range(600):
        line.tick(packet(n))
        n += 1
    assert line.jitter.delay_ms == 0
    assert line.jitter.stats.merged == 2
    assert line.jitter.stats.starved == 2


def test_after_a_stall_of_two_seconds_the_delay_is_gone_within_five_and_no_packet() -> None:
    line = Line()
    line.tick(packet(0))
    for _ in range(100):
        line.tick()
    heard = line.tick(*(packet(n) for n in range(1, 102)))
    for n in range(102, 352):
        heard += line.tick(packet(n))
        assert n < 220 or line.jitter.delay_ms <= 40
    assert heard == [n % 250 for n in range(1, 352)]
    assert (line.jitter.stats.merged, line.jitter.stats.dropped) == (100, 0)


def test_of_a_longer_stall_the_first_part_is_dropped() -> None:
    line = Line()
    line.tick(packet(0))
    for _ in range(200):
        line.tick()
    heard = line.tick(*(packet(n) for n in range(1, 202)))
    assert heard == [101, 102]
    assert line.jitter.stats.dropped == 100


def test_silence_in_the_wreck_of_an_outage_is_dropped_at_once() -> None:
    line = Line(JitterBuffer(8000, quiet=lambda payload: payload[0] == 99))
    line.tick(packet(0))
    for _ in range(100):
        line.tick()
    for n in range(1, 102):
        line.jitter.push(packet(n, label=1 if 30 < n < 60 else 99))
    heard = line.tick()
    n = 102
    while line.jitter.delay_ms > 40:
        heard += line.tick(packet(n, label=99))
        n += 1
    assert n < 102 + 20
    assert heard.count(1) == 29


def test_quiet_packets_go_first() -> None:
    line = Line(JitterBuffer(8000, quiet=lambda payload: payload[0] == 99))
    line.tick(packet(0))
    for _ in range(6):
        line.tick()
    line.tick(*(packet(n) for n in range(1, 8)))
    heard = []
    for n in range(8, 200):
        label = 99 if n % 20 == 0 else 1
        heard += line.tick(packet(n, label=label))
    assert line.jitter.delay_ms == 0
    assert 0 < line.jitter.stats.merged <= 7
    assert (heard.count(1), heard.count(99)) == (183, 9)
    assert line.jitter.stats.dropped == 0


def test_our_own_standstill_loses_nothing() -> None:
    line = Line()
    line.tick(packet(0))
    line.now += 0.5
    assert line.tick(*(packet(n) for n in range(1, 27))) == list(range(1, 27))


def test_what_a_standstill_kept_from_us_too_is_waited_for_as_ever() -> None:
    line = Line()
    line.tick(packet(0))
    line.now += 0.5
    assert line.tick() == []
    assert line.tick(packet(1)) == [1]
    assert line.tick(*(packet(n) for n in range(2, 27))) == list(range(2, 27))
    assert line.jitter.stats.starved == line.jitter.stats.lost == 0


def test_a_gap_is_given_up_by_a_clock_that_stands_still_again_and_again() -> None:
    line = Line()
    line.tick(packet(0))
    line.now += 0.1
    assert line.tick(*(packet(n) for n in range(2, 7))) == []
    line.now += 0.1
    heard = line.tick(*(packet(n) for n in range(7, 13)))
    assert heard == ["lost 160", *range(2, 13)]


def test_a_clock_that_runs_slow_or_twice_owes_nothing() -> None:
    line = Line()
    line.tick(packet(0))
    line.now -= 0.02
    assert line.tick(packet(1)) == []
    assert line.tick() == [1]


def test_a_flood_is_bounded() -> None:
    line = Line()
    line.tick(packet(0))
    for n in range(1, 2500):
        line.jitter.push(packet(n))
    assert line.jitter.stats.dropped == 2499 - CAPACITY
    assert len(line.tick()) <= 2


def test_payloads_without_duration_are_no_audio() -> None:
    line = Line(JitterBuffer(8000, duration=lambda payload: 0 if payload[0] == 9 else 160))
    assert line.tick(packet(0, label=9), packet(1)) == [1]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 0xFFFF),
    st.lists(
        st.tuples(st.sampled_from(["ok", "ok", "ok", "ok", "lost", "twice"]), st.integers(0, 250)),
        min_size=1,
        max_size=120,
    ),
)
def test_never_reorders_never_blocks(start: int, fates: list[tuple[str, int]]) -> None:
    """Packets 20 ms apart, each lost, doubled or delayed by up to a quarter of a second."""
    arrivals: list[tuple[float, int]] = []
    for number, (fate, delay_ms) in enumerate(fates):
        copies = {"ok": 1, "lost": 0, "twice": 2}[fate]
        arrivals += [(number * 20 + delay_ms + 7 * copy, number) for copy in range(copies)]
    arrivals.sort()
    jitter = JitterBuffer(8000)
    heard: list[int] = []
    made_up = first_at = 0
    ticks = len(fates) + 20
    for tick in range(1, ticks):
        while arrivals and arrivals[0][0] <= tick * 20:
            _, number = arrivals.pop(0)
            first_at = first_at or tick
            payload = number.to_bytes(2, "big") * 80
            jitter.push(RtpPacket(0, False, (start + number) & 0xFFFF, 0, 1, payload))
        jitter.advance(tick * 0.02)
        for _ in range(1000):
            item = jitter.pop()
            if item is None:
                break
            if isinstance(item, Lost):
                assert 0 < item.duration <= 2 * 8000
                made_up += item.duration
                continue
            heard.append(int.from_bytes(item[:2], "big"))
            if jitter.hurried and (surplus := jitter.surplus()) is not None:
                heard.append(int.from_bytes(surplus[:2], "big"))
        else:
            pytest.fail("pop never came to an end")
    assert heard == sorted(set(heard))
    if first_at:
        # The clock ran true: what came out is the time that passed, but for the hold.
        passed = ticks - first_at
        entitled = len(heard) - jitter.stats.merged + math.ceil(made_up / FRAME)
        assert passed - 3 <= entitled <= passed + 1
        assert jitter.delay_ms <= 300


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from((1, 1, 1, 1, 2)), st.integers(-3, 5)), max_size=3),
            st.integers(0, 3),
        ),
        max_size=40,
    )
)
def test_a_packet_that_was_expected_goes_in_like_any_other(
    ticks: list[tuple[list[tuple[int, int]], int]],
) -> None:
    """`put` leaves all as `_insert` would."""
    short, long = JitterBuffer(8000), JitterBuffer(8000)
    now, sequence = 100.0, 65_530
    for arrivals, late in ticks:
        for ssrc, ahead in arrivals:
            number, payload = (sequence + ahead) & 0xFFFF, bytes([sequence % 250]) * FRAME
            short.put(ssrc, number, payload)
            long._insert(ssrc, number, (payload, FRAME))
        sequence += 1
        now += 0.02 * (1 + (late == 3))
        for jitter in (short, long):
            jitter.advance(now)
        while True:
            came = short.pop(), long.pop()
            assert came[0] == came[1]
            if came[0] is None:
                break
        assert vars(short) | {"stats": None} == vars(long) | {"stats": None}
        assert short.stats == long.stats

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from bridge.errors import RtpError
from bridge.rtp.dtmf import DIGITS, DtmfEvent, DtmfReceiver, TelephoneEvent
from bridge.rtp.packet import RtpPacket


def packet(
    timestamp: int, digit: str, duration: int, *, end: bool = False, ssrc: int = 7
) -> RtpPacket:
    event = TelephoneEvent(DIGITS.index(digit), end, 10, duration)
    return RtpPacket(101, False, 0, timestamp & 0xFFFF_FFFF, ssrc, bytes(event))


def press(timestamp: int, digit: str, length: int) -> list[RtpPacket]:
    """Updates every 20 ms, then the end three times (RFC 4733 section 2.5.1.4)."""
    updates = [packet(timestamp, digit, duration) for duration in range(160, length, 160)]
    return [*updates, *[packet(timestamp, digit, length, end=True)] * 3]


def digits(packets: Iterable[RtpPacket], receiver: DtmfReceiver | None = None) -> str:
    receiver = receiver or DtmfReceiver(8000)
    events = [receiver.receive(each) for each in packets]
    return "".join(event.digit for event in events if event)


def test_payload_round_trip() -> None:
    payload = bytes.fromhex("0b8a0320")
    event = TelephoneEvent.parse(payload)
    assert event == TelephoneEvent(11, True, 10, 800)
    assert bytes(event) == payload
    with pytest.raises(RtpError):
        TelephoneEvent.parse(payload[:3])


def test_a_press_is_told_at_its_first_packet() -> None:
    receiver = DtmfReceiver(8000)
    first, *rest = press(4000, "#", 800)
    assert receiver.receive(first) == DtmfEvent("#", 4000)
    assert digits(rest, receiver) == ""


def test_every_digit() -> None:
    packets = [each for i, digit in enumerate(DIGITS) for each in press(i * 1600, digit, 800)]
    assert digits(packets) == DIGITS


def test_the_same_digit_again_is_a_new_press() -> None:
    assert digits(press(0, "5", 800) + press(1200, "5", 800) + press(2400, "5", 320)) == "555"


def test_repeats_without_gap_and_without_ends() -> None:
    endless = [each for start in (0, 800, 1600) for each in press(start, "1", 960)[:5]]
    assert digits(endless) == "111"


def test_only_the_last_end_packet_arrives() -> None:
    assert digits(press(0, "9", 800)[-1:]) == "9"


def test_a_late_end_of_the_press_before() -> None:
    one, two = press(0, "1", 800), press(1200, "2", 800)
    assert digits([*one[:3], two[0], *one[3:], *two[1:]]) == "12"


def test_a_press_heard_of_only_after_the_next_one() -> None:
    assert digits([*press(1200, "2", 800)[:2], press(0, "1", 800)[-1]]) == "21"


def test_a_long_press_in_segments() -> None:
    held = [packet(0, "3", duration) for duration in range(160, 0xFFFF, 160)]
    held += [packet(0, "3", 0xFFFF)]
    held += [packet(0xFFFF, "3", duration) for duration in range(160, 0xFFFF, 160)]
    held += press(2 * 0xFFFF, "3", 4000)
    assert digits(held) == "3"


def test_a_long_press_whose_sender_cuts_at_whole_packets() -> None:
    held = [packet(0, "3", duration) for duration in range(160, 65440, 160)]
    assert digits(held + press(65440, "3", 800)) == "3"


def test_a_long_press_that_loses_the_end_of_a_segment() -> None:
    assert digits([packet(0, "3", 160), packet(0xFFFF, "3", 160)]) == "3"


def test_a_sender_that_moves_the_timestamp_within_a_press() -> None:
    assert digits(packet(start, "8", start + 160) for start in range(0, 1600, 160)) == "8"


def test_timestamps_wrap() -> None:
    start = 2**32 - 400
    assert digits(press(start, "4", 800) + press(start + 1200, "4", 800)) == "44"


def test_another_source_is_another_keypad() -> None:
    assert digits([packet(0, "1", 160), packet(0, "1", 160, ssrc=8)]) == "11"


def test_what_is_not_a_digit_is_ignored() -> None:
    receiver = DtmfReceiver()
    flash = bytes(TelephoneEvent(16, False, 10, 160))
    for payload in (b"", b"\x01", b"\x01\x0a\x00", flash):
        assert receiver.receive(RtpPacket(101, False, 0, 0, 7, payload)) is None
    assert digits([packet(0, "0", 160)], receiver) == "0"


presses = st.lists(
    st.tuples(st.sampled_from(DIGITS), st.integers(2, 60), st.integers(2, 50)),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(presses, st.integers(0, 2**32 - 1), st.data())
def test_one_event_per_press_whatever_is_lost_or_repeated(
    keys: list[tuple[str, int, int]], start: int, data: st.DataObject
) -> None:
    received: list[RtpPacket] = []
    timestamp = start
    for digit, length, gap in keys:
        sent = press(timestamp, digit, length * 160)
        kept = data.draw(st.lists(st.sampled_from(sent), min_size=1, max_size=2 * len(sent)))
        received += kept
        timestamp += (length + gap) * 160
    assert digits(received) == "".join(digit for digit, _, _ in keys)


@settings(deadline=None)
@given(presses, st.randoms(use_true_random=False))
def test_one_event_per_press_in_any_order(keys: list[tuple[str, int, int]], random: Random) -> None:
    packets: list[RtpPacket] = []
    timestamp = 0
    for digit, length, gap in keys:
        packets += press(timestamp, digit, length * 160)
        timestamp += (length + gap) * 160
    random.shuffle(packets)
    assert sorted(digits(packets)) == sorted(digit for digit, _, _ in keys)

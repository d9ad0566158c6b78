"""The delay in front of the model, as it was when the caller last spoke."""

import pytest

from bridge.audio.codecs import PCMU
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket
from bridge.sessions.line import MEAN_WAIT_MS, Line
from tests.sessions.stage import Wire

ENDED_AT = 4.9


class Call:
    """Packets come when they are said to; the media plane runs every 5 ms."""

    def __init__(self) -> None:
        self.now = 1.0
        self.line = Line()
        self.stream = AudioStream(PCMU, payload_type=0, wire=Wire(), cname="test")
        self.stream.on_frame = lambda _: self.line.heard(self.now, self.stream)
        self.plane = MediaPlane()
        self.plane.add(self.stream)

    def hear(self, arrivals: dict[float, int]) -> "Call":
        """Numbers of packets by the time they come, until the turn has ended."""
        coming = sorted(arrivals.items())
        slot = 0
        while self.now < ENDED_AT:
            while coming and coming[0][0] <= self.now:
                _, number = coming.pop(0)
                packet = RtpPacket(0, False, number, number * 160, 7, b"\x55" * 160)
                self.stream.receive_rtp(bytes(packet), self.now)
            self.plane.slot(slot, self.now)
            slot += 1
            self.now = 1.0 + slot * 0.005
        self.line.turn_ended(ENDED_AT)
        return self

    def line_ms(self, spoken_at: float) -> float:
        record = {"endpointing_ms": (ENDED_AT - spoken_at) * 1000, "total_ms": 7000.0}
        told = self.line.add_to(record)
        assert told["total_ms"] == pytest.approx(7000.0 + told["line_ms"])
        return float(told["line_ms"]) - MEAN_WAIT_MS


def on_time(count: int, *, since: int = 0, late_s: float = 0.0) -> dict[float, int]:
    return {1.0 + n * 0.02 + late_s: n for n in range(since, count)}


def test_who_comes_in_time_waits_for_nothing() -> None:
    assert Call().hear(on_time(195)).line_ms(3.0) == 0


def test_what_a_standstill_leaves_behind_does_not_count_for_words_before_it() -> None:
    after = {2.1 + n * 1e-6: n for n in range(50, 56)}
    call = Call().hear(on_time(50) | after | on_time(195, since=56))
    assert call.line_ms(1.9) == 0
    assert 100 <= call.line_ms(2.5) <= 120


def test_sound_that_is_early_since_the_first_was_late_does_not_wait() -> None:
    first_late = {1.0: 0} | on_time(195, since=1, late_s=-0.015)
    assert Call().hear(first_late).line_ms(3.0) == 0


def test_sound_that_a_burst_brings_before_its_turn_waits_for_that() -> None:
    burst = {1.0 + n * 1e-6: n for n in range(3)}
    call = Call().hear(burst | on_time(195, since=3, late_s=-0.04))
    assert call.line_ms(1.4) == pytest.approx(40, abs=5)


def test_of_a_call_without_a_packet_nothing_waits() -> None:
    assert Call().hear({}).line_ms(3.0) == 0


def test_a_turn_that_nobody_timed_begins_where_it_ended() -> None:
    call = Call().hear(on_time(195))
    assert call.line.add_to({"total_ms": 0.0}) == {
        "line_ms": MEAN_WAIT_MS,
        "total_ms": MEAN_WAIT_MS,
    }

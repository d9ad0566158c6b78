from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings, strategies as st

from bridge.audio.codecs import PCMU
from bridge.media.stream import AudioStream
from bridge.rtp.dtmf import TelephoneEvent
from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    ntp_timestamp,
    parse_compound,
    serialise_compound,
)

OURS = 0x0A0B0C0D
THEIRS = 0x01020304


@dataclass
class Wire:
    rtp: list[bytes] = field(default_factory=list)
    rtcp: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.rtp.append(data)

    def send_rtcp(self, data: bytes) -> None:
        self.rtcp.append(data)


def make_stream() -> tuple[AudioStream, Wire]:
    wire = Wire()
    stream = AudioStream(
        PCMU, payload_type=0, wire=wire, cname="call@here", telephone_event=101, ssrc=OURS
    )
    return stream, wire


def audio(sequence: int, *, payload_type: int = 0, ssrc: int = THEIRS) -> bytes:
    payload = b"\x55" * 160
    return bytes(RtpPacket(payload_type, False, sequence, sequence * 160, ssrc, payload))


def key(sequence: int, digit: int, started: int, *, end: bool = False) -> bytes:
    payload = bytes(TelephoneEvent(digit, end, 10, 160 * (sequence % 8)))
    return bytes(RtpPacket(101, False, sequence, started, THEIRS, payload))


def test_what_arrives_is_counted_and_timed() -> None:
    stream, _ = make_stream()
    assert stream.stats.first_received_at is None
    for n in range(5):
        stream.receive_rtp(audio(n), 10 + n * 0.02)
    stats = stream.stats
    assert stats.packets_received == 5
    assert stats.first_received_at == 10
    assert stats.last_received_at == pytest.approx(10.08)
    assert stats.jitter_ms == 0
    assert stream.inbound.pull(10.1)


def test_a_key_is_told_once_and_takes_the_place_of_audio() -> None:
    stream, _ = make_stream()
    digits: list[str] = []
    stream.on_digit = digits.append
    stream.receive_rtp(audio(0), 0.0)
    for n in range(1, 6):
        stream.receive_rtp(key(n, 5, 160), n * 0.02)
    for n in (6, 7, 8):
        stream.receive_rtp(key(n, 5, 160, end=True), 0.12)
    stream.receive_rtp(key(9, 5, 5000), 0.3)
    stream.receive_rtp(audio(10), 0.32)
    assert digits == ["5", "5"]
    assert stream.stats.bad_packets == 0
    assert stream.inbound.jitter.stats.lost == 0


def test_a_key_without_a_listener_is_dropped() -> None:
    stream, _ = make_stream()
    stream.receive_rtp(key(0, 1, 0), 0.0)
    assert stream.stats.packets_received == 1


def test_comfort_noise_is_not_audio_and_not_an_error() -> None:
    stream, _ = make_stream()
    stream.receive_rtp(audio(0), 0.0)
    stream.receive_rtp(audio(1, payload_type=13), 0.02)
    stream.receive_rtp(audio(2, payload_type=96), 0.04)
    assert stream.stats.bad_packets == 1
    assert stream.stats.packets_received == 2


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_junk_never_raises(data: bytes) -> None:
    stream, _ = make_stream()
    stream.receive_rtp(data, 0.0)
    stream.receive_rtcp(data, 0.0)
    stream.inbound.pull(0.0)


def test_a_report_says_what_was_sent_and_received() -> None:
    stream, _ = make_stream()
    stream.packets_sent, stream.octets_sent = 7, 1120
    alone, _ = parse_compound(stream.sender_report(1234, 50.0))
    assert isinstance(alone, SenderReport)
    assert alone.reports == ()
    for n in (0, 1, 3):
        stream.receive_rtp(audio(n), n * 0.02)
    theirs = SenderReport(THEIRS, 0x1111_2222_3333_4444, 0, 3, 480)
    stream.receive_rtcp(bytes(theirs), 49.0)
    report, source = parse_compound(stream.sender_report(1234, 50.0))
    assert isinstance(report, SenderReport)
    assert (report.ssrc, report.rtp_timestamp) == (OURS, 1234)
    assert (report.packet_count, report.octet_count) == (7, 1120)
    block = report.reports[0]
    assert (block.ssrc, block.packets_lost, block.last_sr) == (THEIRS, 1, 0x2222_3333)
    assert block.delay_since_last_sr == 65536
    assert source == SourceDescription.of(OURS, "call@here")


@pytest.mark.parametrize("kind", ["SR", "RR"])
def test_round_trip_time_comes_from_their_report_of_us(kind: str) -> None:
    stream, _ = make_stream()
    sent_at = ntp_timestamp(10.0) >> 16 & 0xFFFF_FFFF
    ours = ReportBlock(OURS, 64, 3, 100, 0, sent_at, 65536)
    other = ReportBlock(99, 255, 3, 100, 0, sent_at, 0)
    report = (
        SenderReport(THEIRS, 0, 0, 0, 0, (other, ours))
        if kind == "SR"
        else ReceiverReport(THEIRS, (other, ours))
    )
    data = serialise_compound((report, SourceDescription.of(THEIRS, "x")))
    stream.receive_rtcp(data, 11.08)
    assert stream.stats.round_trip_ms == pytest.approx(80, abs=0.1)
    assert stream.stats.remote_fraction_lost == 0.25


def test_a_report_from_the_future_gives_no_time() -> None:
    stream, _ = make_stream()
    later = ntp_timestamp(99.0) >> 16 & 0xFFFF_FFFF
    for last_sr in (later, 0):
        block = ReportBlock(OURS, 0, 0, 0, 0, last_sr, 0)
        stream.receive_rtcp(bytes(ReceiverReport(THEIRS, (block,))), 11.0)
    assert stream.stats.round_trip_ms is None


def test_a_new_source_is_measured_anew() -> None:
    stream, _ = make_stream()
    stream.receive_rtp(audio(100), 0.0)
    stream.receive_rtp(audio(9000, ssrc=7), 0.02)
    stream.receive_rtp(audio(101), 0.02)
    stream.receive_rtp(audio(9001, ssrc=8), 0.04)
    stream.receive_rtp(audio(9002, ssrc=8), 0.06)
    report, _ = parse_compound(stream.sender_report(0, 1.0))
    assert isinstance(report, SenderReport)
    assert report.reports[0].ssrc == 8
    assert stream.stats.restarts == 1


def test_closing_says_bye_once() -> None:
    stream, wire = make_stream()
    stream.packets_sent = 1
    stream.close()
    stream.close()
    assert len(wire.rtcp) == 1
    report, _, bye = parse_compound(wire.rtcp[0])
    assert report == ReceiverReport(OURS)
    assert bye == Bye((OURS,))


def test_who_never_spoke_does_not_say_bye() -> None:
    stream, wire = make_stream()
    stream.close()
    assert wire.rtcp == []


def test_each_stream_has_its_own_random_source() -> None:
    streams = [AudioStream(PCMU, payload_type=0, wire=Wire(), cname="x") for _ in range(2)]
    assert streams[0].ssrc != streams[1].ssrc


@given(
    st.lists(
        st.tuples(
            st.sampled_from((1, 1, 1, 1, 0, 2, 5, -1, -3, 4000, -4000)),
            st.sampled_from((0, 0, 0, 0, 13, 101, 8)),
            st.sampled_from((THEIRS, THEIRS, THEIRS, 7)),
            st.sampled_from((20, 20, 0, 1, 300)),
        ),
        max_size=60,
    )
)
def test_plain_packets_take_a_shorter_way_to_the_same_place(
    arrivals: list[tuple[int, int, int, int]],
) -> None:
    """An extension, though empty, makes the longer one."""
    (plain, _), (extended, _) = make_stream(), make_stream()
    sequence, now = 65000, 0.0
    for step, payload_type, ssrc, after_ms in arrivals:
        sequence, now = (sequence + step) & 0xFFFF, now + after_ms / 1000
        payload = bytes((sequence & 0xFF,)) * 160
        sent = RtpPacket(payload_type, False, sequence, sequence * 160, ssrc, payload)
        plain.receive_rtp(bytes(sent), now)
        extended.receive_rtp(bytes(replace(sent, extension=(0, b""))), now)
        assert plain.inbound.pull(now) == extended.inbound.pull(now)
        assert plain.stats == extended.stats
        assert plain.sender_report(0, now) == extended.sender_report(0, now)

from typing import Any

import pytest

from bridge.audio.codecs import PCMU
from bridge.media.quality import estimated_mos
from bridge.media.report import MediaReport
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import ReceiverReport, ReportBlock, ntp_timestamp

OURS, THEIRS = 1, 2


class Wire:
    def send(self, data: bytes) -> None:
        pass

    def send_rtcp(self, data: bytes) -> None:
        pass


def make_stream() -> AudioStream:
    return AudioStream(PCMU, payload_type=0, wire=Wire(), cname="a@b", ssrc=OURS)


def run(stream: AudioStream, numbers: list[int]) -> None:
    for number in numbers:
        now = 10 + number * 0.02
        packet = RtpPacket(0, False, number, number * 160, THEIRS, b"\x55" * 160)
        stream.receive_rtp(bytes(packet), now)
        stream.inbound.pull(now)


def report(stream: AudioStream) -> dict[str, Any]:
    return MediaReport.of(stream).as_dict()


def test_before_anything_happened_nothing_is_claimed() -> None:
    told = report(make_stream())
    assert told["codec"] == "PCMU"
    assert told["round_trip_ms"] is None
    assert (told["received"]["packets"], told["received"]["mos"]) == (0, None)
    assert told["sent"] == {
        "packets": 0,
        "lost": None,
        "loss": None,
        "jitter_ms": None,
        "mos": None,
    }


def test_what_was_lost_costs_what_the_e_model_says() -> None:
    stream = make_stream()
    run(stream, [n for n in range(1, 401) if n % 20])
    told = report(stream)["received"]
    assert (told["packets"], told["lost"], told["late"]) == (380, 19, 0)
    assert told["loss"] == pytest.approx(19 / 399, abs=1e-4)
    assert told["mos"] == estimated_mos(19 / 399, 20 + told["delay_ms"])
    assert told["concealed"] >= 19


def test_the_far_end_tells_how_it_hears_us() -> None:
    stream = make_stream()
    for _ in range(200):
        stream.send(bytes(172))
    now = 50.0
    sent_at = ntp_timestamp(now - 0.08) >> 16 & 0xFFFFFFFF
    block = ReportBlock(OURS, 25, 10, 900, 160, sent_at, int(0.02 * 65536))
    stream.receive_rtcp(bytes(ReceiverReport(THEIRS, (block,))), now)
    told = report(stream)
    assert told["round_trip_ms"] == pytest.approx(60, abs=0.2)
    assert told["sent"] == {
        "packets": 200,
        "lost": 10,
        "loss": 0.05,
        "jitter_ms": 20.0,
        "mos": estimated_mos(0.05, 20 + 30 + 40),
    }


def test_a_far_end_that_counts_duplicates_lost_nothing() -> None:
    stream = make_stream()
    stream.send(bytes(172))
    block = ReportBlock(OURS, 0, -3, 900, 0, 0, 0)
    stream.receive_rtcp(bytes(ReceiverReport(THEIRS, (block,))), 1.0)
    assert MediaReport.of(stream).loss_sent == 0.0

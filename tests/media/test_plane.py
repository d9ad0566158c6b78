from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from bridge.audio.codecs import OPUS, PCMA, PCMU, Codec
from bridge.audio.frames import Pcm
from bridge.audio.g711 import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from bridge.audio.levels import rms
from bridge.audio.opus import OpusDecoder, OpusEncoder
from bridge.audio.tones import sine
from bridge.media.outbound import OpusTerms
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import Bye, ReceiverReport, ReportBlock, SenderReport, parse_compound

PAYLOAD_TYPES = {"PCMU": 0, "PCMA": 8, "opus": 111}
CODECS = pytest.mark.parametrize("codec", [PCMU, PCMA, OPUS], ids=lambda codec: codec.name)
TONE = sine(440, 2)
CELT = 16  # first configuration number without SILK (RFC 6716 table 2)


@dataclass
class Wire:
    rtp: list[RtpPacket] = field(default_factory=list)
    rtcp: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.rtp.append(RtpPacket.parse(data))

    def send_rtcp(self, data: bytes) -> None:
        self.rtcp.append(data)


@dataclass
class Call:
    """A stream, its wire, and the far end's packets."""

    codec: Codec
    stream: AudioStream
    wire: Wire
    heard: list[Pcm] = field(default_factory=list)
    sent: int = 0
    encode: Callable[[Pcm], bytes] = bytes

    def receive(self, pcm: Pcm, now: float) -> None:
        """20 ms of the far end's sound, at the codec's sample rate."""
        step = self.codec.clock_rate // 50
        packet = RtpPacket(
            self.stream.payload_type, False, self.sent, self.sent * step, 5, self.encode(pcm)
        )
        self.sent += 1
        self.stream.receive_rtp(bytes(packet), now)

    def said(self) -> Pcm:
        """Everything on the wire, decoded."""
        payloads = [packet.payload for packet in self.wire.rtp]
        if self.codec is OPUS:
            decoder = OpusDecoder()
            return np.concatenate([decoder.decode(payload) for payload in payloads])
        decode = alaw_decode if self.codec is PCMA else ulaw_decode
        return decode(np.frombuffer(b"".join(payloads), np.uint8))


def make_call(codec: Codec) -> Call:
    wire = Wire()
    stream = AudioStream(codec, payload_type=PAYLOAD_TYPES[codec.name], wire=wire, cname="a@b")
    call = Call(codec, stream, wire)
    stream.on_frame = call.heard.append
    if codec is OPUS:
        call.encode = OpusEncoder().encode
    else:
        law = alaw_encode if codec is PCMA else ulaw_encode
        call.encode = lambda pcm: law(pcm).tobytes()
    return call


def frequency(pcm: Pcm, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(spectrum.argmax()) * rate / len(pcm)


@CODECS
def test_the_caller_is_heard_at_24_khz(codec: Codec) -> None:
    plane, call = MediaPlane(), make_call(codec)
    plane.add(call.stream)
    rate = codec.sample_rate
    tone = sine(440, 1, rate=rate)
    for tick in range(50):
        call.receive(tone[tick * rate // 50 : (tick + 1) * rate // 50], tick * 0.02)
        plane.tick(tick * 0.02)
    assert [frame.shape for frame in call.heard] == [(480,)] * 50
    assert all(frame.base is None for frame in call.heard)
    pcm = np.concatenate(call.heard)[2400:]
    assert frequency(pcm, 24_000) == pytest.approx(440, abs=2)
    assert rms(pcm) == pytest.approx(rms(TONE), rel=0.1)


def test_losses_on_the_way_to_us_bring_fec_to_those_who_use_it() -> None:
    for repairs in (False, True):
        plane, call = MediaPlane(), make_call(OPUS)
        call.stream.opus = OpusTerms(repairs=repairs)
        plane.add(call.stream)
        call.stream.receive_rtcp(bytes(ReceiverReport(5, (nothing_lost(call.stream.ssrc),))), 0.0)
        for tick in range(600):
            if tick == 400:
                call.stream.playout.write("item", np.tile(TONE, 4))
            if tick > 400 and tick % 20 == 10:
                call.sent += 1
            call.receive(TONE[:480], tick * 0.02)
            plane.tick(tick * 0.02)
        silk = [packet.payload[0] >> 3 < CELT for packet in call.wire.rtp]
        assert silk[0] == repairs
        assert not any(silk[400:450])
        assert all(silk[550:]) == repairs


def nothing_lost(ssrc: int) -> ReportBlock:
    return ReportBlock(
        ssrc=ssrc,
        fraction_lost=0,
        packets_lost=0,
        highest_sequence=0,
        jitter=0,
        last_sr=0,
        delay_since_last_sr=0,
    )


@CODECS
def test_the_agent_is_said_in_a_stream_without_holes(codec: Codec) -> None:
    plane, call = MediaPlane(), make_call(codec)
    plane.add(call.stream)
    for tick in range(150):
        if tick in (20, 80):
            call.stream.playout.write(f"item_{tick}", TONE[: 480 * 30])
            call.stream.playout.finish(f"item_{tick}")
        plane.tick(tick * 0.02)
    packets = call.wire.rtp
    assert len(packets) == 150
    step = codec.clock_rate // 50
    first = packets[0]
    for number, packet in enumerate(packets):
        assert packet.payload_type == call.stream.payload_type
        assert packet.ssrc == call.stream.ssrc
        assert packet.sequence_number == (first.sequence_number + number) & 0xFFFF
        assert packet.timestamp == (first.timestamp + number * step) & 0xFFFF_FFFF
        assert packet.marker == (number in (20, 80))
    frame = codec.sample_rate // 50
    said = call.said()
    assert rms(said[: 20 * frame]) < 10
    assert frequency(said[22 * frame : 50 * frame], codec.sample_rate) == pytest.approx(440, abs=2)
    assert rms(said[22 * frame : 50 * frame]) == pytest.approx(rms(TONE), rel=0.1)
    assert rms(said[55 * frame : 80 * frame]) < 10
    assert call.stream.stats.packets_sent == 150


@pytest.mark.parametrize("codec", [PCMU, PCMA], ids=lambda codec: codec.name)
def test_after_a_cut_a_fade_of_five_milliseconds_and_no_more(codec: Codec) -> None:
    plane, call = MediaPlane(), make_call(codec)
    plane.add(call.stream)
    call.stream.playout.write("item", TONE)
    for tick in range(10):
        plane.tick(tick * 0.02)
    (cut,) = call.stream.playout.clear()
    assert (cut.played_ms, cut.written_ms) == (200, 2000)
    for tick in range(10, 20):
        plane.tick(tick * 0.02)
    said = call.said()
    quietest = rms(said[-160:])
    # Two milliseconds late, the fade, then what rings of the filter: after 9 ms all is still.
    after = said[1600:]
    assert rms(after[:40]) > 500
    assert np.abs(after[72:]).max() <= quietest
    # What follows starts from silence, not from the tail of what was cut.
    call.stream.playout.write("next", np.zeros(480, np.int16))
    plane.tick(0.4)
    assert np.abs(call.said()[-160:]).max() <= quietest


def test_played_ms_is_what_went_out() -> None:
    plane, call = MediaPlane(), make_call(PCMU)
    plane.add(call.stream)
    call.stream.playout.write("item", np.full(24_000, 5000, np.int16))
    for tick in range(7):
        plane.tick(tick * 0.02)
        loud = sum(
            rms(ulaw_decode(np.frombuffer(p.payload, np.uint8))) > 4000 for p in call.wire.rtp
        )
        assert call.stream.playout.played_ms("item") == 20 * loud == 20 * (tick + 1)


def test_calls_of_all_codecs_share_a_plane_and_do_not_mix() -> None:
    plane = MediaPlane()
    calls = [make_call(codec) for codec in [PCMU, PCMA, OPUS] * 30]
    for call in calls:
        plane.add(call.stream)
    assert len(plane) == len(list(plane.streams)) == 90
    tones = [300 + 20 * number for number in range(90)]
    sent = [sine(hz, 1, rate=call.codec.sample_rate) for hz, call in zip(tones, calls, strict=True)]
    for call, hz in zip(calls, reversed(tones), strict=True):
        call.stream.playout.write("x", sine(hz, 1))
    for tick in range(50):
        for call, tone in zip(calls, sent, strict=True):
            step = call.codec.sample_rate // 50
            call.receive(tone[tick * step : (tick + 1) * step], tick * 0.02)
        plane.tick(tick * 0.02)
    for call, hz, back in zip(calls, tones, reversed(tones), strict=True):
        assert frequency(np.concatenate(call.heard)[2400:], 24_000) == pytest.approx(hz, abs=3)
        rate = call.codec.sample_rate
        assert frequency(call.said()[rate // 10 :], rate) == pytest.approx(back, abs=3)


def test_rows_are_used_again_and_start_clean() -> None:
    plane = MediaPlane()
    calls = [make_call(PCMU) for _ in range(3)]
    for call in calls:
        plane.add(call.stream)
        call.stream.playout.write("x", TONE)
    for tick in range(5):
        plane.tick(tick * 0.02)
    plane.remove(calls[1].stream)
    plane.remove(calls[1].stream)
    replacement = make_call(PCMA)
    plane.add(replacement.stream)
    for tick in range(5, 10):
        plane.tick(tick * 0.02)
    assert [len(call.wire.rtp) for call in calls] == [10, 5, 10]
    assert len(replacement.wire.rtp) == 5
    assert not any(packet.marker for packet in replacement.wire.rtp)
    assert np.abs(replacement.said()).max() == 8
    assert isinstance(parse_compound(calls[1].wire.rtcp[0])[-1], Bye)


@CODECS
def test_hold_silences_both_ways_and_loses_nothing_of_the_playout(codec: Codec) -> None:
    plane, call = MediaPlane(), make_call(codec)
    plane.add(call.stream)
    rate = codec.sample_rate
    tone = sine(440, 1, rate=rate)
    call.stream.playout.write("x", TONE)
    for tick in range(30):
        call.stream.held = 10 <= tick < 20
        call.receive(tone[tick * rate // 50 : (tick + 1) * rate // 50], tick * 0.02)
        plane.tick(tick * 0.02)
    assert call.stream.playout.played_ms("x") == 400
    assert len(call.wire.rtp) == 30
    assert [packet.marker for packet in call.wire.rtp].count(True) == 2
    said = call.said()
    assert rms(said[12 * rate // 50 : 20 * rate // 50]) < 10
    assert len(call.heard) == 30
    assert rms(np.concatenate(call.heard[12:20])) < 10
    assert rms(np.concatenate(call.heard[22:])) > 1000


@CODECS
def test_a_late_packet_is_waited_for_and_then_heard_with_the_next(codec: Codec) -> None:
    plane, call = MediaPlane(), make_call(codec)
    plane.add(call.stream)
    frame = np.zeros(codec.sample_rate // 50, np.int16)
    counts = []
    for tick, arriving in enumerate((1, 0, 2, 1, 0, 0, 3, 1)):
        for _ in range(arriving):
            call.receive(frame, tick * 0.02)
        plane.tick(tick * 0.02)
        counts.append(len(call.heard))
    assert counts == [1, 1, 3, 4, 4, 4, 7, 8]


@CODECS
def test_calls_may_end_and_begin_inside_callbacks(codec: Codec) -> None:
    plane = MediaPlane()
    first, second, third = (make_call(codec) for _ in range(3))
    plane.add(first.stream)
    plane.add(second.stream)

    def end_everything(_: Pcm) -> None:
        plane.remove(second.stream)
        plane.remove(first.stream)
        plane.add(third.stream)
        plane.add(first.stream)

    first.stream.on_frame = end_everything
    silence = np.zeros(codec.sample_rate // 50, np.int16)
    first.receive(silence, 0.0)
    second.receive(silence, 0.0)
    plane.tick(0.0)
    assert len(plane) == 1
    assert second.heard == []
    plane.tick(0.02)
    assert (len(first.wire.rtp), len(second.wire.rtp), len(third.wire.rtp)) == (0, 0, 1)


@CODECS
def test_reports_every_five_seconds(codec: Codec) -> None:
    plane, call, gone = MediaPlane(), make_call(codec), make_call(codec)
    plane.add(call.stream)
    plane.add(gone.stream)
    gone.stream.closed = True
    for tick in range(1000):
        plane.tick(tick * 0.02)
    reports = [parse_compound(data)[0] for data in call.wire.rtcp]
    assert len(reports) == 4
    first = reports[0]
    assert isinstance(first, SenderReport)
    assert first.packet_count == 125
    assert first.rtp_timestamp == call.wire.rtp[124].timestamp
    assert gone.wire.rtcp == []


def test_a_report_due_in_slots_left_out_is_sent_after_them() -> None:
    plane, call = MediaPlane(), make_call(PCMU)
    plane.add(call.stream)
    plane.slot(0, 0.0)
    plane.slot(4, 0.02)
    assert call.wire.rtcp == []
    plane.slot(800, 4.0)
    assert len(call.wire.rtcp) == 1


def test_an_empty_plane_ticks() -> None:
    plane = MediaPlane()
    plane.tick(0.0)
    assert len(plane) == 0


def test_nobody_listening() -> None:
    plane, call = MediaPlane(), make_call(PCMU)
    call.stream.on_frame = None
    plane.add(call.stream)
    call.receive(np.zeros(160, np.int16), 0.0)
    plane.tick(0.0)
    assert call.heard == []

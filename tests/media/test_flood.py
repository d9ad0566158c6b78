from bridge.audio.codecs import PCMU
from bridge.media.flood import BURST, PACKETS_PER_S, RateCap
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket


class Wire:
    def send(self, data: bytes) -> None:
        pass

    def send_rtcp(self, data: bytes) -> None:
        pass


def make_stream() -> AudioStream:
    return AudioStream(PCMU, payload_type=0, wire=Wire(), cname="a@b")


def audio(number: int, ssrc: int = 7) -> bytes:
    return bytes(RtpPacket(0, False, number & 0xFFFF, number * 160, ssrc, b"\x55" * 160))


def test_ten_millisecond_packets_for_an_hour_are_all_admitted() -> None:
    cap = RateCap()
    assert all(cap.admits(n * 0.01) for n in range(360_000))


def test_after_a_stall_of_two_seconds_all_of_it_is_admitted() -> None:
    cap = RateCap()
    assert all(cap.admits(n * 0.01) for n in range(1000))
    assert all(cap.admits(12.0) for _ in range(200))
    assert all(cap.admits(12.0 + n * 0.01) for n in range(1000))


def test_a_flood_is_cut_to_the_cap_and_counted() -> None:
    stream = make_stream()
    for n in range(50_000):
        stream.receive_rtp(audio(n), n / 5000)
    stats = stream.stats
    assert stats.packets_received + stats.flooded == 50_000
    assert abs(stats.packets_received - (10 * PACKETS_PER_S + BURST)) < 5


def test_what_reaches_the_model_is_bounded_by_time() -> None:
    """Recordings are, too: they are made of these frames."""
    stream = make_stream()
    frames = 0
    for tick in range(500):
        for n in range(100):
            stream.receive_rtp(audio(tick * 100 + n), tick * 0.02)
        frames += len(stream.inbound.pull(tick * 0.02))
    assert frames <= 500


def test_a_flood_under_another_ssrc_does_not_use_up_the_room_of_the_source() -> None:
    stream = make_stream()
    stream.receive_rtp(audio(0), 0.0)
    stream.inbound.pull(0.0)
    for n in range(1, 500):
        stream.receive_rtp(audio(n), n * 0.02)
        for other in range(100):
            stream.receive_rtp(audio(n * 101 + other, ssrc=9), n * 0.02)
        stream.inbound.pull(n * 0.02)
    stats = stream.stats
    assert (stats.flooded, stats.packets_lost, stats.restarts) == (0, 0, 0)

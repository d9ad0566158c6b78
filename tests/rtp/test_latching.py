import pytest
from hypothesis import given, strategies as st

from bridge.rtp.latching import MAX_CANDIDATES, Endpoint, SourceLatch
from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import ReceiverReport

SDP: Endpoint = ("192.0.2.10", 4000)
SAME_IP: Endpoint = ("192.0.2.10", 61000)
STRANGER: Endpoint = ("203.0.113.66", 5004)


def rtp(sequence_number: int, ssrc: int = 1) -> bytes:
    return bytes(RtpPacket(0, False, sequence_number & 0xFFFF, 0, ssrc, b"\xff" * 160))


def rtcp(ssrc: int = 1) -> bytes:
    return bytes(ReceiverReport(ssrc))


def latch_to(remote: Endpoint = SDP) -> SourceLatch:
    latch = SourceLatch()
    latch.set_remote(remote)
    return latch


def send(
    latch: SourceLatch,
    source: Endpoint,
    count: int,
    *,
    at: float = 0.0,
    first: int = 0,
    ssrc: int = 1,
) -> list[bool]:
    """`count` packets in sequence, 20 ms apart."""
    return [latch.admits(rtp(first + n, ssrc), source, at + n * 0.02) for n in range(count)]


def test_the_sdp_address_is_believed_at_once() -> None:
    latch = latch_to()
    assert latch.source == SDP
    assert latch.admits(rtp(0), SDP, 0.0)
    assert not latch.latched


def test_nobody_is_believed_before_an_sdp() -> None:
    latch = SourceLatch()
    assert not any(send(latch, STRANGER, 20))
    assert latch.source is None
    assert latch.control is None


@pytest.mark.parametrize("source", [SAME_IP, STRANGER])
def test_behind_a_nat_the_fifth_packet_in_sequence_latches(source: Endpoint) -> None:
    latch = latch_to()
    assert send(latch, source, 6) == [False, False, False, False, True, True]
    assert latch.source == source
    assert latch.latched


def test_sprayed_ports_get_nothing_while_the_sdp_address_sends() -> None:
    latch = latch_to()
    for n in range(3000):
        now = n * 0.02
        assert latch.admits(rtp(n), SDP, now)
        for burst in range(10):
            assert not latch.admits(rtp(n * 10 + burst, ssrc=9), STRANGER, now)
    assert latch.source == SDP


def test_a_burst_before_the_first_packet_of_the_sdp_address_wins_nothing() -> None:
    latch = latch_to()
    assert not any(latch.admits(rtp(n, ssrc=9), STRANGER, n * 0.001) for n in range(50))
    assert latch.admits(rtp(0), SDP, 0.05)
    assert not any(send(latch, STRANGER, 50, at=0.051, first=50, ssrc=9))
    assert latch.source == SDP


def test_injection_into_a_latched_call_is_dropped() -> None:
    latch = latch_to()
    send(latch, SAME_IP, 5)
    assert not any(send(latch, STRANGER, 200, at=0.1, ssrc=1, first=5))
    assert latch.source == SAME_IP


def test_no_second_latch() -> None:
    latch = latch_to()
    send(latch, SAME_IP, 5)
    assert not any(send(latch, ("192.0.2.10", 62000), 20, at=60.0))
    assert latch.source == SAME_IP


def test_no_latch_after_the_sdp_address_was_heard() -> None:
    latch = latch_to()
    latch.admits(rtp(0), SDP, 0.0)
    assert not any(send(latch, SAME_IP, 20, at=5.0))


@pytest.mark.parametrize(
    "stream",
    [
        [(0, 1), (1, 1), (2, 1), (3, 1), (5, 1), (6, 1), (7, 1), (8, 1)],  # a gap
        [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 2)],  # another SSRC
        [(7, 1)] * 20,  # one packet again and again
        [(n * 7919, 1) for n in range(20)],
    ],
)
def test_a_broken_run_does_not_latch(stream: list[tuple[int, int]]) -> None:
    latch = latch_to()
    assert not any(
        latch.admits(rtp(number, ssrc), STRANGER, i * 0.02)
        for i, (number, ssrc) in enumerate(stream)
    )


def test_a_run_over_the_wrap_latches() -> None:
    assert send(latch_to(), STRANGER, 5, first=65533)[-1]


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x00\x00\x01", b"\x00" * 172, b"\x80\xc8" + bytes(26)]
)
def test_what_is_not_rtp_is_never_admitted(data: bytes) -> None:
    latch = latch_to()
    assert not latch.admits(data, SDP, 0.0)
    assert not any(latch.admits(data, STRANGER, n * 0.02) for n in range(20))


def test_the_same_ip_goes_before_a_stranger_who_was_first() -> None:
    latch = latch_to()
    results = []
    for n in range(10):
        now = n * 0.02
        results.append(latch.admits(rtp(n, ssrc=9), STRANGER, now))
        if n >= 2:
            latch.admits(rtp(n), SAME_IP, now)
    assert not any(results)
    assert latch.source == SAME_IP


def test_a_stranger_does_not_wait_for_a_source_that_fell_silent() -> None:
    latch = latch_to()
    latch.admits(rtp(0), SAME_IP, 0.0)
    assert any(send(latch, STRANGER, 60, at=0.5))


def test_the_sdp_address_wins_the_call_back() -> None:
    latch = latch_to()
    send(latch, STRANGER, 5)
    assert send(latch, SDP, 5, at=1.0)[-1]
    assert latch.source == SDP
    assert not any(send(latch, STRANGER, 20, at=2.0, first=5))


def test_many_sources_do_not_crowd_out_a_steady_one() -> None:
    latch = latch_to()
    latched = False
    for n in range(5):
        now = n * 0.02
        latched = latch.admits(rtp(n), SAME_IP, now)
        for port in range(MAX_CANDIDATES - 1 if n == 0 else 1000):
            latch.admits(rtp(0), ("198.51.100.7", 1024 + n * 1000 + port), now)
    assert latched


def test_a_new_remote_starts_over() -> None:
    latch = latch_to()
    send(latch, SAME_IP, 5)
    latch.set_remote(("192.0.2.20", 7000))
    assert latch.source == ("192.0.2.20", 7000)
    assert not latch.admits(rtp(5), SAME_IP, 1.0)
    assert send(latch, ("192.0.2.20", 9), 5, at=1.0)[-1]


def test_a_repeated_remote_keeps_the_source_and_allows_one_more_latch() -> None:
    latch = latch_to()
    send(latch, SAME_IP, 5)
    latch.set_remote(SDP)
    assert latch.source == SAME_IP
    moved = ("192.0.2.10", 62000)
    assert send(latch, moved, 5, at=1.0)[-1]
    assert latch.source == moved
    latch.set_remote(SDP)
    assert latch.admits(rtp(5), moved, 2.0)
    assert not any(send(latch, STRANGER, 50, at=2.0))


@pytest.mark.parametrize("remote", [("0.0.0.0", 4000), ("192.0.2.1", 0), ("::", 4000), None])
def test_what_cannot_be_sent_to_is_no_destination(remote: Endpoint | None) -> None:
    latch = SourceLatch()
    latch.set_remote(remote)
    assert latch.source is None
    assert latch.control is None


def test_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="phone"):
        SourceLatch().set_remote(("phone.example.com", 4000))


def test_rtcp_goes_beside_the_rtp() -> None:
    latch = latch_to()
    assert latch.control == ("192.0.2.10", 4001)
    latch.set_remote(SDP, ("192.0.2.11", 5005))
    assert latch.control == ("192.0.2.11", 5005)
    send(latch, SAME_IP, 5)
    assert latch.control == ("192.0.2.10", 61001)


def test_no_rtcp_beside_the_last_port() -> None:
    assert latch_to(("192.0.2.10", 65535)).control is None


def test_rtcp_is_answered_where_it_came_from() -> None:
    latch = latch_to()
    assert not latch.admits_control(rtcp(), ("192.0.2.10", 33333))
    assert latch.admits_control(rtcp(), ("192.0.2.10", 4001))
    send(latch, SAME_IP, 5)
    assert latch.admits_control(rtcp(), ("192.0.2.10", 33333))
    assert latch.control == ("192.0.2.10", 33333)
    assert not latch.admits_control(rtcp(), ("203.0.113.66", 4001))


def test_rtcp_of_the_sdp_address_is_foreign_once_latched_elsewhere() -> None:
    latch = latch_to()
    send(latch, STRANGER, 5)
    assert not latch.admits_control(rtcp(), ("192.0.2.10", 4001))
    assert latch.admits_control(rtcp(), ("203.0.113.66", 5005))


def test_addresses_compare_by_value() -> None:
    latch = latch_to(("2001:DB8:0:0::1", 4000))
    assert latch.admits(rtp(0), ("2001:db8::1", 4000), 0.0)


def test_rtcp_from_another_port_must_be_of_the_ssrc_that_is_heard() -> None:
    latch = latch_to()
    send(latch, SAME_IP, 5)
    assert not latch.admits_control(rtcp(9), ("192.0.2.10", 33333))
    assert latch.control == ("192.0.2.10", 61001)


def test_rtcp_that_came_from_where_the_sdp_says_does_not_move() -> None:
    latch = latch_to()
    send(latch, SDP, 5)
    assert latch.admits_control(rtcp(9), ("192.0.2.10", 4001))
    assert not latch.admits_control(rtcp(), ("192.0.2.10", 33333))
    assert latch.control == ("192.0.2.10", 4001)


def test_under_keys_nobody_is_believed_without_them() -> None:
    latch = latch_to()
    asked: list[bytes] = []

    def genuine(data: bytes) -> bool:
        asked.append(data)
        return RtpPacket.parse(data).ssrc == 1

    latch.genuine = latch.genuine_control = genuine
    assert not any(send(latch, STRANGER, 50, ssrc=9))
    assert len(asked) == 10
    assert send(latch, SAME_IP, 5)[-1]
    asked.clear()
    send(latch, SAME_IP, 5, first=5, at=0.1)
    assert not asked
    latch.genuine_control = lambda data: False
    assert not latch.admits_control(rtcp(), ("192.0.2.10", 33333))


NEAR = "198.51.100.20"


def test_a_stranger_waits_for_the_host_of_the_signalling() -> None:
    latch = SourceLatch()
    latch.set_remote(("10.0.0.5", 4000), near=NEAR)
    admitted = []
    for n in range(10):
        latch.admits(rtp(n), (NEAR, 61000), n * 0.02)
        admitted.append(latch.admits(rtp(n, ssrc=9), STRANGER, n * 0.02))
    assert not any(admitted)
    assert latch.source == (NEAR, 61000)


def test_the_host_of_the_signalling_wins_the_call_back_once() -> None:
    latch = SourceLatch()
    latch.set_remote(("10.0.0.5", 4000), near=NEAR)
    assert send(latch, STRANGER, 20)[-1]
    assert send(latch, (NEAR, 61000), 5, at=1.0)[-1]
    assert not any(send(latch, (NEAR, 62000), 20, at=2.0))
    assert not any(send(latch, STRANGER, 20, at=3.0))
    assert send(latch, ("10.0.0.5", 4000), 5, at=4.0)[-1]


def test_a_host_that_is_named_nowhere_must_last_longer() -> None:
    latch = SourceLatch()
    latch.set_remote(("10.0.0.5", 4000), near=NEAR)
    admitted = send(latch, STRANGER, 20)
    assert admitted.index(True) == 13
    latch.set_remote(("10.0.0.6", 4000), near=NEAR)
    assert send(latch, (NEAR, 61000), 5, at=1.0) == [False, False, False, False, True]


def test_who_had_the_port_before_is_believed_at_the_sdp_address_only() -> None:
    latch = SourceLatch(stale=(1).to_bytes(4, "big"))
    latch.set_remote(SDP)
    assert not any(send(latch, SAME_IP, 50))
    assert latch.admits(rtp(0), SDP, 1.0)
    assert latch.ssrc == (1).to_bytes(4, "big")


@given(
    st.lists(
        st.tuples(st.sampled_from((SDP, SAME_IP, STRANGER)), st.binary(max_size=16)), max_size=8
    ),
    st.sampled_from((SDP, SAME_IP, STRANGER)),
    st.binary(max_size=16) | st.sampled_from((rtp(1), rtcp(), b"\x80\xc8" + bytes(12))),
)
def test_the_way_past_admits_what_would_be_admitted(
    before: list[tuple[Endpoint, bytes]], source: Endpoint, data: bytes
) -> None:
    short, long = latch_to(), latch_to()
    for latch in (short, long):
        send(latch, SAME_IP, 7)
        for other, each in before:
            latch.admits(each, other, 1.0)
    assert not short.goes_on(data, source) or long.admits(data, source, 2.0)
    assert (short.source, short.ssrc) == (long.source, long.ssrc)
    assert short.goes_on(rtp(9, 5), SAME_IP)
    assert short.ssrc == rtp(9, 5)[8:12]

import pytest
from hypothesis import given, strategies as st

from bridge.errors import RtpError
from bridge.rtp.packet import RtpPacket, is_rtcp

PCMU = bytes.fromhex("8080a0b1000000a0deadbeef") + b"\xff" * 160
CSRC_AND_EXTENSION = bytes.fromhex(
    "9265ffffffffffff00000001"  # two CSRCs, extension bit, payload type 101
    "0000000a0000000b"
    "bede0001aabbccdd"
    "018a0320"
)

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
words = st.integers(0, 20).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
packets = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    marker=st.booleans(),
    sequence_number=u16,
    timestamp=u32,
    ssrc=u32,
    payload=st.binary(max_size=200),
    csrcs=st.lists(u32, max_size=15).map(tuple),
    extension=st.none() | st.tuples(u16, words),
)


def test_reads_a_packet_of_speech() -> None:
    packet = RtpPacket.parse(PCMU)
    assert packet == RtpPacket(0, True, 0xA0B1, 160, 0xDEADBEEF, b"\xff" * 160)
    assert bytes(packet) == PCMU


def test_reads_sources_and_extension() -> None:
    packet = RtpPacket.parse(CSRC_AND_EXTENSION)
    assert packet.csrcs == (10, 11)
    assert packet.extension == (0xBEDE, bytes.fromhex("aabbccdd"))
    assert packet.payload == bytes.fromhex("018a0320")
    assert bytes(packet) == CSRC_AND_EXTENSION


def test_drops_padding() -> None:
    data = b"\xa0" + PCMU[1:12] + b"speech" + b"\x00\x00\x03"
    assert RtpPacket.parse(data).payload == b"speech"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        PCMU[:11],
        b"\x40" + PCMU[1:],  # version 1
        b"\xc0" + PCMU[1:],  # version 3
        b"\x8f" + PCMU[1:20],  # 15 CSRCs announced
        CSRC_AND_EXTENSION[:22],
        CSRC_AND_EXTENSION[:26],
        b"\xa0" + PCMU[1:12] + b"\x00",  # padding of nothing
        b"\xa0" + PCMU[1:12] + b"\x02",  # padding longer than the payload
        b"\xa0" + PCMU[1:12],  # padding bit, no payload
    ],
)
def test_refuses(data: bytes) -> None:
    with pytest.raises(RtpError):
        RtpPacket.parse(data)


@given(packets)
def test_round_trip(packet: RtpPacket) -> None:
    assert RtpPacket.parse(bytes(packet)) == packet


@given(st.binary(max_size=80))
def test_any_octets_parse_or_raise_rtp_error(data: bytes) -> None:
    try:
        packet = RtpPacket.parse(data)
    except RtpError:
        return
    assert RtpPacket.parse(bytes(packet)) == packet


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x80\xc8", True),
        (b"\x81\xc9\x00", True),
        (b"\x80\xdf", True),
        (b"\x80\x00", False),
        (b"\x80\xe5", False),  # payload type 101 with the marker
        (b"\x80", False),
        (b"", False),
    ],
)
def test_tells_rtcp_from_rtp(data: bytes, expected: bool) -> None:
    assert is_rtcp(data) is expected

import pytest
from hypothesis import given, strategies as st

from bridge.errors import RtpError
from bridge.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceChunk,
    SourceDescription,
    UnknownRtcp,
    ntp_timestamp,
    parse_compound,
    serialise_compound,
)

# A sender report with one block, then a CNAME of 9 octets.
FROM_A_PHONE = bytes.fromhex(
    "81c8000c 1a2b3c4d e7a5f1c2 80000000 00003e80 00000032 00001f40"
    "deadbeef 05fffffe 00010064 00000010 f1c28000 00018000"
    "81ca0004 1a2b3c4d 0109 70686f6e65406c616e 00"
)

REPORT = SenderReport(
    ssrc=0x1A2B3C4D,
    ntp_timestamp=0xE7A5F1C2_80000000,
    rtp_timestamp=16000,
    packet_count=50,
    octet_count=8000,
    reports=(
        ReportBlock(
            ssrc=0xDEADBEEF,
            fraction_lost=5,
            packets_lost=-2,
            highest_sequence=0x10064,
            jitter=16,
            last_sr=0xF1C28000,
            delay_since_last_sr=98304,
        ),
    ),
)

u32 = st.integers(0, 0xFFFF_FFFF)
blocks = st.lists(
    st.builds(
        ReportBlock,
        ssrc=u32,
        fraction_lost=st.integers(0, 255),
        packets_lost=st.integers(-0x80_0000, 0x7F_FFFF),
        highest_sequence=u32,
        jitter=u32,
        last_sr=u32,
        delay_since_last_sr=u32,
    ),
    max_size=31,
).map(tuple)
sender_reports = st.builds(SenderReport, u32, st.integers(0, 2**64 - 1), u32, u32, u32, blocks)
receiver_reports = st.builds(ReceiverReport, u32, blocks)
chunks = st.builds(
    SourceChunk,
    u32,
    st.lists(st.tuples(st.integers(1, 8), st.binary(max_size=60)), max_size=4).map(tuple),
)
descriptions = st.builds(SourceDescription, st.lists(chunks, max_size=31).map(tuple))
byes = st.builds(Bye, st.lists(u32, max_size=31).map(tuple), st.text(max_size=40))
unknown = st.builds(
    UnknownRtcp,
    st.integers(204, 223),
    st.integers(0, 31),
    st.integers(0, 5).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
)
compounds = st.tuples(
    sender_reports | receiver_reports,
    st.lists(sender_reports | receiver_reports | descriptions | byes | unknown, max_size=3),
).map(lambda parts: [parts[0], *parts[1]])


def test_reads_a_report_and_a_name() -> None:
    packets = parse_compound(FROM_A_PHONE)
    name = SourceDescription.of(0x1A2B3C4D, "phone@lan")
    assert packets == [REPORT, name]
    assert serialise_compound(packets) == FROM_A_PHONE


@given(compounds)
def test_round_trip(packets: list[RtcpPacket]) -> None:
    assert parse_compound(serialise_compound(packets)) == packets


@given(compounds, st.data())
def test_truncations_raise_or_end_between_packets(
    packets: list[RtcpPacket], data: st.DataObject
) -> None:
    wire = serialise_compound(packets)
    cut = data.draw(st.integers(0, len(wire) - 1))
    ends = {len(serialise_compound(packets[:n])) for n in range(1, len(packets))}
    if cut in ends:
        parse_compound(wire[:cut])
    else:
        with pytest.raises(RtpError):
            parse_compound(wire[:cut])


@given(st.binary(max_size=120))
def test_any_octets_parse_or_raise_rtp_error(data: bytes) -> None:
    for candidate in (data, FROM_A_PHONE[:52] + data, b"\x80\xc9\x00\x01\x00\x00\x00\x07" + data):
        try:
            parse_compound(candidate)
        except RtpError:
            continue


RR = "80c90001 00000007"


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "80",
        "80c9",
        "80c900",
        "80c90000",  # no SSRC
        "80c90001 000000",
        "81c90001 00000007",  # a block announced, none there
        "80c80001 00000007",  # no sender info
        "40c90001 00000007",  # version 1
        "a0c90001 00000007",  # padding bit, no valid count
        "a0c90002 00000007 00000003",  # padding not a multiple of four
        "a0c90002 00000007 00000000",
        "a0c90002 00000007 000000ff",
        "a0c90002 00000007 00000004" + RR,  # padding before the last
        "80000001 00000007",  # RTP
        "81cb0001 00000007",  # BYE alone
        "81ca0002 00000007 00000000",  # description first
        RR + "81cb0000",
        RR + "81cb0002 00000007 05414243",  # reason longer than the packet
        RR + "81ca0001 00000007",  # chunk without an end
        RR + "81ca0002 00000007 01ff4142",
        RR + "81ca0002 00000007 01024142",  # item fills the packet: no null octet
        RR + "81ca0002 00000007 01014101",  # item header cut off
        RR + "82ca0002 00000007 00000000",
        RR + "ff",
    ],
)
def test_refuses(wire: str) -> None:
    with pytest.raises(RtpError):
        parse_compound(bytes.fromhex(wire))


def test_padding_after_the_last_packet() -> None:
    packets = parse_compound(bytes.fromhex(RR + "a1cb0002 00000007 00000004"))
    assert packets == [ReceiverReport(7), Bye((7,))]


def test_profile_extensions_of_a_report_are_ignored() -> None:
    assert parse_compound(bytes.fromhex("80c90002 00000007 cafebabe")) == [ReceiverReport(7)]


def test_ntp_timestamp() -> None:
    assert ntp_timestamp(0.0) == 2_208_988_800 << 32
    assert ntp_timestamp(0.5) & 0xFFFF_FFFF == 0x8000_0000

import random

import pytest
from hypothesis import given, settings, strategies as st

from bridge.errors import RtpError
from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import ReceiverReport, SourceDescription, serialise_compound
from bridge.rtp.srtp import KEY_BYTES, SrtpSession

SUITES = pytest.mark.parametrize("suite", KEY_BYTES)
DEFAULT = "AES_CM_128_HMAC_SHA1_80"
TAG_BYTES = {
    "AES_CM_128_HMAC_SHA1_80": 10,
    "AES_CM_128_HMAC_SHA1_32": 4,
    "AEAD_AES_128_GCM": 16,
    "AEAD_AES_256_GCM": 16,
}
REPORT = serialise_compound((ReceiverReport(7), SourceDescription.of(7, "a@b")))


def key(suite: str, seed: int) -> bytes:
    return random.Random(seed).randbytes(KEY_BYTES[suite])


def pair(suite: str = DEFAULT) -> tuple[SrtpSession, SrtpSession]:
    one, two = key(suite, 1), key(suite, 2)
    return SrtpSession(one, two, suite), SrtpSession(two, one, suite)


def packet(sequence: int, *, ssrc: int = 7) -> bytes:
    return bytes(RtpPacket(0, False, sequence & 0xFFFF, sequence * 160, ssrc, b"\x55" * 160))


@SUITES
def test_both_ways(suite: str) -> None:
    ours, theirs = pair(suite)
    assert ours.suite == suite
    for sender, receiver in ((ours, theirs), (theirs, ours)):
        protected = sender.protect(packet(5))
        assert len(protected) == 172 + TAG_BYTES[suite]
        assert b"\x55\x55" not in protected
        assert receiver.unprotect(protected) == packet(5)
        report = sender.protect_rtcp(REPORT)
        assert b"a@b" not in report
        assert receiver.unprotect_rtcp(report) == REPORT


def test_vector_of_rfc_3711() -> None:
    """The master key of appendix B.3, a packet that other implementations test with too."""
    master = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE41390EC675AD498AFEEBB6960B3AABE6")
    sender, receiver = SrtpSession(master, master, DEFAULT), SrtpSession(master, master, DEFAULT)
    plain = bytes.fromhex("800f1234decafbadcafebabe" + "ab" * 16)
    protected = sender.protect(plain)
    assert protected.hex() == (
        "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb"
    )
    assert receiver.unprotect(protected) == plain


def test_packets_past_sixteen_bits() -> None:
    ours, theirs = pair()
    for sequence in range(30_000, 30_000 + 70_000, 7):
        assert theirs.unprotect(ours.protect(packet(sequence))) == packet(sequence)


def test_another_key_is_an_error() -> None:
    ours, _ = pair()
    stranger = SrtpSession(key(DEFAULT, 3), key(DEFAULT, 4), DEFAULT)
    with pytest.raises(RtpError):
        ours.unprotect(stranger.protect(packet(1)))
    with pytest.raises(RtpError):
        ours.unprotect_rtcp(stranger.protect_rtcp(REPORT))


def test_a_replayed_packet_is_an_error() -> None:
    ours, theirs = pair()
    protected, report = ours.protect(packet(1)), ours.protect_rtcp(REPORT)
    theirs.unprotect(protected)
    theirs.unprotect_rtcp(report)
    with pytest.raises(RtpError):
        theirs.unprotect(protected)
    with pytest.raises(RtpError):
        theirs.unprotect_rtcp(report)


def test_two_thousand_bad_packets_change_nothing() -> None:
    ours, theirs = pair()
    rng = random.Random(0)
    for n in range(2000):
        forged = bytearray(theirs.protect(packet(n)))
        forged[rng.randrange(len(forged))] ^= 1 << rng.randrange(8)
        with pytest.raises(RtpError):
            ours.unprotect(bytes(forged))
    assert ours.unprotect(theirs.protect(packet(2000))) == packet(2000)


@pytest.mark.parametrize("size", [0, 1, 8, 11, 1357, 70_000])
def test_sizes_that_do_not_fit(size: int) -> None:
    ours, _ = pair()
    for operation in (ours.protect, ours.protect_rtcp):
        with pytest.raises(RtpError):
            operation(b"\x80" * size)


def test_the_same_number_is_not_sent_twice() -> None:
    ours, _ = pair()
    ours.protect(packet(1))
    with pytest.raises(RtpError):
        ours.protect(packet(1))


@SUITES
@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=1600))
def test_only_one_kind_of_error(suite: str, data: bytes) -> None:
    session, _ = pair(suite)
    for operation in (session.unprotect, session.unprotect_rtcp):
        with pytest.raises(RtpError):
            operation(data)


def test_wrong_keys_and_suites() -> None:
    good = key(DEFAULT, 1)
    for local, remote, suite in (
        (good[:-1], good, DEFAULT),
        (good, good + b"x", DEFAULT),
        (good, good, "NULL"),
    ):
        with pytest.raises(RtpError):
            SrtpSession(local, remote, suite)
    session = SrtpSession(good, key(DEFAULT, 2), DEFAULT)
    with pytest.raises(RtpError):
        session.rekey(b"short", good, DEFAULT)
    assert session.suite == DEFAULT


@SUITES
def test_rekeying_reads_what_was_under_way(suite: str) -> None:
    ours, theirs = pair()
    ours.unprotect(theirs.protect(packet(1)))
    late = [theirs.protect(packet(n)) for n in (2, 3)]
    late_report = theirs.protect_rtcp(REPORT)
    ours.rekey(key(suite, 5), key(suite, 6), suite)
    assert ours.unprotect(late[0]) == packet(2)
    assert ours.unprotect_rtcp(late_report) == REPORT
    theirs.rekey(key(suite, 6), key(suite, 5), suite)
    assert theirs.unprotect(ours.protect(packet(900))) == packet(900)
    assert ours.unprotect(theirs.protect(packet(4))) == packet(4)
    with pytest.raises(RtpError):
        ours.unprotect(late[1])


def test_keys_that_stay_keep_their_count() -> None:
    one, two = key(DEFAULT, 1), key(DEFAULT, 2)
    ours, theirs = pair()
    for sequence in range(65_000, 66_000):
        theirs.unprotect(ours.protect(packet(sequence)))
    ours.rekey(one, two, DEFAULT)
    ours.rekey(one, key(DEFAULT, 9), DEFAULT)
    assert theirs.unprotect(ours.protect(packet(66_001))) == packet(66_001)


def test_no_key_in_a_repr() -> None:
    ours, _ = pair()
    assert repr(key(DEFAULT, 1))[2:-1] not in repr(ours) + str(ours)

from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import ReceiverReport, SourceDescription, serialise_compound
from bridge.rtp.secure import SecureWire, SecureWireStats
from bridge.rtp.srtp import SrtpSession

SUITE = "AES_CM_128_HMAC_SHA1_32"
OURS, THEIRS = b"o" * 30, b"t" * 30
REPORT = serialise_compound((ReceiverReport(7), SourceDescription.of(7, "a@b")))


@dataclass
class Ports:
    on_rtp: Callable[[bytes, float], None] | None = None
    on_rtcp: Callable[[bytes, float], None] | None = None
    rtp: list[bytes] = field(default_factory=list)
    rtcp: list[bytes] = field(default_factory=list)
    proofs: list[Callable[[bytes], bool]] = field(default_factory=list)

    def demand_proof(self, rtp: Callable[[bytes], bool], rtcp: Callable[[bytes], bool]) -> None:
        self.proofs = [rtp, rtcp]

    def send(self, data: bytes) -> None:
        self.rtp.append(data)

    def send_rtcp(self, data: bytes) -> None:
        self.rtcp.append(data)


@dataclass
class Heard:
    rtp: list[tuple[bytes, float]] = field(default_factory=list)
    rtcp: list[tuple[bytes, float]] = field(default_factory=list)

    def on_rtp(self, data: bytes, now: float) -> None:
        self.rtp.append((data, now))

    def on_rtcp(self, data: bytes, now: float) -> None:
        self.rtcp.append((data, now))


def packet(sequence: int) -> bytes:
    return bytes(RtpPacket(0, False, sequence, sequence * 160, 7, b"\x55" * 160))


def make_wire() -> tuple[SecureWire, Ports, Heard, SrtpSession]:
    ports, heard = Ports(), Heard()
    wire = SecureWire(
        ports, SrtpSession(OURS, THEIRS, SUITE), on_rtp=heard.on_rtp, on_rtcp=heard.on_rtcp
    )
    return wire, ports, heard, SrtpSession(THEIRS, OURS, SUITE)


def test_what_leaves_is_encrypted() -> None:
    wire, ports, _, peer = make_wire()
    wire.send(packet(1))
    wire.send_rtcp(REPORT)
    assert peer.unprotect(ports.rtp[0]) == packet(1)
    assert peer.unprotect_rtcp(ports.rtcp[0]) == REPORT
    assert wire.stats == SecureWireStats()


def test_what_arrives_is_decrypted() -> None:
    _, ports, heard, peer = make_wire()
    assert ports.on_rtp is not None
    assert ports.on_rtcp is not None
    ports.on_rtp(peer.protect(packet(1)), 2.5)
    ports.on_rtcp(peer.protect_rtcp(REPORT), 2.6)
    assert heard.rtp == [(packet(1), 2.5)]
    assert heard.rtcp == [(REPORT, 2.6)]


def test_what_is_not_the_peers_is_counted() -> None:
    wire, ports, heard, peer = make_wire()
    assert ports.on_rtp is not None
    assert ports.on_rtcp is not None
    for n in range(2000):
        ports.on_rtp(packet(n), 0.0)
        ports.on_rtcp(REPORT, 0.0)
    assert wire.stats == SecureWireStats(rejected=2000, rejected_rtcp=2000)
    ports.on_rtp(peer.protect(packet(1)), 1.0)
    assert heard == Heard([(packet(1), 1.0)])


def test_what_cannot_be_encrypted_is_not_sent() -> None:
    wire, ports, _, _ = make_wire()
    wire.send(packet(1))
    wire.send(packet(1))
    wire.send_rtcp(b"short")
    assert (len(ports.rtp), len(ports.rtcp), wire.stats.unsent) == (1, 0, 2)


def test_what_was_asked_for_as_a_proof_is_heard_once() -> None:
    _, ports, heard, peer = make_wire()
    assert ports.on_rtp is not None
    assert ports.on_rtcp is not None
    proves, proves_rtcp = ports.proofs
    sent, report = peer.protect(packet(1)), peer.protect_rtcp(REPORT)
    assert proves(sent)
    ports.on_rtp(sent, 1.0)
    assert proves_rtcp(report)
    ports.on_rtcp(report, 1.1)
    assert heard == Heard([(packet(1), 1.0)], [(REPORT, 1.1)])
    assert not proves(sent)
    assert not proves(packet(2))
    assert not proves_rtcp(report)
    ports.on_rtp(sent, 1.2)
    assert len(heard.rtp) == 1

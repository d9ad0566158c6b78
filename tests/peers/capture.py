"""What was on the loopback wire, with the kernel's times: tcpdump, and a reader of its file."""

import re
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.peers.phone import Packet, decode

ETHERNET = 14
_START_LINE = re.compile(rb"(?:\A|\r\n\r\n)(SIP/2\.0 [^\r]*|[A-Z]+ [^\r]* SIP/2\.0)\r\n")


@dataclass(frozen=True, slots=True)
class Datagram:
    at: float
    source: tuple[str, int]
    destination: tuple[str, int]
    protocol: int
    data: bytes


class Capture:
    """Runs from `with` on; afterwards `datagrams` holds what `expression` matched."""

    def __init__(self, expression: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="capture-")
        self._path = Path(self._directory.name) / "lo.pcap"
        self._expression = expression
        self.datagrams: list[Datagram] = []

    def __enter__(self) -> "Capture":
        command = ["tcpdump", "-i", "lo", "--immediate-mode", "-B", "65536", "-s", "0", "-U", "-w"]
        self._process = subprocess.Popen(
            [*command, str(self._path), self._expression],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        assert b"listening" in line, line
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.3)
        self._process.terminate()
        self._process.communicate(timeout=5)
        self.datagrams = list(read(self._path))
        self._directory.cleanup()

    def rtp_from(self, port: int) -> list[Packet]:
        return [
            packet
            for datagram in self.datagrams
            if datagram.protocol == 17 and datagram.source[1] == port
            for packet in [rtp(datagram)]
            if packet is not None
        ]

    def sip(self) -> list[tuple[float, str]]:
        """Start lines and their times, of UDP and of whole TCP segments."""
        return [
            (datagram.at, found.group(1).decode("latin-1"))
            for datagram in self.datagrams
            for found in _START_LINE.finditer(datagram.data)
        ]


def read(path: Path) -> Iterator[Datagram]:
    """Ethernet, IPv4, UDP and TCP of a little-endian pcap file in microseconds."""
    data = path.read_bytes()
    offset = 24
    while offset + 16 <= len(data):
        seconds, micros, size, _ = struct.unpack_from("<IIII", data, offset)
        frame = data[offset + 16 : offset + 16 + size]
        offset += 16 + size
        packet = frame[ETHERNET:]
        if len(packet) < 20 or packet[0] >> 4 != 4:
            continue
        protocol, body = packet[9], packet[(packet[0] & 15) * 4 :]
        if len(body) < 8:
            continue
        source, destination = struct.unpack_from(">HH", body)
        payload = body[8:] if protocol == 17 else body[(body[12] >> 4) * 4 :]
        host = ".".join(map(str, packet[12:16]))
        peer = ".".join(map(str, packet[16:20]))
        yield Datagram(
            seconds + micros / 1e6, (host, source), (peer, destination), protocol, payload
        )


def rtp(datagram: Datagram) -> Packet | None:
    data = datagram.data
    if len(data) < 12 or data[0] >> 6 != 2 or 192 <= data[1] <= 223:
        return None
    _, second, sequence, timestamp, ssrc = struct.unpack(">BBHII", data[:12])
    return Packet(
        datagram.at, second & 0x7F, bool(second & 0x80), sequence, timestamp, ssrc, data[12:]
    )


def is_loud(packet: Packet, level: int = 200) -> bool:
    return packet.payload_type in (0, 8) and loudness(packet) > level


def loudness(packet: Packet) -> int:
    """Peak of a G.711 frame on the 16 bit scale."""
    if packet.payload_type == 8:
        return max(map(_alaw, packet.payload), default=0)
    return int(abs(decode(packet.payload).astype("i4")).max(initial=0))


def _alaw(code: int) -> int:
    code ^= 0x55
    exponent, mantissa = (code & 0x70) >> 4, code & 0x0F
    magnitude = (mantissa << 4) + 8
    if exponent:
        magnitude = (magnitude + 0x100) << (exponent - 1)
    return magnitude


@dataclass(frozen=True, slots=True)
class Spurt:
    """A run of agent speech: first and last loud packet."""

    began: float
    ended: float


def spurts(packets: list[Packet], pause_s: float = 0.5) -> list[Spurt]:
    found: list[Spurt] = []
    for packet in packets:
        if not is_loud(packet):
            continue
        if found and packet.arrived_at - found[-1].ended < pause_s:
            found[-1] = Spurt(found[-1].began, packet.arrived_at)
        else:
            found.append(Spurt(packet.arrived_at, packet.arrived_at))
    return found

"""RTCP packets (RFC 3550 section 6): reports, source descriptions, BYE; read strictly."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from bridge.errors import RtpError

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
BYE = 203

CNAME = 1
NTP_EPOCH_OFFSET = 2_208_988_800  # seconds from 1900 to 1970

HEADER = struct.Struct("!BBH")
SENDER_INFO = struct.Struct("!IQIII")
REPORT_BLOCK = struct.Struct("!IIIIII")


def ntp_timestamp(unix_time: float) -> int:
    """64 bits: seconds since 1900, then the fraction (RFC 3550 section 4)."""
    return int((unix_time + NTP_EPOCH_OFFSET) * (1 << 32)) & 0xFFFF_FFFF_FFFF_FFFF


def _pack(packet_type: int, count: int, body: bytes) -> bytes:
    padded = body + bytes(-len(body) % 4)
    return HEADER.pack(0x80 | count, packet_type, len(padded) // 4) + padded


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """`packets_lost` is signed 24 bits, `jitter` in timestamp units, `last_sr` the middle 32 bits
    of the sender's NTP timestamp, `delay_since_last_sr` in 1/65536 s."""

    ssrc: int
    fraction_lost: int
    packets_lost: int
    highest_sequence: int
    jitter: int
    last_sr: int
    delay_since_last_sr: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises RtpError."""
        if len(data) != REPORT_BLOCK.size:
            raise RtpError("RTCP report block is not 24 octets")
        ssrc, loss, highest, jitter, last_sr, delay = REPORT_BLOCK.unpack(data)
        lost = loss & 0xFF_FFFF
        if lost & 0x80_0000:
            lost -= 0x100_0000
        return cls(ssrc, loss >> 24, lost, highest, jitter, last_sr, delay)

    def __bytes__(self) -> bytes:
        return REPORT_BLOCK.pack(
            self.ssrc,
            self.fraction_lost << 24 | self.packets_lost & 0xFF_FFFF,
            self.highest_sequence,
            self.jitter,
            self.last_sr,
            self.delay_since_last_sr,
        )


def _parse_blocks(body: bytes, count: int) -> tuple[ReportBlock, ...]:
    """Octets after the blocks are profile extensions: ignored."""
    size = REPORT_BLOCK.size
    if len(body) < count * size:
        raise RtpError("RTCP report is shorter than its blocks")
    return tuple(ReportBlock.parse(body[i * size : (i + 1) * size]) for i in range(count))


@dataclass(frozen=True, slots=True)
class SenderReport:
    ssrc: int
    ntp_timestamp: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[ReportBlock, ...] = ()

    @classmethod
    def parse_body(cls, count: int, body: bytes) -> Self:
        if len(body) < SENDER_INFO.size:
            raise RtpError("RTCP sender report is cut off")
        ssrc, ntp, rtp, packets, octets = SENDER_INFO.unpack_from(body)
        return cls(ssrc, ntp, rtp, packets, octets, _parse_blocks(body[SENDER_INFO.size :], count))

    def __bytes__(self) -> bytes:
        info = SENDER_INFO.pack(
            self.ssrc, self.ntp_timestamp, self.rtp_timestamp, self.packet_count, self.octet_count
        )
        return _pack(SENDER_REPORT, len(self.reports), info + b"".join(map(bytes, self.reports)))


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    ssrc: int
    reports: tuple[ReportBlock, ...] = ()

    @classmethod
    def parse_body(cls, count: int, body: bytes) -> Self:
        if len(body) < 4:
            raise RtpError("RTCP receiver report is cut off")
        return cls(int.from_bytes(body[:4], "big"), _parse_blocks(body[4:], count))

    def __bytes__(self) -> bytes:
        body = self.ssrc.to_bytes(4, "big") + b"".join(map(bytes, self.reports))
        return _pack(RECEIVER_REPORT, len(self.reports), body)


@dataclass(frozen=True, slots=True)
class SourceChunk:
    """`items` are (type, value); type 1 is the CNAME."""

    ssrc: int
    items: tuple[tuple[int, bytes], ...]

    def __bytes__(self) -> bytes:
        data = self.ssrc.to_bytes(4, "big")
        data += b"".join(bytes((kind, len(value))) + value for kind, value in self.items)
        # At least one null octet ends the list, then up to the 32-bit boundary.
        return data + bytes(4 - len(data) % 4)


@dataclass(frozen=True, slots=True)
class SourceDescription:
    chunks: tuple[SourceChunk, ...]

    @classmethod
    def of(cls, ssrc: int, cname: str) -> Self:
        return cls((SourceChunk(ssrc, ((CNAME, cname.encode()[:255]),)),))

    @classmethod
    def parse_body(cls, count: int, body: bytes) -> Self:
        chunks = []
        position = 0
        for _ in range(count):
            chunk, position = _parse_chunk(body, position)
            chunks.append(chunk)
        return cls(tuple(chunks))

    def __bytes__(self) -> bytes:
        return _pack(SOURCE_DESCRIPTION, len(self.chunks), b"".join(map(bytes, self.chunks)))


def _parse_chunk(body: bytes, start: int) -> tuple[SourceChunk, int]:
    if len(body) < start + 8:
        raise RtpError("RTCP source description is cut off")
    ssrc = int.from_bytes(body[start : start + 4], "big")
    items = []
    position = start + 4
    while position < len(body) and body[position] != 0:
        value = position + 2
        if value > len(body) or value + body[position + 1] > len(body):
            raise RtpError("RTCP source description item is cut off")
        end = value + body[position + 1]
        items.append((body[position], body[value:end]))
        position = end
    if position >= len(body):
        raise RtpError("RTCP source description has no end")
    return SourceChunk(ssrc, tuple(items)), position - position % 4 + 4


@dataclass(frozen=True, slots=True)
class Bye:
    sources: tuple[int, ...]
    reason: str = ""

    @classmethod
    def parse_body(cls, count: int, body: bytes) -> Self:
        if len(body) < 4 * count:
            raise RtpError("RTCP BYE is cut off")
        sources = struct.unpack_from(f"!{count}I", body)
        rest = body[4 * count :]
        if not rest:
            return cls(sources)
        if 1 + rest[0] > len(rest):
            raise RtpError("RTCP BYE reason is cut off")
        return cls(sources, rest[1 : 1 + rest[0]].decode(errors="replace"))

    def __bytes__(self) -> bytes:
        body = struct.pack(f"!{len(self.sources)}I", *self.sources)
        if self.reason:
            text = self.reason.encode()[:255]
            body += bytes((len(text),)) + text
        return _pack(BYE, len(self.sources), body)


@dataclass(frozen=True, slots=True)
class UnknownRtcp:
    """A type that is not read here: APP, feedback, extended reports. `body` has no header."""

    packet_type: int
    count: int
    body: bytes

    def __bytes__(self) -> bytes:
        return _pack(self.packet_type, self.count, self.body)


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Bye | UnknownRtcp


def _parse_one(packet_type: int, count: int, body: bytes) -> RtcpPacket:
    match packet_type:
        case 200:
            return SenderReport.parse_body(count, body)
        case 201:
            return ReceiverReport.parse_body(count, body)
        case 202:
            return SourceDescription.parse_body(count, body)
        case 203:
            return Bye.parse_body(count, body)
        case _:
            return UnknownRtcp(packet_type, count, body)


def parse_compound(data: bytes) -> list[RtcpPacket]:
    """One datagram. Raises RtpError unless it passes the checks of RFC 3550 appendix A.2: a report
    comes first, only the last packet is padded, and the lengths add up."""
    packets: list[RtcpPacket] = []
    position = 0
    while position < len(data):
        if len(data) < position + 4:
            raise RtpError("RTCP packet is cut off")
        first, packet_type, words = HEADER.unpack_from(data, position)
        end = position + 4 * (words + 1)
        if first >> 6 != 2 or not 192 <= packet_type <= 223 or end > len(data):
            raise RtpError("RTCP header is not valid")
        if position == 0 and packet_type not in (SENDER_REPORT, RECEIVER_REPORT):
            raise RtpError("RTCP compound does not start with a report")
        body = data[position + 4 : end]
        if first & 0x20:
            body = _without_padding(body, last=end == len(data))
        packets.append(_parse_one(packet_type, first & 0x1F, body))
        position = end
    if not packets:
        raise RtpError("RTCP datagram is empty")
    return packets


def _without_padding(body: bytes, *, last: bool) -> bytes:
    padding = body[-1] if body else 0
    if not last or padding == 0 or padding % 4 or padding > len(body):
        raise RtpError("RTCP padding is not valid")
    return body[:-padding]


def serialise_compound(packets: Iterable[RtcpPacket]) -> bytes:
    return b"".join(map(bytes, packets))

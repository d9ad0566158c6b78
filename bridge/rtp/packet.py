"""The RTP packet (RFC 3550 section 5.1): parsed and serialised, header extensions kept raw."""

import struct
from dataclasses import dataclass
from typing import Self

from bridge.errors import RtpError

HEADER_LENGTH = 12
HEADER = struct.Struct("!BBHII")
EXTENSION = struct.Struct("!HH")


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """`timestamp` counts in the payload type's clock rate; `extension` is (profile, data)."""

    payload_type: int
    marker: bool
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes
    csrcs: tuple[int, ...] = ()
    extension: tuple[int, bytes] | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Padding is dropped. Raises RtpError."""
        if len(data) < HEADER_LENGTH:
            raise RtpError("RTP packet is shorter than its header")
        first, second, sequence_number, timestamp, ssrc = HEADER.unpack_from(data)
        if first >> 6 != 2:
            raise RtpError("RTP version is not 2")
        if first == 0x80:
            return cls(
                second & 0x7F,
                second >= 0x80,
                sequence_number,
                timestamp,
                ssrc,
                data[HEADER_LENGTH:],
            )
        start = HEADER_LENGTH + 4 * (first & 0x0F)
        if len(data) < start:
            raise RtpError("RTP packet is shorter than its CSRC list")
        csrcs = struct.unpack_from(f"!{first & 0x0F}I", data, HEADER_LENGTH)
        extension = None
        if first & 0x10:
            extension, start = _parse_extension(data, start)
        end = len(data)
        if first & 0x20:
            padding = data[-1]
            if padding == 0 or start + padding > end:
                raise RtpError("RTP padding does not fit the packet")
            end -= padding
        return cls(
            second & 0x7F,
            second >= 0x80,
            sequence_number,
            timestamp,
            ssrc,
            data[start:end],
            csrcs,
            extension,
        )

    def __bytes__(self) -> bytes:
        first = 0x80 | len(self.csrcs)
        rest = struct.pack(f"!{len(self.csrcs)}I", *self.csrcs)
        if self.extension is not None:
            first |= 0x10
            profile, data = self.extension
            padded = data + bytes(-len(data) % 4)
            rest += EXTENSION.pack(profile, len(padded) // 4) + padded
        header = HEADER.pack(
            first,
            self.payload_type | (0x80 if self.marker else 0),
            self.sequence_number,
            self.timestamp,
            self.ssrc,
        )
        return header + rest + self.payload


def _parse_extension(data: bytes, start: int) -> tuple[tuple[int, bytes], int]:
    if len(data) < start + EXTENSION.size:
        raise RtpError("RTP header extension is cut off")
    profile, words = EXTENSION.unpack_from(data, start)
    start += EXTENSION.size
    end = start + 4 * words
    if len(data) < end:
        raise RtpError("RTP header extension is cut off")
    return (profile, data[start:end]), end


def is_rtcp(data: bytes) -> bool:
    """Whether the second octet is an RTCP packet type: 192 to 223 (RFC 5761 section 4)."""
    return len(data) >= 2 and 192 <= data[1] <= 223

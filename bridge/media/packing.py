"""Packets of other lengths than 20 ms, cut from the 20 ms of each tick."""

from bridge.rtp.packet import HEADER

MARKER = 0x80


class Packing:
    """Of one G.711 stream: `samples` octets a packet, numbered on from `sequence_number`."""

    def __init__(self, samples: int, sequence_number: int) -> None:
        self.samples = samples
        self.sequence_number = sequence_number
        self._waiting = b""
        self._type = 0
        self._timestamp = 0
        self._ssrc = 0

    def add(self, type_octet: int, timestamp: int, ssrc: int, octets: bytes) -> list[bytes]:
        """What is complete with these; `type_octet` is payload type and marker."""
        packets: list[bytes] = []
        marker = type_octet & MARKER
        if not self._waiting:
            self._timestamp = timestamp
        elif marker or type_octet != self._type & ~MARKER:
            packets += self.flush()
            self._timestamp = timestamp
        self._type = (self._type & MARKER if self._waiting else 0) | type_octet
        self._ssrc = ssrc
        self._waiting += octets
        while len(self._waiting) >= self.samples:
            packets.append(self._cut(self.samples))
        return packets

    def flush(self) -> list[bytes]:
        """What waits, as a shorter packet, if anything does."""
        return [self._cut(len(self._waiting))] if self._waiting else []

    def next_number(self) -> int:
        self.sequence_number = (self.sequence_number + 1) & 0xFFFF
        return self.sequence_number

    def _cut(self, size: int) -> bytes:
        payload, self._waiting = self._waiting[:size], self._waiting[size:]
        header = HEADER.pack(0x80, self._type, self.next_number(), self._timestamp, self._ssrc)
        self._timestamp = (self._timestamp + size) & 0xFFFF_FFFF
        self._type &= ~MARKER
        return header + payload

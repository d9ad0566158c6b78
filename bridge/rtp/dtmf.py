"""Key presses in telephone-event payloads (RFC 4733): each press told once, when it starts.

A press is one RTP timestamp, however many of its packets are lost, repeated or late. The marker
and the end bit are not needed: peers exist that send neither.
"""

import struct
from collections import deque
from dataclasses import dataclass
from typing import Self

from bridge.errors import RtpError
from bridge.rtp.packet import RtpPacket
from bridge.rtp.sequence import timestamp_delta

DIGITS = "0123456789*#ABCD"
PAYLOAD = struct.Struct("!BBH")
MAX_DURATION = 0xFFFF

LONG_DURATION = 0xF000
"""Only a press held this long is cut into segments (RFC 4733 section 2.5.1.3)."""

REMEMBERED = 16
"""Presses kept to recognise late packets by: more than reordering on a live path can span."""


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """The payload of one event packet. `duration` is in timestamp units, `volume` in -dBm0."""

    event: int
    end: bool
    volume: int
    duration: int

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Raises RtpError. Octets after the first event are ignored."""
        if len(payload) < PAYLOAD.size:
            raise RtpError("telephone-event payload is shorter than 4 octets")
        event, flags, duration = PAYLOAD.unpack_from(payload)
        return cls(event, flags >= 0x80, flags & 0x3F, duration)

    def __bytes__(self) -> bytes:
        return PAYLOAD.pack(self.event, (0x80 if self.end else 0) | self.volume, self.duration)


@dataclass(frozen=True, slots=True)
class DtmfEvent:
    """One press of `digit`: 0-9, *, #, A-D."""

    digit: str
    started_timestamp: int


@dataclass(slots=True)
class _Segment:
    timestamp: int
    event: int
    duration: int
    ended: bool

    def update(self, event: TelephoneEvent) -> None:
        self.duration = max(self.duration, event.duration)
        self.ended = self.ended or event.end

    def continued_by(self, timestamp: int, event: TelephoneEvent) -> bool:
        """Whether a packet under another timestamp is the same press going on."""
        delta = timestamp_delta(timestamp, self.timestamp)
        if event.event != self.event or self.ended or not 0 < delta <= MAX_DURATION:
            return False
        if delta == MAX_DURATION or self.duration >= LONG_DURATION:
            return True
        # Gateways exist that advance the timestamp in every packet of one event.
        return delta <= self.duration < event.duration


class DtmfReceiver:
    """Give it the packets of the telephone-event payload type only."""

    def __init__(self, clock_rate: int = 8000) -> None:
        self.clock_rate = clock_rate
        self._ssrc: int | None = None
        self._segments: deque[_Segment] = deque(maxlen=REMEMBERED)

    def receive(self, packet: RtpPacket) -> DtmfEvent | None:
        """The press that this packet is the first to tell of. Never raises: bad payloads and
        events that are not DTMF give None."""
        try:
            event = TelephoneEvent.parse(packet.payload)
        except RtpError:
            return None
        if event.event >= len(DIGITS):
            return None
        if packet.ssrc != self._ssrc:
            self._ssrc = packet.ssrc
            self._segments.clear()
        for segment in self._segments:
            if segment.timestamp == packet.timestamp:
                segment.update(event)
                return None
        goes_on = any(old.continued_by(packet.timestamp, event) for old in self._segments)
        self._segments.append(
            _Segment(packet.timestamp, event.event, event.duration, ended=event.end)
        )
        return None if goes_on else DtmfEvent(DIGITS[event.event], packet.timestamp)

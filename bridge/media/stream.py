"""One call's row of the media plane: what arrives is put in order, what leaves is counted."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.audio.codecs import Codec
from bridge.audio.frames import Pcm
from bridge.errors import RtpError
from bridge.media.inbound import inbound_for
from bridge.media.playout import Playout
from bridge.rtp.dtmf import DtmfReceiver
from bridge.rtp.packet import RtpPacket
from bridge.rtp.reception import Reception
from bridge.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    ntp_timestamp,
    parse_compound,
    serialise_compound,
)

COMFORT_NOISE = 13  # RFC 3389: static at 8 kHz, and sent without being negotiated


class Wire(Protocol):
    """Where packets go: a UDP socket, or SRTP over somebody else's. Never raises."""

    def send(self, data: bytes, /) -> None: ...

    def send_rtcp(self, data: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Times are on the clock of `now`; None until it happened."""

    packets_received: int
    packets_sent: int
    bad_packets: int
    """Not RTP or RTCP, or of a payload type that was not negotiated."""
    packets_lost: int
    packets_late: int
    duplicates: int
    dropped: int
    """Thrown away to bring the delay down after an outage."""
    restarts: int
    concealed: int
    """Gaps filled, mostly of one frame."""
    delay_ms: float
    jitter_ms: float
    round_trip_ms: float | None
    remote_fraction_lost: float
    first_received_at: float | None
    last_received_at: float | None


class AudioStream:
    """Audio of one call between its wire and its session.

    `on_frame` gets 24 kHz mono frames of 480 samples, 50 a second from the first packet on; a tick
    brings none while a late packet is waited for, and then more than one. What was lost is
    concealed, silence stands for what never came. `held` sends silence and hears silence; the
    playout stands still meanwhile.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        payload_type: int,
        wire: Wire,
        cname: str,
        telephone_event: int | None = None,
        telephone_event_rate: int = 8000,
        ssrc: int | None = None,
    ) -> None:
        self.codec = codec
        self.payload_type = payload_type
        self.wire = wire
        self.cname = cname
        self.telephone_event = telephone_event
        self.ssrc = secrets.randbits(32) if ssrc is None else ssrc
        self.playout = Playout()
        self.held = False
        self.closed = False
        self.on_frame: Callable[[Pcm], None] | None = None
        self.on_digit: Callable[[str], None] | None = None
        self.inbound = inbound_for(codec)
        self.packets_sent = 0
        self.octets_sent = 0
        self._jitter = self.inbound.jitter
        self._dtmf = DtmfReceiver(telephone_event_rate)
        self._reception: Reception | None = None
        self._packets_received = 0
        self._bad_packets = 0
        self._round_trip_ms: float | None = None
        self._remote_fraction_lost = 0.0
        self._first_received_at: float | None = None
        self._last_received_at: float | None = None

    def receive_rtp(self, data: bytes, now: float) -> None:
        """One datagram. A bad one is counted."""
        try:
            packet = RtpPacket.parse(data)
        except RtpError:
            self._bad_packets += 1
            return
        payload_type = packet.payload_type
        timestamp: int | None = None
        if payload_type == self.payload_type:
            timestamp = packet.timestamp
            self._jitter.push(packet)
        elif payload_type in (self.telephone_event, COMFORT_NOISE):
            self._jitter.skip(packet)
        else:
            self._bad_packets += 1
            return
        self._packets_received += 1
        if self._first_received_at is None:
            self._first_received_at = now
        self._last_received_at = now
        reception = self._reception
        # The jitter buffer decides when another SSRC is a new source and when a stray packet.
        if reception is None or reception.ssrc != packet.ssrc == self._jitter.ssrc:
            reception = self._reception = Reception(self.codec.clock_rate, ssrc=packet.ssrc)
        if packet.ssrc == reception.ssrc:
            reception.received(packet.sequence_number, timestamp, now)
        if payload_type == self.telephone_event:
            self._receive_digit(packet)

    def receive_rtcp(self, data: bytes, now: float) -> None:
        """One compound packet. A bad one is counted."""
        try:
            packets = parse_compound(data)
        except RtpError:
            self._bad_packets += 1
            return
        for packet in packets:
            if isinstance(packet, SenderReport):
                if self._reception is not None and packet.ssrc == self._reception.ssrc:
                    self._reception.sender_report(packet.ntp_timestamp, now)
                self._read_blocks(packet.reports, now)
            elif isinstance(packet, ReceiverReport):
                self._read_blocks(packet.reports, now)

    def sender_report(self, rtp_timestamp: int, now: float) -> bytes:
        """SR, what we say of the other side, and who we are (RFC 3550 section 6.1).

        The NTP time runs on the clock of `now`, which section 6.4.1 allows a host to use: only
        differences matter to the other side, and ours cannot jump.
        """
        reports = () if self._reception is None else (self._reception.report_block(now),)
        return self._compound(
            SenderReport(
                self.ssrc,
                ntp_timestamp(now),
                rtp_timestamp,
                self.packets_sent & 0xFFFF_FFFF,
                self.octets_sent & 0xFFFF_FFFF,
                reports,
            )
        )

    def close(self) -> None:
        """Say BYE, if anything was said before, and free the codec. Idempotent."""
        if self.closed:
            return
        self.closed = True
        # RFC 3550 section 6.3.7; an address that only an offer named may not be the caller's.
        if self.packets_sent:
            self.wire.send_rtcp(self._compound(ReceiverReport(self.ssrc), Bye((self.ssrc,))))
        self.inbound.close()

    @property
    def stats(self) -> StreamStats:
        jitter = self._jitter.stats
        reception = self._reception
        return StreamStats(
            packets_received=self._packets_received,
            packets_sent=self.packets_sent,
            bad_packets=self._bad_packets,
            packets_lost=jitter.lost,
            packets_late=jitter.late,
            duplicates=jitter.duplicates,
            dropped=jitter.dropped,
            restarts=jitter.restarts,
            concealed=self.inbound.concealed,
            delay_ms=self._jitter.delay_ms,
            jitter_ms=reception.stats.jitter_ms if reception is not None else 0.0,
            round_trip_ms=self._round_trip_ms,
            remote_fraction_lost=self._remote_fraction_lost,
            first_received_at=self._first_received_at,
            last_received_at=self._last_received_at,
        )

    def _receive_digit(self, packet: RtpPacket) -> None:
        event = self._dtmf.receive(packet)
        if event is not None and self.on_digit is not None:
            self.on_digit(event.digit)

    def _read_blocks(self, blocks: tuple[ReportBlock, ...], now: float) -> None:
        for block in blocks:
            if block.ssrc != self.ssrc:
                continue
            self._remote_fraction_lost = block.fraction_lost / 256
            if block.last_sr:
                # RFC 3550 section 6.4.1: all three in 1/65536 s, modulo 2^32.
                middle = ntp_timestamp(now) >> 16
                trip = (middle - block.last_sr - block.delay_since_last_sr) & 0xFFFF_FFFF
                if trip < 0x8000_0000:
                    self._round_trip_ms = trip * 1000 / 65536

    def _compound(self, report: RtcpPacket, *more: RtcpPacket) -> bytes:
        source = SourceDescription.of(self.ssrc, self.cname)
        return serialise_compound((report, source, *more))

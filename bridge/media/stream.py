"""One call's row of the media plane: what arrives is put in order, what leaves is counted."""

import secrets
from collections.abc import Callable
from dataclasses import replace

from bridge.audio.codecs import Codec
from bridge.audio.frames import FRAME_MS, Pcm
from bridge.errors import RtpError
from bridge.media.comfort import ComfortNoise
from bridge.media.dialler import Dialler
from bridge.media.feedback import Feedback
from bridge.media.flood import CALM, RateCap
from bridge.media.inbound import G711Inbound, inbound_for
from bridge.media.keys import KeyFilter, Source
from bridge.media.lumps import Lumps
from bridge.media.outbound import OpusTerms
from bridge.media.playout import Playout
from bridge.media.stats import StreamStats
from bridge.media.steady import Pace, SteadyRows
from bridge.media.taps import Tap
from bridge.media.wire import Wire
from bridge.rtp.dtmf import DtmfReceiver
from bridge.rtp.packet import HEADER, HEADER_LENGTH, RtpPacket
from bridge.rtp.reception import Reception
from bridge.rtp.rtcp import (
    Bye,
    ReceiverReport,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    ntp_timestamp,
    parse_compound,
    serialise_compound,
)

MARKER = 0x80
PLAIN = 0x80  # version 2 and nothing else: no padding, extension or CSRC
COMFORT_NOISE = 13  # RFC 3389: static at 8 kHz, and sent without being negotiated


class AudioStream:
    """Audio of one call between its wire and its session.

    `on_frame` gets 24 kHz mono frames of 480 samples, 50 a second from the first packet on; a tick
    brings none while a late packet is waited for, and then more than one; with `lumps` some come as
    one. What was lost is concealed, silence stands for what never came. `held` sends silence and
    hears silence; the playout stands still meanwhile, and while digits are sent.
    """

    # More attributes than a shared dict has room for, and all of them wanted 50 times a second.
    __slots__ = (
        "_bad_packets",
        "_cap",
        "_dtmf",
        "_first_received_at",
        "_flooded",
        "_former",
        "_jitter",
        "_packets_received",
        "_reception",
        "_steady",
        "arrived",
        "closed",
        "cname",
        "codec",
        "comfort",
        "dialler",
        "feedback",
        "heard",
        "held",
        "inbound",
        "keys",
        "last_control_at",
        "last_received_at",
        "lumps",
        "octets_sent",
        "on_arrived",
        "on_changed",
        "on_coded",
        "on_digit",
        "on_frame",
        "opus",
        "packets_sent",
        "payload_type",
        "playout",
        "ptime_ms",
        "ssrc",
        "tap",
        "telephone_event",
        "waiting",
        "wire",
    )

    on_frame: Callable[[Pcm], None] | None
    on_coded: Callable[[bytes, str], None] | None
    """What `on_frame` gets next as octets of G.711, and "PCMU" or "PCMA"; not called where the wire
    carries something else."""
    on_digit: Callable[[str], None] | None
    on_changed: Callable[["AudioStream"], None] | None
    """For the media plane: another codec or payload type."""
    on_arrived: Callable[["AudioStream"], None] | None
    lumps: Lumps | None
    """Gathers what `on_frame` gets; None: it gets each frame."""
    dialler: Dialler | None
    """While digits are sent."""
    tap: Tap | None
    """Gets both sides, as the caller says and hears them."""
    comfort: ComfortNoise | None
    """What is sent while there is nothing to say; None: silence."""
    waiting: list[bytes]
    """While steady: what came at one time and the media plane has not seen yet."""
    last_received_at: float | None
    last_control_at: float | None
    """When RTCP came."""
    _steady: tuple[SteadyRows, int, Callable[["AudioStream"], None]] | None
    _former: tuple[int, Callable[[bytes], bytes]] | None
    _reception: Reception | None
    _first_received_at: float | None

    def __init__(
        self,
        codec: Codec,
        *,
        payload_type: int,
        wire: Wire,
        cname: str,
        telephone_event: int | None = None,
        telephone_event_rate: int = 8000,
        ptime_ms: int = 20,
        ssrc: int | None = None,
    ) -> None:
        self.codec = codec
        self.payload_type = payload_type
        self.wire = wire
        self.cname = cname
        self.telephone_event = telephone_event
        self.ptime_ms = ptime_ms
        """Of the packets we send; Opus and G.722 go in 20 ms whatever is asked."""
        self.opus = OpusTerms()
        """Read when the plane takes the stream or its codec changes."""
        self.ssrc = secrets.randbits(32) if ssrc is None else ssrc
        self.playout = Playout()
        self.held = self.closed = False
        self.on_frame = self.on_coded = self.on_digit = self.lumps = None
        self.on_changed = self.on_arrived = None
        self.arrived = self.heard = False
        """Whether packets came that the media plane has not seen yet; whether frames were given
        since this stream last sent."""
        self.keys = KeyFilter()
        self.feedback = Feedback()
        self.dialler = self.tap = self.comfort = None
        self.inbound = inbound_for(codec)
        self.packets_sent = self.octets_sent = 0
        self.waiting = []
        self._jitter = self.inbound.jitter
        self._dtmf = DtmfReceiver(telephone_event_rate)
        self._former = self._reception = self._steady = None
        self._packets_received = self._bad_packets = self._flooded = 0
        self._cap = RateCap()
        self._first_received_at = self.last_received_at = self.last_control_at = None

    def receive_rtp(self, data: bytes, now: float) -> None:
        """One datagram. A bad one is counted."""
        if self._steady is not None:
            if not self.waiting:
                self.arrived = True
                self.last_received_at = now
                self._steady[2](self)
            if self.last_received_at == now:
                self.waiting.append(data)
                return
            self.unsettle()
        if not self._go_on(data, now):
            self._receive(data, now)

    def _go_on(self, data: bytes, now: float) -> bool:
        """A packet like nearly all: of the source that is heard, and nothing but audio. False: it
        is another."""
        if len(data) < HEADER_LENGTH:
            return False
        first, second, sequence_number, timestamp, ssrc = HEADER.unpack_from(data)
        reception, jitter = self._reception, self._jitter
        if (
            first != PLAIN
            or second & 0x7F != self.payload_type
            or reception is None
            or not reception.ssrc == ssrc == jitter.ssrc
        ):
            return False
        if not self._cap.admits(now):
            self._flooded += 1
            return True
        jitter.put(ssrc, sequence_number, data[HEADER_LENGTH:])
        reception.received(sequence_number, timestamp, now)
        self._arrive(now)
        return True

    def _arrive(self, now: float) -> None:
        self._packets_received += 1
        self.last_received_at = now
        if not self.arrived:
            self.arrived = True
            if self.on_arrived is not None:
                self.on_arrived(self)

    def _receive(self, data: bytes, now: float) -> None:
        try:
            packet = RtpPacket.parse(data)
        except RtpError:
            self._bad_packets += 1
            return
        if not self._take(packet, now):
            return
        if self._first_received_at is None:
            self._first_received_at = now
        self._arrive(now)
        reception = self._reception
        # The jitter buffer decides when another SSRC is a new source and when a stray packet.
        if reception is None or reception.ssrc != packet.ssrc == self._jitter.ssrc:
            reception = self._reception = Reception(self.codec.clock_rate, ssrc=packet.ssrc)
        sounds = packet.payload_type not in (self.telephone_event, COMFORT_NOISE)
        if packet.ssrc == reception.ssrc:
            timestamp = packet.timestamp if sounds else None
            reception.received(packet.sequence_number, timestamp, now)
        if packet.payload_type == self.telephone_event and packet.ssrc == self._jitter.ssrc:
            event = self._dtmf.receive(packet)
            if event is not None:
                self.press("event", event.digit, now)

    def _take(self, packet: RtpPacket, now: float) -> bool:
        """Into the jitter buffer; a packet that is not wanted is counted."""
        payload_type, jitter = packet.payload_type, self._jitter
        if payload_type == self.payload_type:
            if packet.ssrc == jitter.ssrc and not self._cap.admits(now):
                self._flooded += 1
                return False
            jitter.push(packet)
        elif payload_type in (self.telephone_event, COMFORT_NOISE):
            jitter.skip(packet)
        elif self._former is not None and payload_type == self._former[0]:
            jitter.push(replace(packet, payload=self._former[1](packet.payload)))
        else:
            self._bad_packets += 1
            return False
        return True

    def receive_rtcp(self, data: bytes, now: float) -> None:
        """One compound packet. A bad one is counted."""
        try:
            packets = parse_compound(data)
        except RtpError:
            self._bad_packets += 1
            return
        self.last_control_at = now
        heard = self._reception
        for packet in packets:
            if isinstance(packet, SenderReport) and heard and packet.ssrc == heard.ssrc:
                heard.sender_report(packet.ntp_timestamp, now)
            if isinstance(packet, SenderReport | ReceiverReport):
                self.feedback.read(packet.reports, self.ssrc, now)

    def press(self, source: Source, digit: str, now: float, *, lasted_s: float = 0.0) -> None:
        """A press told by one of the ways; `on_digit` hears of it once. `lasted_s` if it is told
        when the key was let go."""
        accepted = self.keys.accepts(source, digit, now, lasted_s=lasted_s)
        if accepted and self.on_digit is not None:
            self.on_digit(digit)

    def send_digits(self, digits: str, *, tone_ms: int = 100, pause_ms: int = 100) -> None:
        """Telephone events, or tones when none are negotiated, instead of audio; after what is
        being dialled already. A comma waits half a second. Raises ValueError."""
        dialler = self.dialler or Dialler()
        dialler.dial(digits, tone_ms=tone_ms, pause_ms=pause_ms)
        self.dialler = dialler if dialler.busy else None

    def renegotiate(
        self,
        codec: Codec,
        *,
        payload_type: int,
        telephone_event: int | None = None,
        telephone_event_rate: int = 8000,
        ptime_ms: int = 20,
    ) -> None:
        """What a new answer says, for this stream and from now on; the playout goes on.

        Between the laws of G.711 nothing is lost: packets of the former type are still read. A new
        clock rate is a new SSRC (RFC 7160 section 4). Raises ValueError for an unknown codec.
        """
        if telephone_event_rate != self._dtmf.clock_rate:
            self._dtmf = DtmfReceiver(telephone_event_rate)
        self.unsettle()
        if codec != self.codec:
            self.flush()
            self._change_codec(codec)
        self.codec = codec
        self.payload_type = payload_type
        self.telephone_event = telephone_event
        self.ptime_ms = ptime_ms
        if self.on_changed is not None:
            self.on_changed(self)

    @property
    def gathered_ms(self) -> int:
        """What was heard and waits in `lumps`."""
        return 0 if self.lumps is None else len(self.lumps) * FRAME_MS

    def flush(self) -> None:
        """Tell what waits in `lumps`, before what must come after it."""
        for held in () if self.lumps is None else self.lumps.take():
            self._tell(*held)

    # For the media plane

    def settle(self, rows: SteadyRows, row: int, on_next: Callable[["AudioStream"], None]) -> None:
        """If packets come one a frame and in order: from now on they are only kept and `on_next`
        told, to be looked at in `rows`, until there is anything else."""
        inbound, reception = self.inbound, self._reception
        order = self._jitter.steady
        if order is None or reception is None or self.held or self.closed:
            return
        heard = reception.steady(order.expected)
        if heard is None or not isinstance(inbound, G711Inbound) or not inbound.steady:
            return
        at, cap = self.last_received_at, self._cap
        if reception.ssrc != self._jitter.ssrc or cap.at != at or cap.left < CALM:
            return
        rows.enter(row, Pace(self.payload_type, reception.ssrc, order, *heard), at)
        self._steady = rows, row, on_next

    @property
    def steady(self) -> bool:
        return self._steady is not None

    def unsettle(self) -> None:
        """All is known here again, also of what waits. Idempotent."""
        if self._steady is None:
            return
        (rows, row, _), self._steady = self._steady, None
        pace, at, recent = rows.leave(row)
        assert self._reception is not None
        assert isinstance(self.inbound, G711Inbound)
        packets = self._jitter.went_on(pace.order)
        self._reception.went_on(packets, pace.transit, pace.jitter)
        self.inbound.went_on(recent)
        self._packets_received += packets
        self._cap.went_on(packets, at)
        waiting, now = self.waiting, self.last_received_at or 0.0
        self.waiting, self.last_received_at = [], at
        self.arrived = self.arrived and not waiting
        for packet in waiting:
            self.receive_rtp(packet, now)

    def deliver(self, frame: Pcm, coded: bytes | None = None, *, loud: bool | None = None) -> None:
        """20 ms of the caller. It is kept: the plane leaves it alone from now on."""
        if self.closed:
            return
        if self.tap is not None:
            self.tap.say(frame)
        if self.lumps is None:
            self._tell(frame, coded)
            return
        for told in self.lumps.push(frame, coded, loud=loud):
            self._tell(*told)

    def _tell(self, frame: Pcm, coded: bytes | None) -> None:
        if coded is not None and self.on_coded is not None:
            self.on_coded(coded, self.codec.name)
        if self.on_frame is not None:
            self.on_frame(frame)

    def next_frame(self) -> Pcm | None:
        """The next 20 ms to be said; None for silence."""
        if self.dialler is not None or self.held or self.closed:
            frame = self._dialled()
        else:
            frame = self.playout.read()
            if frame is None and self.comfort is not None:
                frame = self.comfort.frame()
        if self.tap is not None:
            self.tap.hear(frame)
        return frame

    def _dialled(self) -> Pcm | None:
        if self.dialler is None or self.held or self.closed or self.telephone_event is not None:
            return None
        frame = self.dialler.tone()
        self._end_dialling()
        return frame

    def send(self, packet: bytes) -> None:
        """One RTP packet without header extensions."""
        self.packets_sent += 1
        self.octets_sent += len(packet) - HEADER.size
        self.wire.send(packet)

    @property
    def sends_event(self) -> bool:
        """Whether a telephone event is due in this tick, or the pause after one."""
        return self.dialler is not None and self.telephone_event is not None and not self.held

    def event_packet(self, sequence_number: int, timestamp: int) -> bytes | None:
        """What goes out instead of the audio packet of these numbers; None: nothing."""
        if self.dialler is None or self.telephone_event is None or self.held:
            return None
        event = self.dialler.event(timestamp, self._dtmf.clock_rate)
        self._end_dialling()
        if event is None:
            return None
        flags = self.telephone_event | (MARKER if event.marker else 0)
        header = HEADER.pack(0x80, flags, sequence_number, event.timestamp, self.ssrc)
        return header + event.payload

    def sender_report(self, rtp_timestamp: int, now: float) -> bytes:
        """SR, what we say of the other side, and who we are (RFC 3550 section 6.1).

        The NTP time runs on the clock of `now`, which section 6.4.1 allows a host to use: only
        differences matter to the other side, and ours cannot jump.
        """
        self.unsettle()
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
        self.unsettle()
        self.closed = True
        # RFC 3550 section 6.3.7; an address that only an offer named may not be the caller's.
        if self.packets_sent:
            self.wire.send_rtcp(self._compound(ReceiverReport(self.ssrc), Bye((self.ssrc,))))
        self.inbound.close()
        self.on_frame = self.on_coded = self.on_digit = self.lumps = None

    @property
    def pauses(self) -> bool:
        """The far end's last packet brought no sound: it announced silence, or a key."""
        return self._jitter.pauses

    @property
    def stats(self) -> StreamStats:
        self.unsettle()
        jitter = self._jitter.stats
        reception, told = self._reception, self.feedback.told
        return StreamStats(
            packets_received=self._packets_received,
            packets_sent=self.packets_sent,
            bad_packets=self._bad_packets,
            packets_lost=jitter.lost,
            packets_late=jitter.late,
            duplicates=jitter.duplicates,
            dropped=jitter.dropped,
            flooded=self._flooded,
            restarts=jitter.restarts,
            concealed=self.inbound.concealed,
            delay_ms=self._jitter.delay_ms,
            jitter_ms=reception.stats.jitter_ms if reception is not None else 0.0,
            round_trip_ms=self.feedback.round_trip_ms,
            remote_fraction_lost=self.feedback.fraction_lost,
            remote_packets_lost=None if told is None else told.packets_lost,
            remote_jitter_ms=None if told is None else told.jitter * 1000 / self.codec.clock_rate,
            first_received_at=self._first_received_at,
            last_received_at=self.last_received_at,
        )

    def _end_dialling(self) -> None:
        if self.dialler is not None and not self.dialler.busy:
            self.dialler = None

    def _change_codec(self, codec: Codec) -> None:
        inbound = inbound_for(codec)
        old = self.inbound
        if isinstance(old, G711Inbound) and isinstance(inbound, G711Inbound):
            self._former = self.payload_type, old.change(codec)
            return
        self._former = None
        inbound.jitter.stats = old.jitter.stats
        inbound.concealed = old.concealed
        # Not closed here: the tick that is running may be reading it.
        self.inbound = inbound
        self._jitter = inbound.jitter
        # Another row of the media plane counts on from elsewhere.
        self.ssrc = secrets.randbits(32)
        if codec.clock_rate != self.codec.clock_rate:
            self._reception = None

    def _compound(self, report: RtcpPacket, *more: RtcpPacket) -> bytes:
        source = SourceDescription.of(self.ssrc, self.cname)
        return serialise_compound((report, source, *more))

"""Every call of the process: heard in the slot in which its packets came, told in its own phase.

A slot is 5 ms, and each call sends in one of the four phases of 20 ms. All G.711 calls of a slot
share one decode and one resampler product, those of a phase one encode and one array of packets; a
call's own work is to hand a frame over. Opus and G.722 have a state per call and go singly. A phase
takes what is worth sharing before the next one gets any.
Calls may come and go inside callbacks: such changes take effect when the slot is over.
"""

import secrets
from collections.abc import Callable, Iterable

import numpy as np

from bridge.audio.frames import FRAMES_PER_SECOND, MODEL_FRAME
from bridge.load import LOAD, Load
from bridge.media.comfort import ComfortNoise
from bridge.media.hearing import MANY, G711Hearing
from bridge.media.inbound import G711Inbound, Inbound, SingleInbound
from bridge.media.lane import MARKER, G711Lane
from bridge.media.outbound import Outbound, outbound_for
from bridge.media.schedule import INTERVAL, PHASES, Schedule
from bridge.media.stream import AudioStream
from bridge.rtp.packet import HEADER

PHASE_ROOM = 24
"""G.711 calls in one phase before another gets any: by then one more is hardly cheaper there."""
SINGLE_ROOM = 8
"""Of codecs that go singly: they share nothing but the slot, a millisecond of it."""
FILLED = (0, 2, 1, 3)
"""The order of the phases: while the last two are empty, all are heard at even distances."""
REPORTED_FRAMES = INTERVAL // PHASES


class _SingleRow:
    """One call's codec and packet header, for codecs that cannot be batched."""

    def __init__(self, stream: AudioStream, inbound: SingleInbound) -> None:
        self.stream = stream
        self._inbound = inbound
        self.timestamp = secrets.randbits(32)
        self._sequence_number = secrets.randbits(15)
        self._outbound: Outbound = outbound_for(stream.codec, stream.opus)
        self._quiet = np.zeros(MODEL_FRAME, np.int16)
        self._speaking = False
        self._lost = 0  # of what came, up to the last report
        self._loss = 0.0  # since then, or before if that was more

    def receive(self, now: float) -> None:
        stream = self.stream
        if stream.closed:
            return
        for frame in self._inbound.pull(now):
            stream.heard = True
            stream.deliver(self._quiet if stream.held else frame)

    def packet(self, missed: int) -> bytes | None:
        """What a lane of G.711 would send."""
        stream = self.stream
        if stream.closed:
            return None
        frame = stream.next_frame()
        marker = MARKER if missed else 0
        if frame is not None:
            marker |= 0 if self._speaking else MARKER
            payload = self._outbound.encode(frame)
        else:
            payload = self._outbound.rest()
        self._speaking = frame is not None
        self._sequence_number = (self._sequence_number + 1) & 0xFFFF
        if not self._sequence_number % FRAMES_PER_SECOND:
            lost = max(stream.feedback.fraction_lost, self._lately_lost())
            self._outbound.expect_loss(lost, told=stream.feedback.told is not None)
        self.timestamp += self._outbound.step * (1 + missed)
        self.timestamp &= 0xFFFF_FFFF
        event = stream.event_packet(self._sequence_number, self.timestamp)
        if event is not None:
            return event
        header = HEADER.pack(
            0x80,
            stream.payload_type | marker,
            self._sequence_number,
            self.timestamp,
            stream.ssrc,
        )
        return header + payload

    def reads(self, inbound: Inbound) -> bool:
        return inbound is self._inbound

    def reported(self) -> None:
        """The time between two reports is over."""
        self._loss = self._fraction_lost()
        self._lost = self._inbound.jitter.stats.lost

    def _lately_lost(self) -> float:
        """On the way to us: a bad network is seldom bad in one direction, and the far end may not
        say so for five seconds."""
        return max(self._loss, self._fraction_lost())

    def _fraction_lost(self) -> float:
        return (self._inbound.jitter.stats.lost - self._lost) / REPORTED_FRAMES

    def close(self) -> None:
        self._outbound.close()


class _Phase:
    """The calls that send in one slot of four."""

    def __init__(self) -> None:
        self.streams: dict[AudioStream, None] = {}  # a set that keeps its order
        self.lane = G711Lane()
        self.single: dict[AudioStream, _SingleRow] = {}
        self._last: int | None = None

    def missed(self, number: int) -> int:
        """How many times this phase was left out before slot `number`."""
        last, self._last = self._last, number
        return 0 if last is None else max(0, (number - last) // PHASES - 1)

    def add(self, stream: AudioStream) -> None:
        if not self.streams:
            self._last = None
        self.streams[stream] = None


class MediaPlane:
    """Every stream of the process. `slot` is called 200 times a second, or `tick` 50 times."""

    def __init__(
        self, *, comfort: ComfortNoise | None = None, many: int = MANY, load: Load = LOAD
    ) -> None:
        """`comfort`: what calls hear while the model has nothing to say. `many`: calls from which
        on those whose packets come in order are looked at together."""
        self._comfort = comfort
        self.on_busy: Callable[[], None] | None = None
        """Called when the first stream has come."""
        self.on_heard: Callable[[], None] | None = None
        """Called when a packet has come to a stream from which none waited."""
        self._phases = [_Phase() for _ in range(PHASES)]
        self._phase_of: dict[AudioStream, _Phase] = {}
        self._hearing = G711Hearing(many, load)
        self._arrived: list[AudioStream] = []
        self._reports = Schedule[AudioStream]()
        self._number = 0
        self._ticking = False
        self._arriving: list[AudioStream] = []
        self._leaving: list[AudioStream] = []
        self._changing: list[AudioStream] = []

    def add(self, stream: AudioStream) -> None:
        """From the next slot on."""
        if self._ticking:
            self._arriving.append(stream)
        else:
            self._enter(stream)

    def remove(self, stream: AudioStream) -> None:
        """Nothing is sent or heard any more; an RTCP BYE says so. Idempotent."""
        stream.close()
        if self._ticking:
            self._leaving.append(stream)
        else:
            self._leave(stream)

    def __len__(self) -> int:
        return len(self._phase_of)

    @property
    def streams(self) -> Iterable[AudioStream]:
        return list(self._phase_of)

    def tick(self, now: float) -> None:
        """All four phases: an echo leaves in the tick it came in."""
        self._run(range(self._number + 1, self._number + 1 + PHASES), now)

    def slot(self, number: int, now: float) -> None:
        """Hear whose packets have come, then say 20 ms of each call of this phase. Numbers left out
        are time in which nothing was sent."""
        self._run((number,), now)

    def hear(self, now: float) -> None:
        """What has come since the last slot, before the next one."""
        self._ticking = True
        try:
            self._hear(now, ())
        finally:
            self._ticking = False
        self._settle()

    def next_sending(self, number: int) -> int:
        """The first slot from `number` on in which somebody sends; `number` if nobody ever does."""
        for later in range(number, number + PHASES):
            if self._phases[later % PHASES].streams:
                return later
        return number

    def complete(self, number: int) -> bool:
        """Whether all who send in slot `number` have said something since they last did, or are
        held, and not heard anyway."""
        streams = self._phases[number % PHASES].streams
        return all(stream.heard or stream.arrived or stream.held for stream in streams)

    def _run(self, numbers: Iterable[int], now: float) -> None:
        self._ticking = True
        try:
            for number in numbers:
                self._number = number
                phase = self._phases[number % PHASES]
                self._receive(phase, now)
                missed = phase.missed(number)
                phase.lane.transmit(missed)
                # One after the other: what has just run runs in a third of the time.
                packets = [(row.stream, row.packet(missed)) for row in phase.single.values()]
                for stream, packet in packets:
                    if packet is not None and not stream.closed:
                        stream.send(packet)
                self._report(number, now)
        finally:
            self._ticking = False
        self._settle()

    def _receive(self, phase: _Phase, now: float) -> None:
        # A call of which nothing came is asked once in 20 ms what stands in for it.
        silent = [each for each in phase.streams if not each.heard and not each.arrived]
        if silent or self._arrived or self._hearing.waits:
            self._hear(now, silent)
        for stream in phase.streams:
            stream.heard = False

    def _hear(self, now: float, silent: Iterable[AudioStream]) -> None:
        # First: who is not steady any more has arrived.
        steady = self._hearing.go_on(now)
        due, self._arrived = self._arrived, []
        due += silent
        batched: list[AudioStream] = []
        for stream in due:
            stream.arrived = False
            of = self._phase_of.get(stream)
            if of is None or stream.closed:
                continue
            row = of.single.get(stream)
            if row is None:
                batched.append(stream)
            else:
                row.receive(now)
        if batched or steady:
            self._hearing.receive(batched, now)

    def _report(self, number: int, now: float) -> None:
        for stream in self._reports.due(number):
            if not stream.closed:
                phase = self._phase_of[stream]
                row = phase.single.get(stream)
                if row is not None:
                    row.reported()
                timestamp = row.timestamp if row is not None else phase.lane.timestamp(stream)
                stream.wire.send_rtcp(stream.sender_report(timestamp, now))

    def _settle(self) -> None:
        if not (self._arriving or self._leaving or self._changing):
            return
        arriving, self._arriving = self._arriving, []
        leaving, self._leaving = self._leaving, []
        changing, self._changing = self._changing, []
        for stream in changing:
            self._change(stream)
        for stream in arriving:
            if not stream.closed:
                self._enter(stream)
        for stream in leaving:
            self._leave(stream)

    def _changed(self, stream: AudioStream) -> None:
        if self._ticking:
            self._changing.append(stream)
        else:
            self._change(stream)

    def _change(self, stream: AudioStream) -> None:
        phase = self._phase_of.get(stream)
        if stream.closed or phase is None:
            return
        row, inbound = phase.single.get(stream), stream.inbound
        if row is not None and row.reads(inbound):
            return  # Such a row asks its stream for the payload type.
        if row is None and isinstance(inbound, G711Inbound):
            self._hearing.change(stream)
            phase.lane.change(stream)
            return
        self._displace(stream, phase)
        self._place(stream, phase)

    def _enter(self, stream: AudioStream) -> None:
        stream.comfort = self._comfort
        stream.on_changed = self._changed
        stream.on_arrived = self._arrived_at
        place, phase = self._roomiest(stream)
        phase.add(stream)
        self._phase_of[stream] = phase
        self._place(stream, phase)
        self._reports.add(stream, place)
        if stream.arrived:
            self._arrived.append(stream)
        if len(self._phase_of) == 1 and self.on_busy is not None:
            self.on_busy()

    def _roomiest(self, stream: AudioStream) -> tuple[int, _Phase]:
        room = PHASE_ROOM if isinstance(stream.inbound, G711Inbound) else SINGLE_ROOM
        phases = [(place, self._phases[place]) for place in FILLED]
        begun = (each for each in phases if 0 < len(each[1].streams) < room)
        return next(begun, None) or min(phases, key=lambda each: len(each[1].streams))

    def _arrived_at(self, stream: AudioStream) -> None:
        self._arrived.append(stream)
        if self.on_heard is not None:
            self.on_heard()

    def _place(self, stream: AudioStream, phase: _Phase) -> None:
        inbound = stream.inbound
        if isinstance(inbound, G711Inbound):
            self._hearing.add(stream)
            phase.lane.add(stream)
        else:
            phase.single[stream] = _SingleRow(stream, inbound)

    def _displace(self, stream: AudioStream, phase: _Phase) -> None:
        row = phase.single.pop(stream, None)
        if row is not None:
            row.close()
        else:
            self._hearing.remove(stream)
            phase.lane.remove(stream)

    def _leave(self, stream: AudioStream) -> None:
        phase = self._phase_of.pop(stream, None)
        if phase is None:
            return
        stream.on_changed = stream.on_arrived = None
        del phase.streams[stream]
        self._displace(stream, phase)
        self._reports.remove(stream)

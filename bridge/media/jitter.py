"""Order and pace of one received stream: what is forwarded, waited for, given up, thrown away.

The far end of this direction is a model, not an ear, so nothing waits in order to be smooth: each
20 ms of the clock entitles to 20 ms of audio, what is there goes out at once, what is missing may
be up to HOLD_MS late, and only then is it replaced. What comes a little before its time, since the
first packet was late, does not wait either: the clock is put on, by a frame at most. A late packet
that was replaced by silence for want of anything else is still heard; the delay this leaves behind
is a queue that outlasts its tick, and so is what a sender with a fast clock brings. A queue longer
than the network lately proved to need is shortened: `surplus` gives a packet to be merged with the
one before it, when it is quiet or when there is no waiting for that.

Order comes from sequence numbers alone. Timestamps jump at a sender's whim, stand still in
telephone events and run on in silence suppression; the clock already knows how long a gap was.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from bridge.audio.frames import FRAME_MS, FRAMES_PER_SECOND
from bridge.rtp.packet import RtpPacket

HOLD_MS = 40  # two packets: what reordering on a live path spans, and the ear does not notice
HOLD_FRAMES = HOLD_MS // FRAME_MS
EARLY = 0.3  # of a frame: who would have to wait for less is early, and the clock is put on
MAX_EARLY = 1.0  # frames in all: the clock stays true
PATIENCE = 3  # frames replaced in a row after which a pause is a pause and holds nothing up
JITTER_FRAMES = 5  # a longer gap was an outage or silence suppression, not jitter
TARGET_FRAMES = 3  # most delay kept against jitter beyond HOLD_MS
CALM_FRAMES = 250  # without a gap before the target shrinks by one
STALL_MS = 200  # more delay than this is the wreck of an outage: a packet is merged every frame
STALL_OVER_MS = 40  # until this is left
MAX_STALL_MS = 2000  # what came before is dropped: catching up would take longer than it is worth
SETTLE_FRAMES = 10  # of excess before a quiet packet is merged, and between two packets
FORCE_FRAMES = 50  # of excess before a packet is merged however loud
MAX_OWED_S = 2  # of our own standstill made good afterwards
MAX_DROPOUT = 3000  # RFC 3550 appendix A.1
MAX_MISORDER = 100
CAPACITY = 512  # packets: what one tick can bring in from a flood


@dataclass(frozen=True, slots=True)
class Lost:
    """Audio to make up: `duration` in clock units. `muted`: the sender had stopped sending any."""

    duration: int
    muted: bool = False


@dataclass(slots=True)
class JitterStats:
    """Packets, but for `starved`: frames for which nothing at all had come."""

    lost: int = 0
    late: int = 0
    duplicates: int = 0
    dropped: int = 0
    """Thrown away to shorten the delay, or because of a flood."""
    merged: int = 0
    """Given as surplus."""
    restarts: int = 0
    """The sender began anew: another SSRC, or a jump of its sequence numbers."""
    starved: int = 0


class Order(NamedTuple):
    """Of a stream from which nothing waits."""

    expected: int
    """The next sequence number."""
    tick: int
    """Frames since `epoch`."""
    epoch: float
    heard: int
    """The tick in which a packet came."""
    resumed: int
    """The tick after a standstill of ours."""
    owed: int
    """Clock units that are due and have not come."""
    calm: int
    """Frames without a gap, also beyond those after which the target shrinks."""


class JitterBuffer:
    """One stream of payloads of any duration. `duration` gives a payload's clock units, 0 for junk;
    `quiet` tells whether it will hardly be missed."""

    def __init__(
        self,
        clock_rate: int,
        *,
        duration: Callable[[bytes], int] = len,
        quiet: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self.ssrc: int | None = None
        self.stats = JitterStats()
        self._duration = duration
        self.quiet = quiet
        self._rate = clock_rate
        self._frame = clock_rate // FRAMES_PER_SECOND
        self._hold = clock_rate * HOLD_MS // 1000
        self._stall = clock_rate * STALL_MS // 1000
        self._stall_over = clock_rate * STALL_OVER_MS // 1000
        self._max_stall = clock_rate * MAX_STALL_MS // 1000
        self._packet = self._frame  # duration of the last packet that came
        self._queue: dict[int, tuple[bytes, int]] = {}
        self._queued = 0
        self._expected = 0
        self._fresh = True  # nothing popped since the (re)start: the order may still be mended
        self._conceded: set[int] = set()
        self._candidate: tuple[int, int, tuple[bytes, int]] | None = None
        self._epoch: float | None = None
        self._tick = self._heard = self._resumed = -1
        self._put_on = 0.0  # frames
        self._came = False  # since `advance`, the next packet, when nothing waited
        self._owed = 0
        self._starved = 0
        self._muted = False
        self._target = 0
        self._calm = 0
        self._over = 0
        self._rushing = False
        self.hurried = False
        """A `surplus` is due with the next packet."""

    def push(self, packet: RtpPacket) -> None:
        """A packet of the negotiated audio."""
        self.put(packet.ssrc, packet.sequence_number, packet.payload)

    def put(self, ssrc: int, sequence_number: int, payload: bytes) -> None:
        """As `push`, of a packet that was taken apart already."""
        entry = payload, self._duration(payload)
        if sequence_number != self._expected or ssrc != self.ssrc or self._queue:
            self._insert(ssrc, sequence_number, entry)
            return
        self._candidate = None
        self._heard = self._tick
        self._came = True
        self._queue[sequence_number] = entry
        self._queued += entry[1]

    def skip(self, packet: RtpPacket) -> None:
        """A packet that takes a sequence number and brings no audio: a telephone event, comfort
        noise (RFC 3389), a payload type of somebody else."""
        self._insert(packet.ssrc, packet.sequence_number, (b"", 0))

    def advance(self, now: float) -> None:
        """What is due by `now` can be popped. Nothing is due before the first packet."""
        if self.ssrc is None:
            return
        if self._epoch is None:
            self._epoch = now
        frames = (now - self._epoch) * FRAMES_PER_SECOND
        tick = int(frames + 0.5)
        came, self._came = self._came, False
        if came and tick == self._tick and self._is_early(frames):
            tick += 1
        steps = tick - self._tick
        if steps <= 0:
            return
        self._tick = tick
        # Of ours, and once: a clock that keeps standing still must give up a gap in the end.
        if self._owed <= self._hold < steps * self._frame:
            self._resumed = tick
        self._owed = min(self._owed + steps * self._frame, MAX_OWED_S * self._rate)
        if self._queued > self._owed + self._target:
            self._shorten()
        else:
            self._over = 0
            self._rushing = False
        self._calm += 1
        if self._calm >= CALM_FRAMES:
            self._calm = 0
            self._target = max(0, self._target - self._frame)

    def pop(self) -> bytes | Lost | None:
        """What is due since the last `advance`; call until it gives None."""
        while self._owed > 0:
            entry = self._queue.pop(self._expected, None)
            if entry is None:
                lost = self._missing()
                if lost is None or lost.duration > 0:
                    return lost
                continue
            self._expected = (self._expected + 1) & 0xFFFF
            self._fresh = False
            payload, duration = entry
            if not duration:
                self._muted = True
                continue
            self._queued -= duration
            self._owed -= duration
            self._packet = duration
            if self._starved:
                self._end_gap()
            self._muted = False
            return payload
        return None

    def surplus(self) -> bytes | None:
        """The packet after the one just popped, to be merged with it, if there is any."""
        self.hurried = False
        entry = self._queue.get(self._expected)
        if entry is None or not entry[1]:
            return None
        payload, _ = self._leave()
        self.stats.merged += 1
        return payload

    @property
    def steady(self) -> Order | None:
        """None if anything waits or is given up, or the last packet was not of one frame."""
        if self._epoch is None or self._packet != self._frame or not 0 <= self._owed <= self._hold:
            return None
        if self._queue or self._starved or self._fresh or self._muted or self._candidate:
            return None
        if self.hurried or self._rushing or self._over:
            return None
        return Order(
            expected=self._expected,
            tick=self._tick,
            epoch=self._epoch,
            heard=self._heard,
            resumed=self._resumed,
            owed=self._owed,
            calm=self._calm,
        )

    def went_on(self, order: Order) -> int:
        """Packets of one frame were put and popped since it was `steady`, and this has come of it;
        how many."""
        packets = (order.expected - self._expected) & 0xFFFF
        self._expected = order.expected
        self._tick, self._heard, self._resumed = order.tick, order.heard, order.resumed
        self._owed = order.owed
        shrunk, self._calm = divmod(order.calm, CALM_FRAMES)
        self._target = max(0, self._target - shrunk * self._frame)
        return packets

    @property
    def pauses(self) -> bool:
        """What was popped last brought no audio."""
        return self._muted

    @property
    def following(self) -> bytes | None:
        """After a Lost: the packet behind the gap, if it is here."""
        entry = self._queue.get(self._expected)
        return entry[0] if entry is not None and entry[1] else None

    def recode(self, recode: Callable[[bytes], bytes]) -> None:
        """Change the payloads that wait; none may change its duration."""
        for sequence, (payload, duration) in self._queue.items():
            if duration:
                self._queue[sequence] = (recode(payload), duration)
        if self._candidate is not None:
            ssrc, sequence, (payload, duration) = self._candidate
            self._candidate = (ssrc, sequence, (recode(payload) if duration else b"", duration))

    @property
    def delay_ms(self) -> float:
        """Audio waiting beyond what the clock entitles to."""
        return max(0, self._queued - max(0, self._owed)) * 1000 / self._rate

    # Arrival

    def _insert(self, ssrc: int, sequence: int, entry: tuple[bytes, int]) -> None:
        if ssrc != self.ssrc and not self._restarts_at(ssrc, sequence, entry):
            return
        ahead = (sequence - self._expected) & 0xFFFF
        if ahead >= MAX_DROPOUT:
            if ahead >= 0x10000 - MAX_MISORDER:
                if not self._fresh:
                    self._count_late(sequence)
                    return
                self._expected = sequence
            elif not self._restarts_at(ssrc, sequence, entry):
                return
        else:
            # Who comes between the packets of a source that goes on is not its successor.
            self._candidate = None
            self._heard = self._tick
        if sequence in self._queue:
            self.stats.duplicates += 1
        elif len(self._queue) >= CAPACITY:
            self.stats.dropped += 1
        else:
            self._queue[sequence] = entry
            self._queued += entry[1]

    def _restarts_at(self, ssrc: int, sequence: int, entry: tuple[bytes, int]) -> bool:
        """Two packets in a row make a new source, as in RFC 3550 appendix A.1: one is a stray. Not
        while the source goes on, for however fast another may send."""
        first = self._candidate
        if self.ssrc is None:
            self._restart(ssrc, sequence)
        elif first is not None and first[:2] == (ssrc, sequence) and not self._goes_on:
            self.stats.restarts += 1
            self._restart(ssrc, (sequence - 1) & 0xFFFF)
            self._queue[self._expected] = first[2]
            self._queued = first[2][1]
        else:
            self._candidate = (ssrc, (sequence + 1) & 0xFFFF, entry)
            return False
        return True

    @property
    def _goes_on(self) -> bool:
        """Whether the source is heard: its next packet is not overdue yet."""
        return 0 <= self._tick < self._heard + 1 + max(1, self._packet // self._frame)

    def _restart(self, ssrc: int, expected: int) -> None:
        self.ssrc = ssrc
        self._expected = expected
        self._queue.clear()
        self._queued = 0
        self._conceded.clear()
        self._candidate = None
        self._fresh = True

    def _count_late(self, sequence: int) -> None:
        if sequence in self._conceded:
            self._conceded.discard(sequence)
            self.stats.late += 1
        else:
            self.stats.duplicates += 1

    # The clock

    def _is_early(self, frames: float) -> bool:
        """Whether the packet that has come at `frames`, and is all there is, need not wait: the
        clock is put on, so far that it and its like are in time."""
        due = self._tick + 0.5
        if due - frames > EARLY or self._owed or self._starved or len(self._queue) > 1:
            return False
        lead = due + EARLY - frames
        if self._put_on + lead > MAX_EARLY or self._epoch is None:
            return False
        self._put_on += lead
        self._epoch -= lead / FRAMES_PER_SECOND
        return True

    def _shorten(self) -> None:
        wanted = self._owed + self._target
        while self._queued > wanted + self._max_stall:
            self._drop_oldest()
        excess = self._queued - wanted
        self._rushing = excess > (self._stall_over if self._rushing else self._stall)
        if self._rushing:
            self._drop_silence(wanted)
            self.hurried = True
            return
        self._over += 1
        if self._over < SETTLE_FRAMES:
            return
        if self._over >= FORCE_FRAMES or self._head_is_quiet():
            self.hurried = True
            self._over = min(self._over, FORCE_FRAMES) - SETTLE_FRAMES

    def _drop_silence(self, wanted: int) -> None:
        """From the head of the queue on; what is left of it after the first loud packet may be
        silence again, and has its turn then."""
        while self._queued > wanted + self._stall_over and self._head_is_quiet():
            self._drop_oldest()

    def _head_is_quiet(self) -> bool:
        head = self._queue.get(self._expected)
        return head is not None and head[1] > 0 and self.quiet(head[0])

    def _drop_oldest(self) -> None:
        if self._expected not in self._queue:
            self._concede()
        self._leave()
        self.stats.dropped += 1

    def _leave(self) -> tuple[bytes, int]:
        """The packet at the head, out of the queue."""
        entry = self._queue.pop(self._expected)
        self._expected = (self._expected + 1) & 0xFFFF
        self._queued -= entry[1]
        self._fresh = False
        return entry

    # Gaps

    def _missing(self) -> Lost | None:
        """None: wait. A duration of zero: the gap is behind us, go on."""
        hold = self._hold if self._starved < PATIENCE else 0
        # What came while we stood still may be as late in getting here as we are.
        if self._owed <= hold or self._tick < self._resumed + HOLD_FRAMES:
            return None
        if self._queue:
            gap = self._concede()
            # Frames already made up while there was nothing are part of the same gap.
            missing = gap * self._packet - self._starved * self._frame
            duration = max(0, min(missing, self._owed - self._queued))
            self._starved = 0
        else:
            duration = self._frame
            self._starved += 1
            self.stats.starved += 1
        self._owed -= duration
        return Lost(duration, self._muted)

    def _concede(self) -> int:
        """Go on at the oldest packet there is; how many were missing before it."""
        expected = self._expected
        gap = min((sequence - expected) & 0xFFFF for sequence in self._queue)
        self.stats.lost += gap
        if len(self._conceded) > MAX_DROPOUT:
            self._conceded.clear()
        # Those further back count as duplicates of something; nobody will know.
        for step in range(max(0, gap - MAX_MISORDER), gap):
            self._conceded.add((expected + step) & 0xFFFF)
        self._expected = (expected + gap) & 0xFFFF
        self._fresh = False
        return gap

    def _end_gap(self) -> None:
        """The packet that was replaced has come after all."""
        if self._starved <= JITTER_FRAMES and not self._muted:
            self._target = min(self._target + self._frame, TARGET_FRAMES * self._frame)
            self._calm = 0
        self._starved = 0

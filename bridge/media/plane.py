"""The batched tick: 20 ms of every call at once, both ways.

All G.711 calls share one decode, one resampler product, one encode and one array of packets; a
call's own work is to hand a frame over. Opus and G.722 have a state per call and go singly.
Calls may come and go inside callbacks: such changes take effect when the tick is over.
"""

import secrets
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from bridge.audio.codecs import PCMA
from bridge.audio.frames import FRAMES_PER_SECOND, MODEL_FRAME, MODEL_RATE, Pcm, samples_per_frame
from bridge.audio.g711 import (
    ALAW_SILENCE,
    ULAW_SILENCE,
    Octets,
    alaw_decode,
    alaw_encode,
    ulaw_decode,
    ulaw_encode,
)
from bridge.audio.goertzel import ToneDetector
from bridge.audio.resample import ResamplerBank
from bridge.media.inbound import G711Inbound, Inbound, SingleInbound
from bridge.media.outbound import Outbound, outbound_for
from bridge.media.packing import Packing
from bridge.media.stream import AudioStream
from bridge.rtp.packet import HEADER

REPORT_INTERVAL = 5 * FRAMES_PER_SECOND  # ticks; RFC 3550 section 6.2's minimum
FIRST_REPORT = REPORT_INTERVAL // 2  # the same section: half of it before the first
MARKER = 0x80
G711_RATE = 8000
G711_FRAME = samples_per_frame(G711_RATE)
# Silent frames still resampled and encoded after speech: the first carries the filter's tail out,
# from the second on the row is what a silent row is.
TAIL = 2
CHUNK = 64  # rows added at a time

_PACKET = np.dtype(
    [
        ("flags", "u1"),
        ("payload_type", "u1"),
        ("sequence_number", ">u2"),
        ("timestamp", ">u4"),
        ("ssrc", ">u4"),
        ("payload", "u1", G711_FRAME),
    ]
)


class _G711Rows:
    """A row each of packets, resampler state and law; freed rows are used again."""

    def __init__(self) -> None:
        self.streams: dict[int, AudioStream] = {}  # by row
        self._inbound: dict[int, G711Inbound] = {}
        self._free: list[int] = []
        self._packets = np.zeros(0, _PACKET)
        self._alaw = np.zeros(0, np.bool_)
        self._tail: list[int] = []
        self._packings: dict[int, Packing] = {}  # rows whose packets are not of 20 ms
        self._listening: set[int] = set()  # rows whose keys come as tones, if at all
        self._tones = ToneDetector(G711_RATE)
        self._up = ResamplerBank(G711_RATE, MODEL_RATE, CHUNK)
        self._down = ResamplerBank(MODEL_RATE, G711_RATE, CHUNK)
        self._spoken = np.zeros((0, MODEL_FRAME), np.int16)

    def add(self, stream: AudioStream, inbound: G711Inbound) -> None:
        if not self._free:
            self._grow()
        row = self._free.pop()
        self.streams[row] = stream
        self._inbound[row] = inbound
        self._tail[row] = 0
        self._up.reset(row)
        self._down.reset(row)
        packet = self._packets[row]
        packet["flags"] = 0x80
        packet["sequence_number"] = secrets.randbits(15)  # RFC 3711 section 3.3.1: not near a wrap
        packet["timestamp"] = secrets.randbits(32)
        packet["ssrc"] = stream.ssrc
        self._take_codec(row, stream)

    def change(self, stream: AudioStream) -> None:
        """Another payload type, or the other law; its packets go on counting."""
        row = self._row(stream)
        if row is not None:
            self._take_codec(row, stream)

    def remove(self, stream: AudioStream) -> None:
        row = self._row(stream)
        if row is not None:
            del self.streams[row], self._inbound[row]
            self._listening.discard(row)
            self._packings.pop(row, None)
            self._free.append(row)
            self._free.sort(reverse=True)

    def timestamp(self, stream: AudioStream) -> int:
        """Of the packet that was sent last."""
        return int(self._packets["timestamp"][self._row(stream)])

    def receive(self, now: float) -> None:
        heard: list[tuple[int, list[bytes]]] = []
        for row, inbound in self._inbound.items():
            frames = inbound.pull(now)
            if frames:
                if self.streams[row].held:
                    frames = [inbound.silence] * len(frames)
                heard.append((row, frames))
        place = 0
        while heard:
            self._hear([row for row, _ in heard], [frames[place] for _, frames in heard], now)
            place += 1
            heard = [(row, frames) for row, frames in heard if len(frames) > place]

    def _hear(self, rows: list[int], frames: list[bytes], now: float) -> None:
        """One frame of each row to its session."""
        octets = np.frombuffer(b"".join(frames), np.uint8).reshape(-1, G711_FRAME)
        index = np.array(rows, np.intp)
        decoded = self._decode(index, octets)
        if self._listening:
            self._listen(rows, decoded, now)
        heard = self._up.process(index, decoded)
        for row, frame in zip(rows, heard, strict=True):
            stream = self.streams[row]
            if stream.on_frame is not None and not stream.closed:
                # A view kept by one session would keep the frames of all calls alive.
                stream.on_frame(frame.copy())

    def _listen(self, rows: list[int], decoded: Pcm, now: float) -> None:
        places = [place for place, row in enumerate(rows) if row in self._listening]
        index = np.array([rows[place] for place in places], np.intp)
        for row, key in self._tones.process(index, decoded[places]):
            stream = self.streams[row]
            if not stream.closed:
                stream.press("tone", key, now)

    def transmit(self) -> None:
        if not self.streams:
            return
        rows, starting = self._gather()
        used = self._packets[: len(self._packets) - self._unused()]
        if rows:
            index = np.array(rows, np.intp)
            spoken = self._down.process(index, self._spoken[: len(rows)])
            used["payload"][index] = self._encode(index, spoken)
        used["sequence_number"] += 1
        used["timestamp"] += G711_FRAME
        used["payload_type"][starting] |= MARKER
        octets = used.tobytes()
        used["payload_type"][starting] &= ~MARKER & 0xFF
        size = _PACKET.itemsize
        apart = self._apart(octets)
        for row, stream in self.streams.items():
            if stream.closed:
                continue
            if row in apart:
                for packet in apart[row]:
                    stream.send(packet)
                continue
            stream.packets_sent += 1
            stream.octets_sent += G711_FRAME
            stream.wire.send(octets[row * size : (row + 1) * size])

    def _apart(self, octets: bytes) -> dict[int, list[bytes]]:
        """By row: what is sent instead of its packet of 20 ms audio."""
        apart: dict[int, list[bytes]] = {}
        for row, packing in self._packings.items():
            apart[row] = self._pack(row, packing, octets)
        for row, stream in self.streams.items():
            if stream.dialler is not None and row not in apart:
                packet = self._packets[row]
                event = stream.event_packet(
                    int(packet["sequence_number"]), int(packet["timestamp"])
                )
                if event is not None:
                    apart[row] = [event]
        return apart

    def _pack(self, row: int, packing: Packing, octets: bytes) -> list[bytes]:
        stream = self.streams[row]
        packet = octets[row * _PACKET.itemsize : (row + 1) * _PACKET.itemsize]
        _, type_octet, _, timestamp, ssrc = HEADER.unpack_from(packet)
        rest: list[bytes] = []
        if stream.sends_event:
            rest = packing.flush()
            event = stream.event_packet((packing.sequence_number + 1) & 0xFFFF, timestamp)
            if event is not None:
                packing.next_number()
                return [*rest, event]
        return rest + packing.add(type_octet, timestamp, ssrc, packet[HEADER.size :])

    def _gather(self) -> tuple[list[int], list[int]]:
        """Put what is to be said into the first rows of _spoken: whose it is, and who begins."""
        rows: list[int] = []
        starting: list[int] = []
        tail = self._tail
        spoken = self._spoken
        for row, stream in self.streams.items():
            frame = stream.next_frame()
            if frame is not None:
                if tail[row] != TAIL:
                    tail[row] = TAIL
                    starting.append(row)
                spoken[len(rows)] = frame
                rows.append(row)
            elif tail[row]:
                tail[row] -= 1
                spoken[len(rows)] = 0
                rows.append(row)
        return rows, starting

    def _decode(self, rows: NDArray[np.intp], octets: Octets) -> Pcm:
        alaw = self._alaw[rows]
        pcm = ulaw_decode(octets)
        if alaw.any():
            pcm[alaw] = alaw_decode(octets[alaw])
        return pcm

    def _encode(self, rows: NDArray[np.intp], pcm: Pcm) -> Octets:
        alaw = self._alaw[rows]
        octets = ulaw_encode(pcm)
        if alaw.any():
            octets[alaw] = alaw_encode(pcm[alaw])
        return octets

    def _take_codec(self, row: int, stream: AudioStream) -> None:
        alaw = stream.codec is PCMA
        self._alaw[row] = alaw
        self._packets["payload_type"][row] = stream.payload_type
        self._packets["payload"][row] = ALAW_SILENCE if alaw else ULAW_SILENCE
        self._take_length(row, stream.ptime_ms * G711_RATE // 1000)
        if stream.telephone_event is not None:
            self._listening.discard(row)
        elif row not in self._listening:
            self._listening.add(row)
            self._tones.reset(row)

    def _take_length(self, row: int, samples: int) -> None:
        packing = self._packings.get(row)
        if samples == (packing.samples if packing is not None else G711_FRAME):
            return
        packets = self._packets
        if packing is not None:
            # What waits is dropped, less than a packet: the other side is changing as well.
            packets["sequence_number"][row] = packing.sequence_number
            del self._packings[row]
        if samples != G711_FRAME:
            self._packings[row] = Packing(samples, int(packets["sequence_number"][row]))

    def _row(self, stream: AudioStream) -> int | None:
        return next((row for row, held in self.streams.items() if held is stream), None)

    def _unused(self) -> int:
        """Rows after the last one in use: the lowest are taken first."""
        return len(self._packets) - 1 - max(self.streams)

    def _grow(self) -> None:
        have = len(self._packets)
        # Not np.concatenate: it promotes the fields to the machine's own byte order.
        packets = np.zeros(have + CHUNK, _PACKET)
        packets[:have] = self._packets
        self._packets = packets
        self._alaw = np.concatenate((self._alaw, np.zeros(CHUNK, np.bool_)))
        self._spoken = np.zeros((have + CHUNK, MODEL_FRAME), np.int16)
        self._tail += [0] * CHUNK
        self._free = list(range(have + CHUNK - 1, have - 1, -1))


class _SingleRow:
    """One call's codec and packet header, for codecs that cannot be batched."""

    def __init__(self, stream: AudioStream, inbound: SingleInbound) -> None:
        self.stream = stream
        self._inbound = inbound
        self.timestamp = secrets.randbits(32)
        self._sequence_number = secrets.randbits(15)
        self._outbound: Outbound = outbound_for(stream.codec, repairs=stream.repairs)
        self._quiet = np.zeros(MODEL_FRAME, np.int16)
        self._tail = 0

    def receive(self, now: float) -> None:
        stream = self.stream
        if stream.closed:
            return
        for frame in self._inbound.pull(now):
            if stream.on_frame is not None and not stream.closed:
                stream.on_frame(self._quiet if stream.held else frame)

    def transmit(self) -> None:
        stream = self.stream
        if stream.closed:
            return
        frame = stream.next_frame()
        marker = 0
        if frame is not None:
            marker = 0 if self._tail == TAIL else MARKER
            self._tail = TAIL
            payload = self._outbound.encode(frame)
        elif self._tail:
            self._tail -= 1
            payload = self._outbound.encode(self._quiet)
        else:
            payload = self._outbound.rest()
        self._sequence_number = (self._sequence_number + 1) & 0xFFFF
        self.timestamp = (self.timestamp + self._outbound.step) & 0xFFFF_FFFF
        event = stream.event_packet(self._sequence_number, self.timestamp)
        if event is not None:
            stream.send(event)
            return
        header = HEADER.pack(
            0x80,
            stream.payload_type | marker,
            self._sequence_number,
            self.timestamp,
            stream.ssrc,
        )
        stream.send(header + payload)

    def reads(self, inbound: Inbound) -> bool:
        return inbound is self._inbound

    def expect_loss(self, fraction: float) -> None:
        self._outbound.expect_loss(fraction)

    def close(self) -> None:
        self._outbound.close()


class MediaPlane:
    """Every stream of the process. `tick` is called 50 times a second."""

    def __init__(self) -> None:
        self._g711 = _G711Rows()
        self._single: dict[AudioStream, _SingleRow] = {}
        self._reports: list[list[AudioStream]] = [[] for _ in range(REPORT_INTERVAL)]
        self._ticks = 0
        self._ticking = False
        self._arriving: list[AudioStream] = []
        self._leaving: list[AudioStream] = []
        self._changing: list[AudioStream] = []

    def add(self, stream: AudioStream) -> None:
        """From the next tick on."""
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
        return len(self._g711.streams) + len(self._single)

    @property
    def streams(self) -> Iterable[AudioStream]:
        return [*self._g711.streams.values(), *self._single]

    def tick(self, now: float) -> None:
        """Hear 20 ms of every call, then say 20 ms: an echo leaves in the tick it came in."""
        self._ticking = True
        try:
            self._g711.receive(now)
            for row in self._single.values():
                row.receive(now)
            self._g711.transmit()
            for row in self._single.values():
                row.transmit()
            self._report(now)
        finally:
            self._ticking = False
        if self._arriving or self._leaving or self._changing:
            self._settle()

    def _report(self, now: float) -> None:
        self._ticks += 1
        for stream in self._reports[self._ticks % REPORT_INTERVAL]:
            if not stream.closed:
                row = self._single.get(stream)
                if row is not None:
                    row.expect_loss(stream.remote_fraction_lost)
                timestamp = row.timestamp if row is not None else self._g711.timestamp(stream)
                stream.wire.send_rtcp(stream.sender_report(timestamp, now))

    def _settle(self) -> None:
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
        if stream.closed:
            return
        row, inbound = self._single.get(stream), stream.inbound
        if row is not None and row.reads(inbound):
            return  # Such a row asks its stream for the payload type.
        if row is None and isinstance(inbound, G711Inbound):
            self._g711.change(stream)
            return
        self._displace(stream)
        self._place(stream)

    def _enter(self, stream: AudioStream) -> None:
        stream.on_changed = self._changed
        self._place(stream)
        self._reports[(self._ticks + FIRST_REPORT) % REPORT_INTERVAL].append(stream)

    def _place(self, stream: AudioStream) -> None:
        inbound = stream.inbound
        if isinstance(inbound, G711Inbound):
            self._g711.add(stream, inbound)
        else:
            self._single[stream] = _SingleRow(stream, inbound)

    def _displace(self, stream: AudioStream) -> None:
        row = self._single.pop(stream, None)
        if row is not None:
            row.close()
        else:
            self._g711.remove(stream)

    def _leave(self, stream: AudioStream) -> None:
        stream.on_changed = None
        self._displace(stream)
        for due in self._reports:
            if stream in due:
                due.remove(stream)

"""What G.711 callers are told: the calls of one phase are encoded into one array of packets."""

import secrets
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bridge.audio.codecs import PCMA
from bridge.audio.frames import MODEL_FRAME, MODEL_RATE, Pcm
from bridge.audio.g711 import ALAW_SILENCE, ULAW_SILENCE, Octets, alaw_encode, ulaw_encode
from bridge.audio.resample import ResamplerBank
from bridge.media.hearing import CHUNK, G711_FRAME, G711_RATE
from bridge.media.packing import Packing
from bridge.media.stream import AudioStream
from bridge.media.taps import SILENCE
from bridge.media.verbatim import Coded
from bridge.rtp.packet import HEADER

MARKER = 0x80
# Silent frames still resampled and encoded after speech: the first carries the filter's tail out,
# from the second on the row is what a silent row is.
TAIL = 2

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


class G711Lane:
    """A row each of packet, resampler state and law; freed rows are used again."""

    def __init__(self) -> None:
        self.streams: dict[int, AudioStream] = {}  # by row
        self._rows: dict[AudioStream, int] = {}
        self._free: list[int] = []
        self._see(np.zeros(0, _PACKET))
        self._alaw = np.zeros(0, np.bool_)
        self._alaw_rows = 0
        self._tail: list[int] = []
        self._packings: dict[int, Packing] = {}  # rows whose packets are not of 20 ms
        self._laws: list[str] = []
        self._verbatim: dict[int, Coded] = {}  # rows whose next payload is there already
        self._passed: set[int] = set()  # rows whose last one was, past the filter
        self._down = ResamplerBank(MODEL_RATE, G711_RATE, CHUNK)
        self._spoken = np.zeros((0, MODEL_FRAME), np.int16)

    def __len__(self) -> int:
        return len(self.streams)

    def add(self, stream: AudioStream) -> None:
        if not self._free:
            self._grow()
        row = self._rows[stream] = self._free.pop()
        self.streams[row] = stream
        self._tail[row] = 0
        self._down.reset(row)
        packet = self._packets[row]
        packet["flags"] = 0x80
        packet["sequence_number"] = secrets.randbits(15)  # RFC 3711 section 3.3.1: not near a wrap
        packet["timestamp"] = secrets.randbits(32)
        packet["ssrc"] = stream.ssrc
        stream.playout.on_octets = partial(self._verbatim.__setitem__, row)
        self.change(stream)

    def change(self, stream: AudioStream) -> None:
        """Another payload type, length or law; its packets go on counting."""
        row = self._rows[stream]
        alaw = stream.codec is PCMA
        self._take_law(row, alaw=alaw)
        self._laws[row] = stream.codec.name
        self._types[row] = stream.payload_type
        self._payloads[row] = ALAW_SILENCE if alaw else ULAW_SILENCE
        self._take_length(row, stream.ptime_ms * G711_RATE // 1000)

    def remove(self, stream: AudioStream) -> None:
        row = self._rows.pop(stream)
        del self.streams[row]
        stream.playout.on_octets = None
        self._verbatim.pop(row, None)
        self._passed.discard(row)
        self._take_law(row, alaw=False)
        self._packings.pop(row, None)
        self._free.append(row)
        self._free.sort(reverse=True)

    def timestamp(self, stream: AudioStream) -> int:
        """Of the packet that was sent last."""
        return int(self._timestamps[self._rows[stream]])

    def transmit(self, missed: int) -> None:
        """20 ms of each, after `missed` times when nothing was sent: the far end sees a gap in the
        timestamps, not a stream that is late from now on."""
        if not self.streams:
            return
        rows, starting = self._gather()
        if rows:
            index = np.array(rows, np.intp)
            spoken = self._down.process(index, self._spoken[: len(rows)])
            self._payloads[index] = self._encode(index, spoken)
        if self._verbatim:
            self._put_verbatim()
        if missed:
            starting = list(self.streams)
        # The lowest rows are taken first.
        used = max(self.streams) + 1
        self._sequence_numbers[:used] += 1
        self._timestamps[:used] += G711_FRAME * (1 + missed)
        if starting:
            self._types[starting] |= MARKER
        octets = self._packets[:used].tobytes()
        if starting:
            self._types[starting] &= ~MARKER & 0xFF
        self._send(octets)

    def _send(self, octets: bytes) -> None:
        size = _PACKET.itemsize
        packings = self._packings
        for row, stream in self.streams.items():
            if stream.closed:
                continue
            packet = octets[row * size : (row + 1) * size]
            if row in packings:
                for each in _packed(stream, packings[row], packet):
                    stream.send(each)
            elif stream.dialler is None:
                stream.packets_sent += 1
                stream.octets_sent += G711_FRAME
                stream.wire.send(packet)
            else:
                _, _, number, timestamp, _ = HEADER.unpack_from(packet)
                stream.send(stream.event_packet(number, timestamp) or packet)

    def _gather(self) -> tuple[list[int], list[int]]:
        """Put what is to be said into the first rows of _spoken: whose it is, and who begins."""
        rows: list[int] = []
        starting: list[int] = []
        frames: list[Pcm] = []
        tail = self._tail
        for row, stream in self.streams.items():
            frame = stream.next_frame()
            if frame is not None:
                if tail[row] != TAIL:
                    tail[row] = TAIL
                    starting.append(row)
                if self._verbatim and self._passes(row):
                    continue
            elif tail[row]:
                tail[row] -= 1
                frame = SILENCE
            else:
                continue
            if row in self._passed:
                # What the filter remembers is over.
                self._passed.discard(row)
                self._down.reset(row)
            frames.append(frame)
            rows.append(row)
        if frames:
            np.concatenate(frames, out=self._spoken[: len(frames)].reshape(-1))
        return rows, starting

    def _passes(self, row: int) -> bool:
        """Its octets are those of the wire's law."""
        coded = self._verbatim.get(row)
        if coded is None:
            return False
        if coded[1] != self._laws[row]:
            del self._verbatim[row]
            return False
        self._passed.add(row)
        return True

    def _put_verbatim(self) -> None:
        octets = b"".join([octets for octets, _ in self._verbatim.values()])
        payloads = np.frombuffer(octets, np.uint8).reshape(-1, G711_FRAME)
        self._payloads[list(self._verbatim)] = payloads
        self._verbatim.clear()

    def _encode(self, rows: NDArray[np.intp], pcm: Pcm) -> Octets:
        octets = ulaw_encode(pcm)
        if self._alaw_rows:
            alaw = self._alaw[rows]
            octets[alaw] = alaw_encode(pcm[alaw])
        return octets

    def _take_law(self, row: int, *, alaw: bool) -> None:
        self._alaw_rows += alaw - int(self._alaw[row])
        self._alaw[row] = alaw

    def _take_length(self, row: int, samples: int) -> None:
        packing = self._packings.get(row)
        if samples == (packing.samples if packing is not None else G711_FRAME):
            return
        if packing is not None:
            # What waits is dropped, less than a packet: the other side is changing as well.
            self._sequence_numbers[row] = packing.sequence_number
            del self._packings[row]
        if samples != G711_FRAME:
            self._packings[row] = Packing(samples, int(self._sequence_numbers[row]))

    def _see(self, packets: NDArray[np.void]) -> None:
        # Taking a field of an array anew costs as much as adding to it.
        self._packets = packets
        self._types = packets["payload_type"]
        self._sequence_numbers = packets["sequence_number"]
        self._timestamps = packets["timestamp"]
        self._payloads = packets["payload"]

    def _grow(self) -> None:
        have = len(self._packets)
        # Not np.concatenate: it promotes the fields to the machine's own byte order.
        packets = np.zeros(have + CHUNK, _PACKET)
        packets[:have] = self._packets
        self._see(packets)
        self._alaw = np.concatenate((self._alaw, np.zeros(CHUNK, np.bool_)))
        self._spoken = np.zeros((have + CHUNK, MODEL_FRAME), np.int16)
        self._laws += [""] * CHUNK
        self._tail += [0] * CHUNK
        self._free = list(range(have + CHUNK - 1, have - 1, -1))


def _packed(stream: AudioStream, packing: Packing, packet: bytes) -> list[bytes]:
    """What is sent instead of a packet of 20 ms audio."""
    _, type_octet, _, timestamp, ssrc = HEADER.unpack_from(packet)
    rest: list[bytes] = []
    if stream.sends_event:
        rest = packing.flush()
        event = stream.event_packet((packing.sequence_number + 1) & 0xFFFF, timestamp)
        if event is not None:
            packing.next_number()
            return [*rest, event]
    return rest + packing.add(type_octet, timestamp, ssrc, packet[HEADER.size :])

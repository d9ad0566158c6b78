"""What G.711 callers say: all who were heard in a slot are decoded and resampled at once."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bridge.audio.codecs import PCMA
from bridge.audio.frames import MODEL_RATE, Pcm, samples_per_frame
from bridge.audio.g711 import Octets, alaw_decode, ulaw_decode
from bridge.audio.goertzel import ToneDetector
from bridge.audio.resample import ResamplerBank
from bridge.load import LOAD, Load
from bridge.media.inbound import G711Inbound
from bridge.media.lump_rows import Flags, LumpRows
from bridge.media.lumps import LOUD
from bridge.media.steady import MOST_STEPS, PACKET, Index, SteadyRows
from bridge.media.stream import AudioStream
from bridge.rtp.packet import HEADER_LENGTH

G711_RATE = 8000
G711_FRAME = samples_per_frame(G711_RATE)
CHUNK = 64  # rows added at a time
MANY = 40
"""Streams, from which on it pays to look at what comes together: a quarter of them in a slot."""

_OTHER = bytes(PACKET)
"""Stands for a packet of another length: no RTP."""


@dataclass(frozen=True, slots=True)
class _Group:
    """As many frames of each: octets, shape (streams, frames, G711_FRAME)."""

    streams: list[AudioStream]
    rows: list[int]
    octets: Octets


class G711Hearing:
    """A row of resampler state and law for each stream; freed rows are used again."""

    def __init__(self, many: int = MANY, load: Load = LOAD) -> None:
        self._many = many
        self._rows: dict[AudioStream, int] = {}
        self._free: list[int] = []
        self._alaw = np.zeros(0, np.bool_)
        self._alaw_rows = 0
        self._listening: set[int] = set()  # rows whose keys come as tones, if at all
        self._tones = ToneDetector(G711_RATE)
        self._up = ResamplerBank(G711_RATE, MODEL_RATE, CHUNK)
        self._gathered = LumpRows(load)
        self._steady = SteadyRows()
        self._next: list[AudioStream] = []  # of the steady ones, to whom a packet came
        self._went_on: list[_Group] = []

    def add(self, stream: AudioStream) -> None:
        if not self._free:
            have = len(self._alaw)
            self._alaw = np.concatenate((self._alaw, np.zeros(CHUNK, np.bool_)))
            self._steady.reserve(have + CHUNK)
            self._gathered.reserve(have + CHUNK)
            self._free = list(range(have + CHUNK - 1, have - 1, -1))
        row = self._rows[stream] = self._free.pop()
        self._up.reset(row)
        self._gathered.reset(row)
        self.change(stream)

    def change(self, stream: AudioStream) -> None:
        """The other law, or keys told in another way."""
        row = self._rows[stream]
        self._take_law(row, alaw=stream.codec is PCMA)
        if stream.telephone_event is not None:
            self._listening.discard(row)
        elif row not in self._listening:
            self._listening.add(row)
            self._tones.reset(row)

    def remove(self, stream: AudioStream) -> None:
        stream.unsettle()
        if len(self._rows) == self._many:
            for each in self._rows:
                each.unsettle()
        row = self._rows.pop(stream)
        stream.flush()
        self._gathered.reset(row)
        self._take_law(row, alaw=False)
        self._listening.discard(row)
        self._free.append(row)
        self._free.sort(reverse=True)

    @property
    def waits(self) -> bool:
        """Whether a packet came to a steady stream."""
        return bool(self._next)

    def go_on(self, now: float) -> bool:
        """Take what came to steady streams and is no more than was expected; whether there was any.
        Where it is something else, the stream is steady no more and says that it has arrived."""
        arrived = self._next.copy()
        self._next.clear()
        groups: dict[int, tuple[list[AudioStream], list[bytes]]] = {}
        for stream in arrived:
            waiting = stream.waiting
            if stream.held or stream.last_received_at != now or len(waiting) > MOST_STEPS:
                stream.unsettle()
            elif waiting:
                streams, packets = groups.setdefault(len(waiting), ([], []))
                streams.append(stream)
                packets += waiting
        self._went_on = [self._look(*group, now) for group in groups.values()]
        return bool(groups)

    def _look(self, streams: list[AudioStream], packets: list[bytes], now: float) -> _Group:
        if set(map(len, packets)) != {PACKET}:
            packets = [packet if len(packet) == PACKET else _OTHER for packet in packets]
        octets = np.frombuffer(b"".join(packets), np.uint8).reshape(len(streams), -1, PACKET)
        rows = [self._rows[stream] for stream in streams]
        good = self._steady.go_on(np.array(rows, np.intp), octets, now)
        if not good.all():
            for place in np.flatnonzero(~good).tolist():
                streams[place].unsettle()
            places = np.flatnonzero(good).tolist()
            streams, rows = [streams[at] for at in places], [rows[at] for at in places]
            octets = octets[good]
        for stream in streams:
            stream.waiting.clear()
            stream.arrived = False
            stream.heard = True
        return _Group(streams, rows, octets[:, :, HEADER_LENGTH:])

    def receive(self, streams: Iterable[AudioStream], now: float) -> None:
        """The frames due of each to its session, and what `go_on` took."""
        groups, self._went_on = self._went_on, []
        others: dict[int, tuple[list[AudioStream], list[bytes]]] = {}
        for stream in self._overdue(streams, now):
            frames = self._pull(stream, now)
            if frames:
                some, octets = others.setdefault(len(frames), ([], []))
                some.append(stream)
                octets += frames
        for number, (some, octets) in others.items():
            joined = np.frombuffer(b"".join(octets), np.uint8).reshape(-1, number, G711_FRAME)
            groups.append(_Group(some, [self._rows[stream] for stream in some], joined))
        place = 0
        while groups := [group for group in groups if group.octets.shape[1] > place]:
            if len(groups) == 1:
                only = groups[0]
                self._hear(only.streams, only.rows, only.octets[:, place], now)
            else:
                self._hear(
                    [stream for group in groups for stream in group.streams],
                    [row for group in groups for row in group.rows],
                    np.concatenate([group.octets[:, place] for group in groups]),
                    now,
                )
            place += 1

    def _overdue(self, streams: Iterable[AudioStream], now: float) -> list[AudioStream]:
        """All but steady ones who may wait for their next packet."""
        overdue: list[AudioStream] = []
        steady: list[AudioStream] = []
        for stream in streams:
            (steady if stream.steady else overdue).append(stream)
        if steady:
            rows = np.array([self._rows[stream] for stream in steady], np.intp)
            waits = self._steady.wait(rows, now).tolist()
            overdue += [stream for stream, may in zip(steady, waits, strict=True) if not may]
        return overdue

    def _pull(self, stream: AudioStream, now: float) -> list[bytes]:
        stream.unsettle()
        inbound = stream.inbound
        assert isinstance(inbound, G711Inbound)
        frames = inbound.pull(now)
        if not frames:
            return frames
        stream.heard = True
        if stream.held:
            return [inbound.silence] * len(frames)
        if len(self._rows) >= self._many:
            stream.settle(self._steady, self._rows[stream], self._next.append)
        return frames

    def _hear(
        self, streams: list[AudioStream], rows: list[int], octets: Octets, now: float
    ) -> None:
        """One frame of each."""
        index = np.array(rows, np.intp)
        decoded = self._decode(index, octets)
        if self._listening:
            self._listen(streams, rows, decoded, now)
        heard = self._up.process(index, decoded)
        loud = np.maximum.reduce(decoded, axis=1) > LOUD
        places: Iterable[int] = range(len(streams))
        if self._gathered.wanted:
            places = self._gather(streams, index, heard, octets, loud)
        is_loud = loud.tolist()
        for place in places:
            stream = streams[place]
            coded = octets[place].tobytes() if stream.on_coded is not None else None
            # A view kept by one session would keep the frames of all calls alive.
            stream.deliver(heard[place].copy(), coded, loud=is_loud[place])

    def _gather(
        self, streams: list[AudioStream], rows: Index, heard: Pcm, octets: Octets, loud: Flags
    ) -> list[int]:
        """Keep each frame until there is enough to tell. At which places it is to be told at
        once."""
        at_once: list[int] = []
        for place, stream in enumerate(streams):
            if stream.lumps is None:
                at_once.append(place)
            elif stream.tap is not None:
                stream.tap.say(heard[place].copy())
        if at_once:
            waits = np.ones(len(streams), np.bool_)
            waits[at_once] = False
            streams = [stream for stream in streams if stream.lumps is not None]
            rows, heard, octets, loud = rows[waits], heard[waits], octets[waits], loud[waits]
        for place, whole in self._gathered.push(rows, heard, octets, loud):
            lumps = streams[place].lumps
            if lumps is not None:
                lumps.elsewhere = self._gathered, int(rows[place])
                if whole or not lumps.allowed():
                    streams[place].flush()
        return at_once

    def _listen(
        self, streams: list[AudioStream], rows: list[int], decoded: Pcm, now: float
    ) -> None:
        listening = {row: place for place, row in enumerate(rows) if row in self._listening}
        if not listening:
            return
        index = np.array(list(listening), np.intp)
        for row, key in self._tones.process(index, decoded[list(listening.values())]):
            stream = streams[listening[row]]
            if not stream.closed:
                stream.press("tone", key, now)

    def _take_law(self, row: int, *, alaw: bool) -> None:
        self._alaw_rows += alaw - int(self._alaw[row])
        self._alaw[row] = alaw

    def _decode(self, rows: Index, octets: Octets) -> Pcm:
        pcm = ulaw_decode(octets)
        if self._alaw_rows:
            alaw = self._alaw[rows]
            pcm[alaw] = alaw_decode(octets[alaw])
        return pcm

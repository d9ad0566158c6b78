"""What G.711 callers say: all who were heard in a slot are decoded and resampled at once."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from bridge.audio.codecs import PCMA
from bridge.audio.frames import MODEL_RATE, Pcm, samples_per_frame
from bridge.audio.g711 import Octets, alaw_decode, ulaw_decode
from bridge.audio.goertzel import ToneDetector
from bridge.audio.resample import ResamplerBank
from bridge.media.inbound import G711Inbound
from bridge.media.lumps import LOUD
from bridge.media.stream import AudioStream

G711_RATE = 8000
G711_FRAME = samples_per_frame(G711_RATE)
CHUNK = 64  # rows added at a time


class G711Hearing:
    """A row of resampler state and law for each stream; freed rows are used again."""

    def __init__(self) -> None:
        self._rows: dict[AudioStream, int] = {}
        self._free: list[int] = []
        self._alaw = np.zeros(0, np.bool_)
        self._alaw_rows = 0
        self._listening: set[int] = set()  # rows whose keys come as tones, if at all
        self._tones = ToneDetector(G711_RATE)
        self._up = ResamplerBank(G711_RATE, MODEL_RATE, CHUNK)

    def add(self, stream: AudioStream) -> None:
        if not self._free:
            have = len(self._alaw)
            self._alaw = np.concatenate((self._alaw, np.zeros(CHUNK, np.bool_)))
            self._free = list(range(have + CHUNK - 1, have - 1, -1))
        row = self._rows[stream] = self._free.pop()
        self._up.reset(row)
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
        row = self._rows.pop(stream)
        self._take_law(row, alaw=False)
        self._listening.discard(row)
        self._free.append(row)
        self._free.sort(reverse=True)

    def receive(self, streams: Iterable[AudioStream], now: float) -> None:
        """The frames due of each to its session."""
        heard: list[tuple[AudioStream, list[bytes]]] = []
        for stream in streams:
            inbound = stream.inbound
            assert isinstance(inbound, G711Inbound)
            frames = inbound.pull(now)
            if frames:
                stream.heard = True
                if stream.held:
                    frames = [inbound.silence] * len(frames)
                heard.append((stream, frames))
        place = 0
        while heard:
            self._hear([stream for stream, _ in heard], [frames[place] for _, frames in heard], now)
            place += 1
            heard = [(stream, frames) for stream, frames in heard if len(frames) > place]

    def _hear(self, streams: list[AudioStream], frames: list[bytes], now: float) -> None:
        """One frame of each."""
        octets = np.frombuffer(b"".join(frames), np.uint8).reshape(-1, G711_FRAME)
        rows = [self._rows[stream] for stream in streams]
        index = np.array(rows, np.intp)
        decoded = self._decode(index, octets)
        if self._listening:
            self._listen(streams, rows, decoded, now)
        heard = self._up.process(index, decoded)
        loud = (decoded.max(axis=1) > LOUD).tolist()
        for stream, frame, coded, is_loud in zip(streams, heard, frames, loud, strict=True):
            # A view kept by one session would keep the frames of all calls alive.
            stream.deliver(frame.copy(), coded, loud=is_loud)

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

    def _decode(self, rows: NDArray[np.intp], octets: Octets) -> Pcm:
        pcm = ulaw_decode(octets)
        if self._alaw_rows:
            alaw = self._alaw[rows]
            pcm[alaw] = alaw_decode(octets[alaw])
        return pcm

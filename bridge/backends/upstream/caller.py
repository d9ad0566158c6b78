"""What the caller said lately: kept until the model has surely heard it."""

from collections import deque

import numpy as np
import pybase64

from bridge.audio.g711 import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE, Pcm

SAMPLES_PER_MS = MODEL_RATE // 1000
KEPT_MS = 30_000
IDLE_MS = 1_500
"""A detector tells of speech so much later at most, its prefix included."""
G711_RATE = 8_000
VOICE_PEAK = 800  # about -32 dBFS
QUIET_MS = 100
UNHEARD = MODEL_RATE
"""Samples, which are kept in any case."""
UNTRIMMED = MODEL_RATE // 5
"""Samples more before it is looked for what is too old."""
NOTICED_MS = 600
"""So much of a voice is noticed by any detector."""

LAWS = {"audio/pcmu": (ulaw_decode, ulaw_encode), "audio/pcma": (alaw_decode, alaw_encode)}
WIRE_NAMES = {"audio/pcmu": "PCMU", "audio/pcma": "PCMA"}
NOTHING: Pcm = np.empty(0, np.int16)


class CallerAudio:
    """Positions are milliseconds of all audio pushed. Everything is kept while `holding`, and while
    there is a voice that nobody has noticed."""

    def __init__(self) -> None:
        self.holding = True
        self.dropped_ms = 0
        self._unnoticed = 0  # samples as loud as a voice since `notice`
        self._noticed_end = self._heard_end = 0
        self._voice_end = 0
        self._frames: deque[Pcm] = deque()
        self._kept = self._room = 0
        self._end = 0
        self._unheard: list[Pcm] = []
        """The newest, whose level is still to be found."""

    @property
    def position_ms(self) -> int:
        return self._end // SAMPLES_PER_MS

    @property
    def quiet(self) -> bool:
        """Nothing as loud as a voice has come lately."""
        self._listen()
        return self._end - self._voice_end > QUIET_MS * SAMPLES_PER_MS

    def notice(self) -> None:
        """What has come was heard by somebody."""
        self._unnoticed, self._noticed_end = 0, self._end

    def unnoticed(self, more_than_ms: int) -> bool:
        """Whether so much as loud as a voice has come since `notice`."""
        least = more_than_ms * SAMPLES_PER_MS
        if self._end - self._noticed_end <= least:
            return False
        if self._unnoticed <= least < self._unnoticed + self._end - self._heard_end:
            self._listen()
        return self._unnoticed > least

    @property
    def kept_ms(self) -> int:
        self._trim()
        return self._kept // SAMPLES_PER_MS

    def push(self, pcm: Pcm) -> None:
        size = len(pcm)
        if not size:
            return
        self._frames.append(pcm)
        self._kept += size
        self._end += size
        self._unheard.append(pcm)
        if self._end - self._heard_end >= UNHEARD:
            self._listen()
        if self._kept >= self._room:
            self._trim()

    def _trim(self) -> None:
        held = self.holding or self._unnoticed > NOTICED_MS // 2 * SAMPLES_PER_MS
        limit = (KEPT_MS if held else IDLE_MS) * SAMPLES_PER_MS
        while self._frames and self._kept - len(self._frames[0]) >= limit:
            gone = self._frames.popleft()
            self._kept -= len(gone)
            if held:
                self.dropped_ms += len(gone) // SAMPLES_PER_MS
        self._room = self._kept + UNTRIMMED

    def _listen(self) -> None:
        """To the level of several frames at once, which costs little more than one."""
        frames, self._unheard = self._unheard, []
        self._heard_end = self._end
        if not frames:
            return
        sizes = np.array([len(pcm) for pcm in frames])
        ends = sizes.cumsum()
        loud = np.maximum.reduceat(np.concatenate(frames), ends - sizes) > VOICE_PEAK
        if loud.any():
            ends += self._end - ends[-1]
            self._voice_end = int(ends[loud][-1])
            self._unnoticed += int(sizes[loud & (ends > self._noticed_end)].sum())

    def since(self, position_ms: int) -> tuple[int, Pcm]:
        """What is kept from `position_ms` on, and where it really begins."""
        self._trim()
        first = self._end - self._kept
        begin = min(max(first, position_ms * SAMPLES_PER_MS), self._end)
        pcm = np.concatenate(self._frames) if self._frames else NOTHING
        return begin // SAMPLES_PER_MS, pcm[begin - first :]


class Coder:
    """Sound of one connection in the format agreed upon: base64 to it, bytes from it."""

    def __init__(self, name: str) -> None:
        self._laws = LAWS.get(name)
        self._law = WIRE_NAMES.get(name)
        self._down = Resampler(MODEL_RATE, G711_RATE)
        self._up = Resampler(G711_RATE, MODEL_RATE)

    def encode(self, pcm: Pcm) -> bytes:
        if self._laws is None:
            return pybase64.b64encode(pcm.tobytes())
        coded = self._laws[1](self._down.process(pcm))
        return pybase64.b64encode(coded.tobytes())

    def relay(self, octets: bytes, law: str) -> bytes | None:
        """Octets of G.711 as they are; None if the connection has another format."""
        return pybase64.b64encode(octets) if law == self._law else None

    def decode(self, data: bytes) -> Pcm:
        """An even number of bytes, if it is PCM."""
        if self._laws is None:
            return np.frombuffer(data, np.int16)
        return self._up.process(self._laws[0](np.frombuffer(data, np.uint8)))

    def kept(self, data: bytes) -> tuple[bytes, str] | None:
        """What `decode` is given, for a wire of the same law; None if it is PCM."""
        return None if self._law is None else (data, self._law)

    @property
    def sample_bytes(self) -> int:
        return 2 if self._laws is None else 1

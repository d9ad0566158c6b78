"""Where the time of one turn goes: from the caller's last voiced sample to the agent's first."""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bridge.backends.base import MODEL_RATE, Pcm

KEPT_FRAMES = 1500  # 30 s of 20 ms frames: a longer turn has its last voice in the kept part
VOICE_SHARE = 0.05  # of the loudest frame of the turn: 26 dB below it
MIN_VOICE_RMS = 40.0  # -58 dBFS


@dataclass(slots=True)
class TurnTimes:
    """Instants of the loop's clock; None while it has not come to that."""

    spoken_at: float
    """The caller's last voiced sample reached us."""
    ended_at: float
    """The turn was found to be over."""
    heard_at: float | None = None
    """Its words were known."""
    token_at: float | None = None
    audio_at: float | None = None
    wire_at: float | None = None
    """The first packet of the answer."""
    retries: int = 0
    apologised: bool = False

    def record(self) -> dict[str, float | int | bool]:
        """Milliseconds of each stage that was reached; `total_ms` is their sum."""
        stages = ("endpointing_ms", "stt_ms", "first_token_ms", "first_audio_ms", "on_wire_ms")
        instants = (self.spoken_at, self.ended_at, self.heard_at, self.token_at, self.audio_at)
        told: dict[str, float | int | bool] = {}
        reached = self.spoken_at
        for name, (before, after) in zip(stages, pairwise((*instants, self.wire_at)), strict=True):
            if before is not None and after is not None:
                told[name] = round((after - before) * 1000, 1)
                reached = after
        told["total_ms"] = round((reached - self.spoken_at) * 1000, 1)
        if self.retries:
            told["retries"] = self.retries
        if self.apologised:
            told["apologised"] = True
        return told


class Loudness:
    """How loud each frame heard was: an exact end of speech, which detection only brackets."""

    def __init__(self) -> None:
        self._frames: deque[tuple[int, float]] = deque(maxlen=KEPT_FRAMES)
        self.position = 0
        """Samples pushed."""

    def push(self, pcm: Pcm) -> None:
        self.position += len(pcm)
        if len(pcm):
            level = float(np.sqrt(np.mean(np.square(pcm.astype(np.float32)))))
            self._frames.append((self.position, level))

    def voice_end_ms(self, begin_ms: int, end_ms: int) -> float:
        """Where the last voice of a turn ended; `end_ms` if none of it was loud."""
        begin, end = begin_ms * MODEL_RATE // 1000, end_ms * MODEL_RATE // 1000
        turn = [(at, level) for at, level in self._frames if begin < at <= end]
        least = max(MIN_VOICE_RMS, VOICE_SHARE * max((level for _, level in turn), default=0.0))
        last = max((at for at, level in turn if level >= least), default=end)
        return last * 1000 / MODEL_RATE

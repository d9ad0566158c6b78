"""Where the time of one turn goes: from the caller's last voiced sample to the agent's first."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bridge.backends.base import MODEL_RATE, Pcm

BLOCK = MODEL_RATE // 200  # 5 ms
KEPT_BLOCKS = 6000  # 30 s: a longer turn has its last voice in the kept part
VOICE_SHARE = 0.05  # of the loudest block of the turn: 26 dB below it
MIN_VOICE_RMS = 40.0  # -58 dBFS


@dataclass(slots=True)
class TurnTimes:
    """Instants of one monotonic clock; None while it has not come to that. Not the loop's: uvloop's
    stands still while the loop is busy."""

    spoken_at: float
    """The caller's last voiced sample reached us, or would have, had all come as soon as some."""
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
    """How loud it was, and when: an exact end of speech, which detection only brackets."""

    def __init__(self) -> None:
        self.position = 0
        """Samples pushed."""
        self._levels = np.zeros(KEPT_BLOCKS, np.float32)
        self._begun = np.zeros(KEPT_BLOCKS)
        self._rest: Pcm = np.empty(0, np.int16)

    def push(self, pcm: Pcm, now: float) -> None:
        self.position += len(pcm)
        sound = np.concatenate((self._rest, pcm)) if len(self._rest) else pcm
        count = len(sound) // BLOCK
        self._rest = sound[count * BLOCK :]
        if count:
            blocks = sound[: count * BLOCK].reshape(count, BLOCK).astype(np.float32)
            first = (self.position - len(sound)) // BLOCK
            places = np.arange(first, first + count) % KEPT_BLOCKS
            self._levels[places] = np.sqrt(np.mean(blocks * blocks, axis=1))
            # When the first sample of all was spoken, if this one came without delay.
            self._begun[places] = now - self.position / MODEL_RATE

    def voice_ended_at(self, begin_ms: int, end_ms: int) -> float:
        """When the last voice between two positions was spoken; `end_ms` if none of it was loud.

        What came late, a packet or our turn to read it, shows by what followed sooner.
        """
        last = self.position // BLOCK
        oldest = max(0, last - KEPT_BLOCKS)
        begin, end = (min(max(ms // 5, oldest), last) for ms in (begin_ms, end_ms))
        levels = self._levels[np.arange(begin, end) % KEPT_BLOCKS]
        least = max(MIN_VOICE_RMS, VOICE_SHARE * float(levels.max(initial=0.0)))
        loud = np.flatnonzero(levels >= least)
        voiced = begin + int(loud[-1]) + 1 if len(loud) else end
        followed = np.arange(max(min(voiced, last) - 1, oldest), last)
        begun = self._begun[followed % KEPT_BLOCKS]
        return float(begun.min(initial=np.inf)) + voiced * BLOCK / MODEL_RATE

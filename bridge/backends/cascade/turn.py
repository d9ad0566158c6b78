"""When a caller's turn begins and ends: a table driven by the speech probability of each chunk."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from bridge.backends.base import SpeechStarted, SpeechStopped

CHUNK_MS = 32  # of the probabilities heard
ONSET_CHUNKS = 2
# While the agent speaks its echo may come back: more proof before it is made to yield.
ONSET_CHUNKS_WHILE_SPEAKING = 3
HYSTERESIS = 0.15

BACKGROUND_CHUNKS = 94  # 3 s
BACKGROUND_SHARE = 0.4  # of them may be pauses, or a caller who stands out
MAYBE_SPEECH = 0.1  # many who talk at once are hardly speech to the network, noise is none at all
STANDS_OUT_DB = 8.0
SILENT_DBFS = -100.0

SEMANTIC_SILENCE_MS = {"low": 1200, "medium": 700, "auto": 700, "high": 400}
"""How long a pause may be of which nothing more is known, by the eagerness of semantic_vad."""


class State(Enum):
    QUIET = auto()
    ONSET = auto()
    SPEAKING = auto()
    PAUSE = auto()


class Heard(Enum):
    VOICED = auto()
    UNVOICED = auto()
    ENOUGH_VOICE = auto()
    ENOUGH_SILENCE = auto()


TRANSITIONS: Mapping[State, Mapping[Heard, State]] = {
    State.QUIET: {Heard.VOICED: State.ONSET, Heard.UNVOICED: State.QUIET},
    State.ONSET: {
        Heard.VOICED: State.ONSET,
        Heard.UNVOICED: State.QUIET,
        Heard.ENOUGH_VOICE: State.SPEAKING,
    },
    State.SPEAKING: {Heard.VOICED: State.SPEAKING, Heard.UNVOICED: State.PAUSE},
    State.PAUSE: {
        Heard.VOICED: State.SPEAKING,
        Heard.UNVOICED: State.PAUSE,
        Heard.ENOUGH_SILENCE: State.QUIET,
    },
}


@dataclass(frozen=True, slots=True)
class TurnDetection:
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    eagerness: str = ""
    """Of semantic_vad; empty: server_vad, which silence alone ends."""

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> "TurnDetection":
        """From a validated `turn_detection` of either type."""
        if fields.get("type") == "semantic_vad":
            eagerness = fields.get("eagerness") or "auto"
            return cls(silence_duration_ms=SEMANTIC_SILENCE_MS[eagerness], eagerness=eagerness)
        known = {name: fields.get(name) for name in cls.__slots__ if name != "eagerness"}
        return cls(**{name: value for name, value in known.items() if value is not None})


class Background:
    """Others who talk, on a screen or in the room: how loud, if they hardly ever pause."""

    def __init__(self) -> None:
        self._levels = deque([SILENT_DBFS] * BACKGROUND_CHUNKS, BACKGROUND_CHUNKS)

    def hear(self, probability: float, level_dbfs: float) -> None:
        self._levels.append(level_dbfs if probability >= MAYBE_SPEECH else SILENT_DBFS)

    @property
    def level_dbfs(self) -> float:
        """What all but a share of the last seconds reached."""
        return sorted(self._levels)[int(BACKGROUND_SHARE * (BACKGROUND_CHUNKS - 1))]


class Endpointer:
    """Positions are milliseconds of audio scored, from `position_ms` on.

    To interrupt the agent a caller must be louder than those who talk behind.
    """

    def __init__(self, detection: TurnDetection, position_ms: int = 0) -> None:
        self.detection = detection
        self.agent_speaking = False
        self.min_silence_ms = 0
        """What is being asked for may need longer pauses than the session allows."""
        self.wait_ms: int | None = None
        """How long the pause under way may be, where more is known than silence; then forgotten."""
        self.position_ms = position_ms
        self.background = Background()
        self._state = State.QUIET
        self._stopped_ms = position_ms
        self._voiced = 0
        self._unvoiced = 0

    @property
    def state(self) -> State:
        return self._state

    @property
    def pause_ms(self) -> int:
        """How long somebody who was speaking has been silent."""
        return self._unvoiced * CHUNK_MS if self._state is State.PAUSE else 0

    @property
    def voiced_ms(self) -> int:
        """How long somebody has spoken without a pause."""
        return self._voiced * CHUNK_MS

    def forget(self) -> None:
        """What was taken for the beginning of a turn was none."""
        self._state = State.QUIET
        self._voiced = self._unvoiced = 0
        self.wait_ms = None
        self._stopped_ms = self.position_ms

    def hear(self, probability: float, level_dbfs: float) -> SpeechStarted | SpeechStopped | None:
        """The next chunk's speech probability and level; what it begins or ends."""
        self.position_ms += CHUNK_MS
        threshold = self.detection.threshold
        if self._state in (State.SPEAKING, State.PAUSE):
            threshold = max(threshold - HYSTERESIS, 0.01)
        voiced = probability >= threshold and self._stands_out(level_dbfs)
        self.background.hear(probability, level_dbfs)
        self._voiced = self._voiced + 1 if voiced else 0
        self._unvoiced = 0 if voiced else self._unvoiced + 1
        if voiced:
            self.wait_ms = None
        self._enter(Heard.VOICED if voiced else Heard.UNVOICED)
        if self._state is State.ONSET and self._voiced >= self._onset_chunks:
            self._enter(Heard.ENOUGH_VOICE)
            began = self.position_ms - self._voiced * CHUNK_MS - self.detection.prefix_padding_ms
            return SpeechStarted(max(began, self._stopped_ms))
        if self._state is State.PAUSE and self._unvoiced * CHUNK_MS >= self._silence_ms:
            self._enter(Heard.ENOUGH_SILENCE)
            self._stopped_ms = self.position_ms
            self.wait_ms = None
            return SpeechStopped(self.position_ms)
        return None

    def _stands_out(self, level_dbfs: float) -> bool:
        if not self.agent_speaking or self._state in (State.SPEAKING, State.PAUSE):
            return True
        return level_dbfs >= self.background.level_dbfs + STANDS_OUT_DB

    @property
    def _onset_chunks(self) -> int:
        return ONSET_CHUNKS_WHILE_SPEAKING if self.agent_speaking else ONSET_CHUNKS

    @property
    def _silence_ms(self) -> int:
        allowed = self.detection.silence_duration_ms if self.wait_ms is None else self.wait_ms
        return max(allowed, self.min_silence_ms)

    def _enter(self, heard: Heard) -> None:
        self._state = TRANSITIONS[self._state][heard]

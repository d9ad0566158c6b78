"""Messages that callers leave: when one begins and ends, and what is kept of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.backends.base import MessageTerms, Pcm
from bridge.media.recorder import Track

FRAME_MS = 20
TURN_END_MS = 500
"""How long somebody has been silent, about, when they are told to have stopped."""
BEGINS_MS = 3_000
"""More silence is allowed before the first word."""


@dataclass(frozen=True, slots=True)
class Message:
    """`ended_by`: key, silence, max_length or hangup."""

    file: str
    began_at: float
    """UNIX seconds."""
    duration_ms: int
    ended_by: str
    kept: bool
    """False: it was shorter than a message is, and there is no file."""

    def as_dict(self) -> Mapping[str, Any]:
        return {
            "file": self.file,
            "began_at": round(self.began_at, 3),
            "duration_ms": self.duration_ms,
            "ended_by": self.ended_by,
        }


class MessageTaker:
    """A session's Hearer. Its clock is that of the frames; `over` is called once."""

    def __init__(
        self,
        terms: MessageTerms,
        track: Track,
        over: Callable[[Message], None],
        *,
        began_at: float,
    ) -> None:
        self._terms = terms
        self._track = track
        self._over: Callable[[Message], None] | None = over
        self._began_at = began_at
        self._heard_ms = self._spoken_ms = 0
        self._since_ms = BEGINS_MS
        """Where the speech or the silence under way began."""
        self._speaking = False

    def hear(self, pcm: Pcm) -> None:
        if self._over is None:
            return
        self._track.add(pcm)
        self._heard_ms += FRAME_MS
        if self._heard_ms >= self._terms.max_s * 1000:
            self._end("max_length")
        elif not self._speaking and self._so_far_ms >= self._terms.silence_s * 1000:
            self._end("silence")

    def speech_started(self) -> None:
        self._speaking, self._since_ms = True, self._heard_ms

    def speech_stopped(self) -> None:
        ended_ms = max(self._since_ms, self._heard_ms - TURN_END_MS)
        self._spoken_ms += ended_ms - self._since_ms
        self._speaking, self._since_ms = False, ended_ms

    def press(self, key: str) -> None:
        if key in self._terms.finish:
            self._end("key")

    def hang_up(self) -> None:
        self._end("hangup")

    @property
    def _so_far_ms(self) -> int:
        return self._heard_ms - self._since_ms

    def _end(self, ended_by: str) -> None:
        over, self._over = self._over, None
        if over is None:
            return
        spoken_ms = self._spoken_ms + (self._so_far_ms if self._speaking else 0)
        kept = spoken_ms > 0 and spoken_ms >= self._terms.min_s * 1000
        self._track.close(keep=kept)
        name = self._track.path.name
        over(Message(name, self._began_at, self._heard_ms, ended_by, kept))

"""How soon a caller who speaks over the model gets silence: measured at our own packets."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bridge import metrics
from bridge.media.playout import Playout

SAMPLES_PER_MS = 24
AT_ONCE_S = 0.05
"""A cut that comes later than this after speech was told has another cause."""


class BargeIns:
    """`tell` gets a record of each: `decision_ms` from the decision to the last packet with any
    sound of what was cut, `onset_ms` from the caller's first sound, as its packet reached us, to
    the same; None where somebody else cut."""

    def __init__(
        self, clock: Callable[[], float], tell: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._heard = 0
        self._told_at = self._onset_at = -AT_ONCE_S
        self._paused_at: float | None = None
        self._silent_at: float | None = None

    def hear(self, samples: int) -> None:
        """Of the caller, on the way to the model."""
        self._heard += samples

    def speech_started(self, audio_ms: int, prefix_ms: int, *, waiting_ms: int = 0) -> None:
        """The model's ear says so, on the clock of all that it heard; `prefix_ms` are before it,
        `waiting_ms` came since and were not told to it."""
        self._told_at = self._clock()
        ago_ms = self._heard / SAMPLES_PER_MS + waiting_ms - audio_ms - prefix_ms
        self._onset_at = self._told_at - max(0.0, ago_ms) / 1000

    def paused(self, playout: Playout) -> None:
        """It was just paused, and may be cut: the caller has silence from here on."""
        self._paused_at, self._silent_at = self._clock(), None
        playout.when_silent(self._quiet)

    def resumed(self) -> None:
        """It was not cut."""
        self._paused_at = self._silent_at = None

    def cut(self, playout: Playout) -> None:
        """It was just cleared, and there was something to clear."""
        metrics.barge_ins.inc()
        now = self._clock()
        onset_at = self._onset_at if now - self._told_at < AT_ONCE_S else None
        decided_at = now if self._paused_at is None else self._paused_at
        if self._silent_at is None:
            playout.when_silent(partial(self._silent, decided_at, onset_at))
        else:
            self._record(decided_at, onset_at, self._silent_at)
        self.resumed()

    def close(self) -> None:
        """Nobody is told any more."""
        self._tell = _nobody

    def _quiet(self) -> None:
        self._silent_at = self._clock()

    def _silent(self, decided_at: float, onset_at: float | None) -> None:
        self._record(decided_at, onset_at, self._clock())

    def _record(self, decided_at: float, onset_at: float | None, now: float) -> None:
        metrics.barge_in_decision_s.observe(now - decided_at)
        if onset_at is not None:
            metrics.barge_in_onset_s.observe(now - onset_at)
        self._tell(
            {
                "decision_ms": round((now - decided_at) * 1000, 1),
                "onset_ms": None if onset_at is None else round((now - onset_at) * 1000, 1),
            }
        )


def _nobody(_: Mapping[str, Any]) -> None: ...

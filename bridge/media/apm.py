"""WebRTC's audio processing, if it is installed: noise, level and echo of what a caller says."""

import logging
import threading
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from bridge.audio.frames import MODEL_RATE, Pcm
from bridge.errors import ConfigError

log = logging.getLogger(__name__)

PIECE = MODEL_RATE // 100  # it takes 10 ms at a time
MAX_AHEAD = 3
"""Frames: what left and is still waiting for a frame to be heard beside."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be done to the voice of a caller."""

    noise: bool = False
    """Less of it, and no rumble."""
    level: bool = False
    """Brought to one loudness."""
    echo: bool = False
    """Without what the agent says and hears come back."""

    def __or__(self, other: "Wanted") -> "Wanted":
        return Wanted(self.noise or other.noise, self.level or other.level, self.echo or other.echo)


NOTHING = Wanted()
NOISE_REDUCTION = {
    "near_field": Wanted(noise=True),
    "far_field": Wanted(noise=True, level=True),
}
"""By the `type` of a session's `noise_reduction`."""


@cache
def load() -> Any:
    """Takes a moment and some threads the first time. Raises ConfigError."""
    try:
        from livekit import rtc
    except ImportError as error:
        raise ConfigError(
            f"neither noise nor echo can be reduced: {error}; install realtime-bridge[apm]",
            param="apm.echo_control",
        ) from None
    rtc.AudioProcessingModule()
    return rtc


def ready() -> bool:
    """Whether a Cleaner can be made at once. If not, it is loaded meanwhile."""
    if load.cache_info().currsize:
        return True
    _loader().start_once()
    return False


class Loader(threading.Thread):
    """Tells the log, once, what is missing."""

    def __init__(self) -> None:
        super().__init__(name="apm", daemon=True)

    def start_once(self) -> None:
        if self.ident is None:
            self.start()

    def run(self) -> None:
        try:
            load()
        except ConfigError as error:
            log.warning("noise_reduction does nothing", extra={"why": error.message})


@cache
def _loader() -> Loader:
    return Loader()


class Cleaner:
    """One caller's, by frames of 20 ms at 24 kHz.

    The echo of what was played is looked for in what is heard from then on, up to half a second
    later.
    """

    def __init__(self, wanted: Wanted) -> None:
        """Raises ConfigError when it is not installed."""
        self._rtc = load()
        self._apm = self._rtc.AudioProcessingModule(
            noise_suppression=wanted.noise,
            high_pass_filter=wanted.noise,
            auto_gain_control=wanted.level,
            echo_cancellation=wanted.echo,
        )
        self._cancels = wanted.echo
        self._played: deque[Pcm] = deque(maxlen=MAX_AHEAD)

    def play(self, frame: Pcm) -> None:
        """What leaves for the caller now."""
        if self._cancels:
            self._played.append(frame)

    def hear(self, frame: Pcm) -> Pcm:
        """The frame as the model is to hear it."""
        if self._cancels:
            played = self._played.popleft() if self._played else np.zeros_like(frame)
            for piece in self._pieces(played):
                self._apm.process_reverse_stream(piece)
        pieces = self._pieces(frame)
        for piece in pieces:
            self._apm.process_stream(piece)
        return np.frombuffer(b"".join(piece.data for piece in pieces), np.int16)

    def _pieces(self, frame: Pcm) -> list[Any]:
        """Copies: they are changed in place."""
        octets = bytearray(frame.tobytes())
        size = PIECE * frame.itemsize
        return [
            self._rtc.AudioFrame(octets[at : at + size], MODEL_RATE, 1, PIECE)
            for at in range(0, len(octets), size)
        ]

"""The caller's voice while the model is not to answer it: what is said goes into a recording."""

from typing import Protocol

from bridge.audio.tones import sine
from bridge.backends.base import BackendEvent, Pcm, SpeechStarted, SpeechStopped

RECORD_TONE = sine(1000, 0.4)


class Hearer(Protocol):
    def hear(self, pcm: Pcm, /) -> None:
        """A frame of 20 ms."""
        ...

    def speech_started(self) -> None: ...

    def speech_stopped(self) -> None: ...


class Diversion:
    """Speech that began while it was diverted is no turn, wherever it ends."""

    def __init__(self) -> None:
        self._to: Hearer | None = None
        self._speaking = self._diverted = False

    @property
    def active(self) -> bool:
        return self._to is not None

    def begin(self, to: Hearer) -> None:
        """Of a caller who is speaking, too."""
        self._to = to
        if self._speaking:
            to.speech_started()

    def end(self) -> None:
        self._to = None

    def hear(self, pcm: Pcm) -> None:
        if self._to is not None:
            self._to.hear(pcm)

    def takes(self, event: BackendEvent) -> bool:
        """Whether it is kept from the session."""
        match event:
            case SpeechStarted():
                self._speaking, self._diverted = True, self._to is not None
                if self._to is not None:
                    self._to.speech_started()
                return self._diverted
            case SpeechStopped() if self._speaking:
                self._speaking = False
                if self._to is not None:
                    self._to.speech_stopped()
                return self._diverted
        return False

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
        self.to: Hearer | None = None
        self._speaking = False

    def hear(self, pcm: Pcm) -> None:
        if self.to is not None:
            self.to.hear(pcm)

    def takes(self, event: BackendEvent) -> bool:
        """Whether it is kept from the session."""
        match event:
            case SpeechStarted() if self.to is not None:
                self._speaking = True
                self.to.speech_started()
                return True
            case SpeechStopped() if self._speaking:
                self._speaking = False
                if self.to is not None:
                    self.to.speech_stopped()
                return True
        return False

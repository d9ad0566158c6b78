"""What the model hears of a caller: the voice as it came, or without noise and echo."""

from collections.abc import Callable, Mapping
from typing import Any

from bridge.backends.base import Backend, HearsCleaned, HearsItself, Pcm
from bridge.media import apm


class Cleaning:
    """`always`: what is done to every call; a session may ask for more of it.

    Noise is reduced for the words only. Less of it between the words makes people who talk behind
    stand out from it, and seem to interrupt.
    """

    def __init__(self, backend: Backend, always: apm.Wanted) -> None:
        self._always = always
        self._tells = backend.cleaned if isinstance(backend, HearsCleaned) else None
        self._follows = backend.played if isinstance(backend, HearsItself) else None
        self._wanted, self.idle = apm.NOTHING, True
        self._echo: apm.Cleaner | None = None
        self._noise: apm.Cleaner | None = None

    def configure(self, noise_reduction: Mapping[str, Any] | None) -> None:
        """The session's field of that name."""
        kind = (noise_reduction or {}).get("type", "") if self._tells is not None else ""
        wanted = self._always | apm.NOISE_REDUCTION.get(kind, apm.NOTHING)
        if wanted != self._wanted:
            self._wanted, self.idle = wanted, wanted == apm.NOTHING
            self._echo = self._noise = None
            self._clean()

    def _clean(self) -> None:
        wanted = self._wanted
        if wanted == apm.NOTHING or not apm.ready():
            return
        if wanted.echo:
            self._echo = apm.Cleaner(apm.Wanted(echo=True))
        if wanted.noise or wanted.level:
            self._noise = apm.Cleaner(apm.Wanted(noise=wanted.noise, level=wanted.level))

    def hear(self, pcm: Pcm) -> tuple[Pcm, Pcm]:
        """A frame of the caller's: to find turns in, and to find words in."""
        if self.idle:
            return pcm, pcm
        if self._echo is self._noise is None:
            self._clean()
        if self._echo is not None:
            pcm = self._echo.hear(pcm)
        if self._noise is None:
            return pcm, pcm
        words = self._noise.hear(pcm)
        if self._tells is None:
            return words, words
        self._tells(words)
        return pcm, words

    @property
    def on_read(self) -> Callable[[Pcm], None] | None:
        """Who wants to know what the caller hears; fixed from the start."""
        return self._play if self._always.echo else self._follows

    def _play(self, pcm: Pcm) -> None:
        if self._echo is not None:
            self._echo.play(pcm)
        if self._follows is not None:
            self._follows(pcm)

    def close(self) -> None:
        self._wanted, self._idle = apm.NOTHING, True
        self._echo = self._noise = self._tells = self._follows = None

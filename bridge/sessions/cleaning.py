"""What the model hears of a caller: the voice as it came, or without noise and echo."""

from collections.abc import Callable, Mapping
from typing import Any

from bridge.backends.base import Backend, HearsItself, Pcm
from bridge.media import apm


class Cleaning:
    """`always`: what is done to every call; a session may ask for more of it."""

    def __init__(self, backend: Backend, always: apm.Wanted) -> None:
        self._always = always
        self._asks = backend.capabilities.hears_cleaned
        self._follows = backend.played if isinstance(backend, HearsItself) else None
        self._wanted = apm.NOTHING
        self._cleaner: apm.Cleaner | None = None

    def configure(self, noise_reduction: Mapping[str, Any] | None) -> None:
        """The session's field of that name."""
        kind = (noise_reduction or {}).get("type", "") if self._asks else ""
        wanted = self._always | apm.NOISE_REDUCTION.get(kind, apm.NOTHING)
        if wanted == self._wanted:
            return
        self._wanted, self._cleaner = wanted, None
        self._clean()

    def _clean(self) -> None:
        if self._wanted != apm.NOTHING and apm.ready():
            self._cleaner = apm.Cleaner(self._wanted)

    def hear(self, pcm: Pcm) -> Pcm:
        if self._wanted == apm.NOTHING:
            return pcm
        if self._cleaner is None:
            self._clean()
        return pcm if self._cleaner is None else self._cleaner.hear(pcm)

    @property
    def on_read(self) -> Callable[[Pcm], None] | None:
        """Who wants to know what the caller hears; fixed from the start."""
        return self._play if self._always.echo else self._follows

    def _play(self, pcm: Pcm) -> None:
        if self._cleaner is not None:
            self._cleaner.play(pcm)
        if self._follows is not None:
            self._follows(pcm)

    def close(self) -> None:
        self._wanted = apm.NOTHING
        self._cleaner = self._follows = None

"""The kinds of backend by name, and what they share."""

from collections.abc import Callable, Collection, Mapping
from functools import partial

from bridge.backends.base import Backend
from bridge.backends.cascade.backend import CascadeBackend
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings
from bridge.backends.echo import EchoBackend
from bridge.backends.upstream.backend import UpstreamBackend
from bridge.backends.upstream.beat import Beat
from bridge.backends.upstream.dial import trust, url_for
from bridge.backends.upstream.dialects import dialect_by
from bridge.backends.upstream.ear import Ear
from bridge.backends.upstream.farewell import read_apology
from bridge.backends.upstream.pulse import TICK_S
from bridge.backends.upstream.rounds import Rounds
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.errors import ConfigError

Factory = Callable[[], Backend]


class Backends:
    """Makes the backend of each session; owns the processes and connections behind them."""

    def __init__(self, cascade: Parts, others: Mapping[str, Factory] | None = None) -> None:
        self._cascade = cascade
        self._factories: dict[str, Factory] = {
            "cascade": lambda: CascadeBackend(cascade),
            "echo": EchoBackend,
            **(others or {}),
        }

    def add(self, kind: str, factory: Factory) -> None:
        self._factories[kind] = factory

    @property
    def kinds(self) -> Collection[str]:
        return self._factories.keys()

    def new(self, kind: str) -> Backend:
        """Raises ConfigError for a kind that does not exist."""
        try:
            return self._factories[kind]()
        except KeyError:
            known = ", ".join(sorted(self._factories))
            raise ConfigError(
                f"there is no backend {kind}; there is {known}", param="session.backend"
            ) from None

    @property
    def takes_messages(self) -> bool:
        """Whether there is a script that has callers recorded."""
        return self._cascade.chat.takes_messages

    async def start(self, kinds: Collection[str] = ("cascade",)) -> None:
        """Warm up what these kinds need.

        Raises:
            ConfigError: something is not installed.
            BackendError: a speech program does not start.
        """
        if "cascade" in kinds:
            await self._cascade.start()

    async def close(self) -> None:
        await self._cascade.close()


def make_backends(
    cascade: CascadeSettings,
    others: Mapping[str, Factory] | None = None,
    *,
    upstream: UpstreamSettings | None = None,
) -> Backends:
    """`others`: further kinds.

    Raises:
        ConfigError: the settings name a part, a script, a dialect or a file that does not exist.
    """
    parts = Parts(cascade)
    backends = Backends(parts, others)
    if upstream is not None:
        url_for(upstream, dialect_by(upstream.dialect))
        trust(upstream)
        read_apology(upstream.apology)
        new_ear = partial(Ear, parts.load_vad()) if upstream.local_vad else None
        beat, rounds = Beat(TICK_S), Rounds()
        backends.add(
            "upstream",
            lambda: UpstreamBackend(upstream, backends.new, new_ear, beat=beat, rounds=rounds),
        )
    return backends

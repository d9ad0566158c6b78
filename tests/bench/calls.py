"""What a call of the bench is, whatever made it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tests.bench.wire import Counted


class NotAnswered(Exception):
    """The far end did not take the call, and said so or said nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    setup_s: float
    hangup: Callable[[], Awaitable[int]]
    """Returns how many packets of audio came."""
    ended: asyncio.Event
    """The far end hung up."""


class Caller(Protocol):
    async def open(self) -> None: ...

    async def call(self, phase: float, *, counted: bool = True) -> Call: ...

    async def close(self) -> None: ...


class Meter(Protocol):
    """Where the media of calls is counted."""

    def start(self) -> None: ...

    def take(self) -> Counted: ...

    def stop(self) -> None: ...

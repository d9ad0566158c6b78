"""What every Python client under test says to the test: features passed, events seen, wishes."""

import asyncio
import json
import os
import sys
import wave
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

Event = dict[str, Any]

INPUT_RATE = 24000
CHUNK_MS = 100
PAUSE_MS = 1500
WAIT_S = 20.0


def tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def passed(feature: str) -> None:
    tell(passed=feature)


def dial(name: str) -> None:
    """Have a phone call the server; its INVITE carries `X-Phone: name`."""
    tell(dial=name)


def speak_on(name: str) -> None:
    """Have that phone say a sentence."""
    tell(speak=name)


def setting(name: str) -> str:
    return os.environ[name]


def speech() -> bytes:
    """A sentence as PCM16 of 24 kHz, and the pause after it that ends the turn."""
    with wave.open(setting("PEER_SPEECH")) as file:
        assert file.getframerate() == INPUT_RATE
        sound: bytes = file.readframes(file.getnframes())
    pause = bytes(2 * PAUSE_MS * INPUT_RATE // 1000)
    return sound + pause


def chunks(sound: bytes) -> list[bytes]:
    size = 2 * CHUNK_MS * INPUT_RATE // 1000
    return [sound[i : i + size] for i in range(0, len(sound), size)]


async def paced(sound: bytes) -> AsyncIterator[bytes]:
    """As a microphone gives it."""
    for chunk in chunks(sound):
        yield chunk
        await asyncio.sleep(CHUNK_MS / 1000)


def offer() -> str:
    return Path(setting("PEER_OFFER")).read_text()


class Watch:
    """Server events in their order; each is told to the test, which validates it.

    With `told` false: a client's own events, which are nobody else's business.
    """

    def __init__(self, *, told: bool = True) -> None:
        self._told = told
        self.events: list[Event] = []
        self._changed = asyncio.Condition()

    async def add(self, event: Mapping[str, Any]) -> None:
        if self._told:
            tell(event=event)
        async with self._changed:
            self.events.append(dict(event))
            self._changed.notify_all()

    async def wait(
        self, kind: str, where: Callable[[Event], bool] = lambda _: True, *, after: int = 0
    ) -> Event:
        """The first event of this kind, `where` true, from position `after` on."""

        def found() -> Event | None:
            seen = (event for event in self.events[after:] if event["type"] == kind)
            return next(filter(where, seen), None)

        try:
            async with asyncio.timeout(WAIT_S), self._changed:
                await self._changed.wait_for(lambda: found() is not None)
        except TimeoutError:
            seen = [event["type"] for event in self.events[after:]]
            raise AssertionError(f"no {kind} among {seen}") from None
        event = found()
        assert event is not None
        return event

    @property
    def here(self) -> int:
        return len(self.events)

    def types(self, after: int = 0) -> list[str]:
        return [event["type"] for event in self.events[after:]]

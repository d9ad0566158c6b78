"""A session's side of a cascade: asks it, hears it, speaks to it in the voice of espeak-ng."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np

from bridge.backends.base import (
    MODEL_RATE,
    BackendEvent,
    Generate,
    Pcm,
    ResponseFailed,
    ResponseFinished,
    TextDelta,
    TurnTimed,
)
from bridge.backends.cascade.backend import CascadeBackend
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings
from bridge.backends.cascade.tts import EspeakVoice
from bridge.ids import ResponseId

SERVER_VAD = {"type": "server_vad", "prefix_padding_ms": 300, "silence_duration_ms": 500}
Item = dict[str, Any]


def session(turn_detection: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"audio": {"input": {"turn_detection": turn_detection}}}


def typed(text: str) -> Item:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "id": "t", "role": "user", "content": content}


def spoken(item_id: str) -> Item:
    content = [{"type": "input_audio", "transcript": None}]
    return {"type": "message", "id": item_id, "role": "user", "content": content}


def answered(text: str) -> Item:
    content = [{"type": "output_audio", "transcript": text}]
    return {"type": "message", "id": "a", "role": "assistant", "content": content}


class Caller:
    def __init__(self, backend: CascadeBackend, parts: Parts) -> None:
        self.backend = backend
        self.parts = parts
        self.events: asyncio.Queue[BackendEvent] = asyncio.Queue()
        self.conversation: list[Item] = []
        self.times: list[Mapping[str, Any]] = []

    async def next(self) -> BackendEvent:
        """The next event but for the records of turns, which `times` keeps."""
        async with asyncio.timeout(20):
            while isinstance(event := await self.events.get(), TurnTimed):
                self.times.append(event.record)
            return event

    def turn_times(self) -> Mapping[str, Any]:
        """The record of the turn whose answer begins to be heard now."""
        self.backend.agent_speaking(True)
        while not self.events.empty():
            event = self.events.get_nowait()
            assert isinstance(event, TurnTimed)
            self.times.append(event.record)
        (record,) = self.times
        return record

    def ask(self, response_id: str, *items: Item, **options: Any) -> None:
        self.conversation += items
        request = Generate(ResponseId(response_id), tuple(self.conversation), **options)
        self.backend.generate(request)

    def cancel(self, response_id: str) -> None:
        """Cancels; what was told before and is not yet taken is forgotten."""
        while not self.events.empty():
            self.events.get_nowait()
        self.backend.cancel(ResponseId(response_id))

    async def answer(self) -> list[BackendEvent]:
        events = [await self.next()]
        while not isinstance(events[-1], ResponseFinished | ResponseFailed):
            events.append(await self.next())
        self.conversation.append(answered(text(events)))
        return events

    async def say(self, words: str) -> Pcm:
        voice = EspeakVoice()
        try:
            pieces = [piece async for piece in voice.speak(words, voice="en-gb")]
        finally:
            await voice.close()
        return np.concatenate((silence(0.4), *pieces, silence(0.8)))

    async def speak(self, sound: Pcm) -> None:
        """As `push`, but what is heard in it is known before it ends."""
        for start in range(0, len(sound), 480):
            self.backend.push_audio(sound[start : start + 480])
            await asyncio.sleep(0)

    def push(self, sound: Pcm) -> None:
        for start in range(0, len(sound), 480):
            self.backend.push_audio(sound[start : start + 480])


def silence(seconds: float) -> Pcm:
    return np.zeros(int(seconds * MODEL_RATE), np.int16)


def text(events: list[BackendEvent]) -> str:
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


def on_a_call(
    use: Callable[[Caller], Awaitable[None]],
    make: Callable[[], Parts] = lambda: Parts(CascadeSettings()),
    turn_detection: dict[str, Any] | None = None,
) -> None:
    async def run() -> None:
        parts = make()
        caller = Caller(CascadeBackend(parts), parts)
        try:
            await caller.backend.start(session(turn_detection), caller.events.put_nowait)
            await use(caller)
        finally:
            await caller.backend.close()
            await parts.close()

    asyncio.run(run())

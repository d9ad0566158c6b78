import asyncio

import numpy as np

from bridge.backends.base import (
    AudioDelta,
    BackendEvent,
    Generate,
    LoopAudio,
    ResponseFinished,
    TextDelta,
)
from bridge.backends.echo import EchoBackend
from bridge.ids import ResponseId


def started() -> tuple[EchoBackend, list[BackendEvent]]:
    backend, events = EchoBackend(), list[BackendEvent]()
    asyncio.run(backend.start({}, events.append))
    return backend, events


def test_what_is_heard_is_played() -> None:
    backend, events = started()
    frame = np.arange(480, dtype=np.int16)
    backend.push_audio(frame)
    assert events == [LoopAudio(frame)]
    assert backend.capabilities.loops_audio


def test_the_last_user_text_is_said_with_a_tone() -> None:
    backend, events = started()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    backend.generate(Generate(ResponseId("r"), (item,)))
    text, audio, finished = events
    assert text == TextDelta(ResponseId("r"), "Hi")
    assert isinstance(audio, AudioDelta)
    assert finished == ResponseFinished(ResponseId("r"))


def test_text_only_has_no_tone() -> None:
    backend, events = started()
    backend.generate(Generate(ResponseId("r"), (), output_modalities=("text",)))
    assert [type(event) for event in events] == [TextDelta, ResponseFinished]


def test_nothing_is_emitted_after_close() -> None:
    backend, events = started()
    asyncio.run(backend.close())
    backend.push_audio(np.zeros(480, np.int16))
    assert events == []

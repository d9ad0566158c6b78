import asyncio
from typing import Any

from bridge.backends.base import (
    Aside,
    AudioDelta,
    BackendEvent,
    ResponseFinished,
    SpeechStarted,
    ToolCall,
)
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings, TtsSettings
from tests.backends.cascade.caller import SERVER_VAD, Caller, on_a_call, typed
from tests.peers.models import CHARACTER_S, ModelServers

FILLERS = ("One moment.", "Still looking.")
LOOK_UP = {"type": "function", "name": "look_up", "parameters": {}}
AFTER_S = 0.02


def with_fillers(server: ModelServers, use: Any, fillers: tuple[str, ...] = FILLERS) -> None:
    settings = CascadeSettings(
        llm_base_url=server.base_url,
        llm_model="m",
        tts=TtsSettings(kind="openai", base_url=server.base_url),
        apology="",
        fillers=fillers,
        filler_after_s=AFTER_S,
    )
    on_a_call(use, lambda: Parts(settings), turn_detection=SERVER_VAD)


async def calls_a_tool(caller: Caller) -> None:
    caller.ask("r", typed("look up"), tools=(LOOK_UP,))
    kinds = [type(event) for event in await caller.answer()]
    assert kinds == [ToolCall, ResponseFinished]


def seconds(event: BackendEvent) -> float:
    assert isinstance(event, Aside)
    return len(event.pcm) / 24_000


def test_who_waits_for_a_tool_is_told_so_again_and_again() -> None:
    async def use(caller: Caller) -> None:
        await calls_a_tool(caller)
        for words in (*FILLERS, FILLERS[-1]):
            assert abs(seconds(await caller.next()) - CHARACTER_S * len(words)) < 0.05
            caller.backend.agent_speaking(True)
            caller.backend.agent_speaking(False)

    with ModelServers() as server:
        with_fillers(server, use)


def test_nothing_is_said_once_the_model_goes_on() -> None:
    async def use(caller: Caller) -> None:
        await calls_a_tool(caller)
        caller.ask("r2", typed("hello"))
        assert not any(isinstance(event, Aside) for event in await caller.answer())
        caller.backend.agent_speaking(True)
        caller.backend.agent_speaking(False)
        await caller.say("some time passes while this is made")
        assert caller.events.empty()

    with ModelServers() as server:
        with_fillers(server, use)


def test_a_caller_who_speaks_stops_it() -> None:
    async def use(caller: Caller) -> None:
        await calls_a_tool(caller)
        assert seconds(await caller.next()) > 0
        caller.backend.agent_speaking(True)
        await caller.speak(await caller.say("hello are you there"))
        stop, started = await caller.next(), await caller.next()
        assert seconds(stop) == 0
        assert isinstance(started, SpeechStarted)

    with ModelServers() as server:
        with_fillers(server, use)


def test_an_answer_without_a_tool_needs_none() -> None:
    async def use(caller: Caller) -> None:
        caller.ask("r", typed("hello"))
        assert any(isinstance(event, AudioDelta) for event in await caller.answer())
        await asyncio.wait_for(caller.say("some time passes while this is made"), 20)
        assert caller.events.empty()

    with ModelServers() as server:
        with_fillers(server, use)

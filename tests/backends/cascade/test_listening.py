"""Ends of turns where more is known than silence, and where less."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bridge.backends.base import (
    BackendEvent,
    HoldPlayout,
    Pcm,
    SpeechStarted,
    SpeechStopped,
)
from bridge.backends.cascade.llm import ChatModel
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings
from bridge.backends.cascade.stt import Hints, Wanted
from bridge.errors import BackendError
from tests.backends.cascade.caller import Caller, on_a_call, session, silence

SEMANTIC = {"type": "semantic_vad", "eagerness": "medium"}
SETTINGS = CascadeSettings(llm_base_url="http://127.0.0.1:1/v1", llm_model="m", apology="")


class Writes:
    """A recogniser that knows beforehand."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.asked = 0

    async def start(self) -> None:
        pass

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted) -> str:
        self.asked += 1
        if not self.words:
            raise BackendError("deaf")
        return self.words

    async def close(self) -> None:
        pass


def parts(words: str) -> Callable[[], Parts]:
    return lambda: Parts(SETTINGS, chat=ChatModel(SETTINGS), stt=Writes(words))


async def pause_after_words(caller: Caller, silence_s: float = 3.0) -> float | None:
    """Milliseconds of silence until the turn was found to have ended; None if it was not."""
    sound = (await caller.say("what time do you open"))[: -int(0.8 * 24_000)]
    loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > 300)
    await caller.speak(np.concatenate((sound, silence(silence_s))))
    assert isinstance(await caller.next(), SpeechStarted)
    if caller.events.empty():
        return None
    stopped = await caller.next()
    assert isinstance(stopped, SpeechStopped)
    return stopped.audio_ms - float(loud[-1]) / 24


@pytest.mark.parametrize(
    ("words", "pause_ms"),
    [
        ("What time do you open?", 420),
        ("what time do you open", 700),
        ("", 700),
        ("I would like to", 2100),
    ],
)
def test_a_pause_is_as_long_as_the_words_before_it_allow(words: str, pause_ms: int) -> None:
    async def use(caller: Caller) -> None:
        assert await pause_after_words(caller) == pytest.approx(pause_ms, abs=130)
        assert isinstance(caller.parts.stt, Writes)
        assert caller.parts.stt.asked == 1

    on_a_call(use, parts(words), turn_detection=SEMANTIC)


def test_silence_alone_ends_turns_of_server_vad() -> None:
    async def use(caller: Caller) -> None:
        assert await pause_after_words(caller) == pytest.approx(500, abs=130)
        assert isinstance(caller.parts.stt, Writes)
        assert caller.parts.stt.asked == 0

    on_a_call(use, parts("I would like to"), turn_detection={"type": "server_vad"})


def test_who_goes_on_is_asked_about_again() -> None:
    async def use(caller: Caller) -> None:
        sound = await caller.say("my number is")
        await caller.speak(np.concatenate((sound[: -int(0.4 * 24_000)], sound, silence(2.0))))
        assert isinstance(await caller.next(), SpeechStarted)
        assert isinstance(await caller.next(), SpeechStopped)
        assert caller.events.empty()
        assert isinstance(caller.parts.stt, Writes)
        assert caller.parts.stt.asked == 2

    on_a_call(use, parts("my number is"), turn_detection=SEMANTIC)


@pytest.mark.parametrize("gate", [True, False])
def test_the_agents_own_voice_does_not_interrupt_it(gate: bool) -> None:
    settings = replace(SETTINGS, echo_gate=gate)

    async def use(caller: Caller) -> None:
        agent = await caller.say("we are open from nine to five")
        back = np.concatenate((silence(0.1), agent // 10)).astype(np.int16)
        caller.backend.agent_speaking(True)
        for begin in range(0, len(agent) - 480, 480):
            caller.backend.push_audio(back[begin : begin + 480])
            caller.backend.played(agent[begin : begin + 480])
            await asyncio.sleep(0)
        assert caller.events.empty() is gate
        if gate:
            await caller.speak(await caller.say("stop please"))
            assert isinstance(await caller.next(), SpeechStarted)

    def make() -> Parts:
        return Parts(settings, chat=ChatModel(settings), stt=Writes("stop"))

    on_a_call(use, make, turn_detection={"type": "server_vad"})


async def speak_over(caller: Caller, words: str, after_s: float = 1.0) -> list[BackendEvent]:
    """Said while the agent speaks; what came of it."""
    caller.backend.agent_speaking(True)
    sound = await caller.say(words)
    await caller.speak(np.concatenate((sound, silence(after_s))))
    return [caller.events.get_nowait() for _ in range(caller.events.qsize())]


def pausing(words: str, **settings: Any) -> Callable[[], Parts]:
    pauses = replace(SETTINGS, pause_first=True, **settings)
    return lambda: Parts(pauses, chat=ChatModel(pauses), stt=Writes(words))


@pytest.mark.parametrize("words", ["Mhm.", "yes", "Okay, okay!", "uh huh"])
def test_a_murmur_pauses_the_agent_and_nothing_more(words: str) -> None:
    async def use(caller: Caller) -> None:
        assert await speak_over(caller, "yes") == [HoldPlayout(held=True), HoldPlayout(held=False)]

    on_a_call(use, pausing(words), turn_detection={"type": "server_vad"})


@pytest.mark.parametrize("words", ["stop", "yes but not today", "no"])
def test_words_make_the_agent_stop(words: str) -> None:
    async def use(caller: Caller) -> None:
        kinds = [type(event) for event in await speak_over(caller, "stop")]
        assert kinds == [HoldPlayout, SpeechStarted, HoldPlayout, SpeechStopped]

    on_a_call(use, pausing(words), turn_detection={"type": "server_vad"})


def test_who_speaks_long_is_not_waited_for() -> None:
    async def use(caller: Caller) -> None:
        held, started, let_go, *_ = await speak_over(caller, "I have been waiting for an hour now")
        assert (held, let_go) == (HoldPlayout(held=True), HoldPlayout(held=False))
        assert isinstance(started, SpeechStarted)

    on_a_call(use, pausing("mhm"), turn_detection={"type": "server_vad"})


def test_a_recogniser_that_fails_leaves_it_to_the_length() -> None:
    async def use(caller: Caller) -> None:
        assert await speak_over(caller, "yes") == [HoldPlayout(held=True), HoldPlayout(held=False)]
        started = [type(event) for event in await speak_over(caller, "what about tomorrow")]
        assert SpeechStarted in started

    on_a_call(use, pausing(""), turn_detection={"type": "server_vad"})


def test_a_murmur_while_nobody_speaks_is_a_turn() -> None:
    async def use(caller: Caller) -> None:
        await caller.speak(await caller.say("yes"))
        assert isinstance(await caller.next(), SpeechStarted)

    on_a_call(use, pausing("yes"), turn_detection={"type": "server_vad"})


def test_an_agent_not_to_be_interrupted_is_not_paused() -> None:
    async def use(caller: Caller) -> None:
        kinds = [type(event) for event in await speak_over(caller, "yes")]
        assert kinds == [SpeechStarted, SpeechStopped]

    detection = {"type": "server_vad", "interrupt_response": False}
    on_a_call(use, pausing("yes"), turn_detection=detection)


def test_other_terms_let_the_agent_go_on() -> None:
    async def use(caller: Caller) -> None:
        caller.backend.agent_speaking(True)
        await caller.speak((await caller.say("stop please"))[:24_000])
        assert await caller.next() == HoldPlayout(held=True)
        caller.backend.configure(session(None))
        assert await caller.next() == HoldPlayout(held=False)

    on_a_call(use, pausing("stop"), turn_detection={"type": "server_vad"})

"""Ends of turns where more is known than silence, and where less."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bridge.backends.base import Pcm, SpeechStarted, SpeechStopped
from bridge.backends.cascade.llm import ChatModel
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings
from bridge.backends.cascade.stt import Hints, Wanted
from bridge.errors import BackendError
from tests.backends.cascade.caller import Caller, on_a_call, silence

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

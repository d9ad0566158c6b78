import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pytest

from bridge.backends.base import (
    MODEL_RATE,
    AudioDelta,
    CallAction,
    Pcm,
    ResponseFailed,
    ResponseFinished,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    ToolCall,
    TranscriptCompleted,
    TranscriptFailed,
)
from bridge.backends.cascade.llm import ChatModel
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings
from bridge.backends.cascade.stt import Hints, Wanted
from bridge.backends.cascade.tts import OnWords
from bridge.errors import BackendError
from bridge.ids import ItemId, ResponseId
from tests.backends.cascade.caller import (
    SERVER_VAD,
    Caller,
    on_a_call,
    session,
    silence,
    spoken,
    text,
    typed,
)

HANG_UP = {"type": "function", "name": "hang_up"}


def test_a_whole_call_by_voice() -> None:
    async def use(caller: Caller) -> None:
        caller.ask("r0")
        answer = await caller.answer()
        assert text(answer).startswith("Hello")
        for number, words in enumerate(("sales please", "yes", "goodbye"), start=1):
            item_id = ItemId(f"i{number}")
            sound = await caller.say(words)
            caller.push(sound)
            assert isinstance(await caller.next(), SpeechStarted)
            assert isinstance(await caller.next(), SpeechStopped)
            caller.backend.transcribe(item_id, sound)
            caller.ask(f"r{number}", spoken(item_id))
            heard = await caller.next()
            assert heard == TranscriptCompleted(item_id, words, len(sound) / MODEL_RATE)
            answer = await caller.answer()
            assert any(isinstance(event, AudioDelta) for event in answer)
        assert CallAction(ResponseId("r3")) in answer
        assert text(answer) == "Thank you for calling. Goodbye."

    on_a_call(use, turn_detection=SERVER_VAD)


def test_turns_are_told_in_milliseconds_of_audio_pushed() -> None:
    async def use(caller: Caller) -> None:
        caller.push(silence(1.0))
        caller.backend.configure(session(SERVER_VAD))
        sound = await caller.say("goodbye")
        caller.push(sound)
        started, stopped = await caller.next(), await caller.next()
        assert isinstance(started, SpeechStarted)
        assert isinstance(stopped, SpeechStopped)
        assert 1000 <= started.audio_ms <= 1250
        end_ms = 1000 + len(sound) * 1000 // MODEL_RATE
        assert end_ms - 450 <= stopped.audio_ms <= end_ms

    on_a_call(use)


def test_without_turn_detection_nothing_is_told() -> None:
    async def use(caller: Caller) -> None:
        caller.backend.configure(session(SERVER_VAD))
        caller.backend.configure(session(None))
        caller.push(await caller.say("goodbye"))
        caller.ask("r", output_modalities=("text",))
        assert isinstance(await caller.next(), TextDelta)

    on_a_call(use)


def test_keys_are_turns() -> None:
    async def use(caller: Caller) -> None:
        assert caller.backend.capabilities.hears_dtmf
        caller.ask("r", typed("[dtmf] 3"))
        assert "Monday to Friday" in text(await caller.answer())

    on_a_call(use)


def test_text_only_is_not_spoken() -> None:
    async def use(caller: Caller) -> None:
        caller.ask("r", output_modalities=("text",))
        assert {type(event) for event in await caller.answer()} == {TextDelta, ResponseFinished}

    on_a_call(use)


def test_the_sound_is_at_the_models_rate() -> None:
    async def use(caller: Caller) -> None:
        caller.ask("r", typed("goodbye"))
        answer = await caller.answer()
        sound = np.concatenate([event.pcm for event in answer if isinstance(event, AudioDelta)])
        assert sound.dtype == np.int16
        assert 1.4 < len(sound) / MODEL_RATE < 2.6

    on_a_call(use)


def test_a_session_with_its_own_tools_is_asked_too() -> None:
    async def use(caller: Caller) -> None:
        transfer = {"type": "function", "name": "transfer_call"}
        caller.ask("r1", typed("sales"))
        await caller.answer()
        caller.ask("r2", typed("yes"), tools=(transfer,))
        (call,) = [event for event in await caller.answer() if isinstance(event, ToolCall)]
        assert (call.name, call.arguments) == ("transfer_call", '{"target": "sales"}')
        caller.ask("r3", typed("goodbye"), tools=(HANG_UP,))
        kinds = {type(event) for event in await caller.answer()}
        assert {ToolCall, CallAction} <= kinds

    on_a_call(use)


def test_nothing_follows_a_cancel() -> None:
    async def use(caller: Caller) -> None:
        caller.ask("r1")
        await caller.next()
        caller.cancel("r1")
        caller.cancel("r1")
        caller.conversation.clear()
        caller.ask("r2", typed("goodbye"))
        for event in await caller.answer():
            assert getattr(event, "response_id", None) == "r2"

    on_a_call(use)


class Broken:
    """Fails where it is asked to work."""

    async def start(self) -> None:
        pass

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted = Wanted()) -> str:
        raise BackendError("the recogniser failed")

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, on_words: OnWords | None = None
    ) -> AsyncGenerator[Pcm, None]:
        raise BackendError("the voice failed")
        yield np.empty(0, np.int16)

    async def close(self) -> None:
        pass


def test_a_voice_that_fails_fails_the_response() -> None:
    async def use(caller: Caller) -> None:
        caller.ask("r")
        answer = await caller.answer()
        assert answer[-1] == ResponseFailed(
            ResponseId("r"), "backend_unavailable", "the voice failed"
        )

    on_a_call(use, lambda: Parts(CascadeSettings(), tts=Broken()))


class HungUpOn(Broken):
    """Its caller hangs up with its last sound."""

    def __init__(self) -> None:
        self.hang_up: Callable[[], None] = lambda: None
        self.over = asyncio.Event()

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, on_words: OnWords | None = None
    ) -> AsyncGenerator[Pcm, None]:
        yield np.full(480, 1000, np.int16)
        for _ in range(50):  # the model has written all by then
            await asyncio.sleep(0)
        if text.endswith("Goodbye."):
            self.hang_up()
            self.over.set()


def test_a_cancel_with_the_last_sound_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    voice = HungUpOn()

    async def use(caller: Caller) -> None:
        voice.hang_up = lambda: caller.backend.cancel(ResponseId("r"))
        caller.ask("r", typed("goodbye"))
        await voice.over.wait()
        caller.ask("r2", typed("goodbye"), output_modalities=("text",))
        told = await caller.answer()
        assert any(isinstance(event, AudioDelta) for event in told)
        assert isinstance(told[-1], ResponseFinished)
        assert told[-1].response_id == "r2"

    on_a_call(use, lambda: Parts(CascadeSettings(), tts=voice))
    assert "task failed" not in caplog.text


def test_a_turn_not_heard_is_answered_all_the_same() -> None:
    async def use(caller: Caller) -> None:
        caller.ask("r0", output_modalities=("text",))
        await caller.answer()
        caller.backend.transcribe(ItemId("i"), silence(1.0))
        caller.ask("r", spoken("i"), output_modalities=("text",))
        assert await caller.next() == TranscriptFailed(ItemId("i"), "the recogniser failed")
        assert "only know my menu" in text(await caller.answer())

    on_a_call(use, lambda: Parts(CascadeSettings(), stt=Broken(), tts=Broken()))


def test_a_model_that_cannot_be_reached_fails_the_response() -> None:
    settings = CascadeSettings(llm_base_url="http://127.0.0.1:1/v1", llm_model="m")

    async def use(caller: Caller) -> None:
        assert not caller.backend.capabilities.greets
        caller.ask("r", typed("Hello"))
        (failed,) = await caller.answer()
        assert isinstance(failed, ResponseFailed)
        assert "cannot be reached" in failed.message

    on_a_call(use, lambda: Parts(settings, chat=ChatModel(settings), stt=Broken(), tts=Broken()))


def test_closing_in_the_middle_ends_everything() -> None:
    async def use(caller: Caller) -> None:
        caller.backend.transcribe(ItemId("i"), await caller.say("sales"))
        caller.ask("r", spoken("i"))
        await asyncio.sleep(0)
        await caller.backend.close()
        caller.backend.push_audio(silence(0.1))
        assert caller.events.empty()

    on_a_call(use, turn_detection=SERVER_VAD)


def test_semantic_vad_says_how_it_is_done(caplog: pytest.LogCaptureFixture) -> None:
    async def use(caller: Caller) -> None:
        pass

    with caplog.at_level("INFO"):
        on_a_call(use, turn_detection={"type": "semantic_vad", "eagerness": "high"})
    assert "no turn model" in caplog.text


def test_a_script_with_numbers_transfers_by_itself() -> None:
    path = Path(__file__).parents[3] / "config" / "reception.yaml"
    text_of_script = path.read_text(encoding="utf-8")
    with NamedTemporaryFile("w", suffix=".yaml") as always_open:
        always_open.write(re.sub(r"hours:\n  timezone.*?\n\n", "", text_of_script, flags=re.S))
        always_open.flush()

        async def use(caller: Caller) -> None:
            caller.ask("r1", typed("sales"))
            await caller.answer()
            caller.ask("r2", typed("yes"))
            answer = await caller.answer()
            transfer = CallAction(ResponseId("r2"), "transfer", "tel:+49301234501")
            assert transfer in answer
            assert not any(isinstance(event, ToolCall) for event in answer)

        on_a_call(use, lambda: Parts(CascadeSettings(script_path=always_open.name)))

"""A turn through servers of all three stages, over sockets: in time, late, broken and gone."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from bridge.backends.base import (
    MODEL_RATE,
    AudioDelta,
    BackendEvent,
    Pcm,
    ResponseFailed,
    ResponseFinished,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TranscriptCompleted,
    TranscriptDelta,
    TranscriptFailed,
    greeting_instructions,
)
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings, SttSettings, TtsSettings
from bridge.ids import ItemId, ResponseId
from tests.backends.cascade.caller import SERVER_VAD, Caller, on_a_call, spoken, text, typed
from tests.peers.models import CHARACTER_S, Fault, ModelServers

STAGES = ("endpointing_ms", "stt_ms", "first_token_ms", "first_audio_ms", "on_wire_ms")
APOLOGY = "I am sorry."
LATE_S = 1.0


def with_servers(
    server: ModelServers, use: Callable[[Caller], Awaitable[None]], stt: str = "openai", **more: Any
) -> None:
    url = server.base_url
    settings = CascadeSettings(
        stt=SttSettings(kind=stt, base_url=url, timeout_s=LATE_S),
        tts=TtsSettings(kind="openai", base_url=url, timeout_s=LATE_S),
        llm_base_url=url,
        llm_model="m",
        llm_timeout_s=LATE_S,
        apology=APOLOGY,
        **more,
    )
    on_a_call(use, lambda: Parts(settings), turn_detection=SERVER_VAD)


def sound(events: list[BackendEvent]) -> Pcm:
    pieces = [event.pcm for event in events if isinstance(event, AudioDelta)]
    return np.concatenate([np.empty(0, np.int16), *pieces])


def seconds(words: str) -> float:
    return CHARACTER_S * len(words)


async def turn(caller: Caller, words: str = "what time do you open") -> list[BackendEvent]:
    """Said, heard and answered; what came between the end of speech and the end of the answer."""
    sound = await caller.say(words)
    await caller.speak(sound)
    started, stopped = await caller.next(), await caller.next()
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    begin, end = (event.audio_ms * MODEL_RATE // 1000 for event in (started, stopped))
    caller.backend.transcribe(ItemId("i"), sound[begin:end])
    caller.ask("r", spoken("i"))
    return await caller.answer()


def test_a_turn_is_heard_answered_and_timed() -> None:
    async def use(caller: Caller) -> None:
        answer = await turn(caller)
        heard = answer[0]
        assert isinstance(heard, TranscriptCompleted)
        assert heard.transcript == "what time do you open"
        assert type(heard.transcript) is str
        assert text(answer) == "You said: what time do you open."
        usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
        assert answer[-1] == ResponseFinished(ResponseId("r"), None, usage)
        assert len(sound(answer)) / MODEL_RATE == pytest.approx(seconds(text(answer)), rel=0.05)
        record = caller.turn_times()
        assert set(record) == {*STAGES, "total_ms"}
        assert sum(record[stage] for stage in STAGES) == pytest.approx(record["total_ms"], abs=0.5)
        assert record["stt_ms"] >= 100
        assert record["first_token_ms"] >= 150
        assert record["first_audio_ms"] >= 50

    with ModelServers() as server:
        server.knobs.transcript_s = 0.1
        server.knobs.first_token_s = 0.15
        server.knobs.first_sound_s = 0.05
        with_servers(server, use)
        assert [asked.stage for asked in server.asked[1:]] == ["transcriptions", "chat", "speech"]


def test_the_voice_begins_with_the_first_clause_while_the_model_still_writes() -> None:
    async def use(caller: Caller) -> None:
        caller.ask("r", typed("hello"))
        answer = await caller.answer()
        first = next(n for n, event in enumerate(answer) if isinstance(event, AudioDelta))
        assert text(answer[:first]) == "Well, as far as I can tell, "
        assert text(answer) == "Well, as far as I can tell, we are open. Good bye."

    clauses = ["Well, as far as I can tell, ", "we are open. ", "Good bye."]
    with ModelServers() as server:
        server.knobs.reply = lambda _: clauses
        server.knobs.token_s = 0.05
        with_servers(server, use)
        spoken_texts = [asked.fields["input"] for asked in server.asked_of("speech")]
    assert spoken_texts == [APOLOGY, *(clause.strip() for clause in clauses)]


@pytest.mark.parametrize("kind", [Fault.REFUSES, Fault.STALLS])
@pytest.mark.parametrize("stage", ["transcriptions", "chat", "speech"])
def test_what_fails_once_is_asked_again(stage: str, kind: str) -> None:
    async def use(caller: Caller) -> None:
        server.knobs.faults[stage].append(Fault(kind))
        answer = await turn(caller)
        assert text(answer) == "You said: what time do you open."
        assert isinstance(answer[-1], ResponseFinished)
        assert caller.turn_times()["retries"] == 1

    with ModelServers() as server:
        with_servers(server, use)
        assert not server.knobs.faults[stage]


@pytest.mark.parametrize("kind", [Fault.REFUSES, Fault.STALLS, Fault.BABBLES])
@pytest.mark.parametrize("stage", ["chat", "speech"])
def test_what_fails_twice_is_apologised_for(stage: str, kind: str) -> None:
    async def use(caller: Caller) -> None:
        server.knobs.faults[stage].extend([Fault(kind), Fault(kind)])
        began = time.monotonic()
        answer = await turn(caller)
        took_s = time.monotonic() - began
        assert isinstance(answer[-1], ResponseFailed)
        assert text(answer) == APOLOGY
        assert len(sound(answer)) / MODEL_RATE == pytest.approx(seconds(APOLOGY), rel=0.05)
        assert caller.turn_times()["apologised"] is True
        assert took_s < 5.0 + 2 * LATE_S

    with ModelServers() as server:
        with_servers(server, use)


def test_what_can_never_succeed_is_asked_once() -> None:
    async def use(caller: Caller) -> None:
        server.knobs.faults["chat"].append(Fault(Fault.REFUSES, 401))
        caller.ask("r", typed("hello"))
        answer = await caller.answer()
        assert isinstance(answer[-1], ResponseFailed)
        assert "answered 401" in answer[-1].message
        assert text(answer) == APOLOGY

    with ModelServers() as server:
        with_servers(server, use)
        assert len(server.asked_of("chat")) == 1


def test_a_text_answer_that_fails_says_nothing() -> None:
    async def use(caller: Caller) -> None:
        server.knobs.faults["chat"].append(Fault(Fault.REFUSES, 401))
        caller.ask("r", typed("hello"), output_modalities=("text",))
        (failed,) = await caller.answer()
        assert isinstance(failed, ResponseFailed)

    with ModelServers() as server:
        with_servers(server, use)


def test_a_model_that_breaks_off_is_apologised_for_after_what_it_said() -> None:
    async def use(caller: Caller) -> None:
        server.knobs.faults["chat"].append(Fault(Fault.BREAKS))
        caller.ask("r", typed("hello"))
        answer = await caller.answer()
        assert isinstance(answer[-1], ResponseFailed)
        assert text(answer) == f"We are open. {APOLOGY}"

    with ModelServers() as server:
        server.knobs.reply = lambda _: ["We are open.", " Until five."]
        with_servers(server, use)


def test_a_recogniser_that_fails_twice_leaves_a_turn_without_words() -> None:
    async def use(caller: Caller) -> None:
        server.knobs.faults["transcriptions"].extend([Fault(Fault.REFUSES)] * 2)
        answer = await turn(caller)
        assert isinstance(answer[0], TranscriptFailed)
        assert text(answer) == "You said: (inaudible)."

    with ModelServers() as server:
        with_servers(server, use)


def test_a_recogniser_that_hears_along_has_the_words_at_the_end() -> None:
    async def use(caller: Caller) -> None:
        answer = await turn(caller)
        deltas = [event.delta for event in answer if isinstance(event, TranscriptDelta)]
        assert "".join(deltas) == "what time do you open"
        assert any(isinstance(event, TranscriptCompleted) for event in answer)
        assert text(answer) == "You said: what time do you open."

    with ModelServers() as server:
        with_servers(server, use, "openai-realtime")
        (asked,) = server.asked_of("realtime")
        assert asked.voiced_s > 0.5


@pytest.mark.parametrize("kind", [Fault.REFUSES, Fault.STALLS, Fault.BREAKS, Fault.BABBLES])
def test_what_was_not_heard_along_is_heard_again(kind: str) -> None:
    async def use(caller: Caller) -> None:
        server.knobs.faults["realtime"].append(Fault(kind))
        answer = await turn(caller)
        assert text(answer) == "You said: what time do you open."
        assert caller.turn_times()["retries"] == 1

    with ModelServers() as server:
        with_servers(server, use, "openai-realtime")


def test_the_greeting_is_made_once_before_it_is_wanted() -> None:
    greeting = "Hello, this is the workshop."

    async def use(caller: Caller) -> None:
        for number in range(2):
            caller.ask(f"r{number}", instructions=greeting_instructions(greeting))
            answer = await caller.answer()
            assert text(answer) == greeting
            assert len(sound(answer)) / MODEL_RATE == pytest.approx(seconds(greeting), rel=0.05)
            assert isinstance(answer[0], TextDelta)
        # Waits for what is being made.
        await caller.parts.phrases.prepare(APOLOGY, voice="")

    with ModelServers() as server:
        with_servers(server, use, greeting=greeting)
        assert [asked.fields["input"] for asked in server.asked] == [greeting, APOLOGY]


def test_an_answer_that_is_cancelled_lets_go_of_its_servers() -> None:
    async def use(caller: Caller) -> None:
        caller.ask("r", typed("tell me a story"))
        while not isinstance(await caller.next(), AudioDelta):
            pass
        caller.cancel("r")
        caller.ask("r2", typed("goodbye"), output_modalities=("text",))
        assert {getattr(event, "response_id", "") for event in await caller.answer()} == {"r2"}

    with ModelServers() as server:
        server.knobs.sound_pace = 1.0
        with_servers(server, use)
        assert server.open == 0

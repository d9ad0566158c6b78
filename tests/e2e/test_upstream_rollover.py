"""Sessions of the far end that are over before the call is."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import (
    Conversation,
    Stage,
    longest_gap_ms,
    staged,
    together,
    until,
)
from tests.peers.upstream_session import Session

pytestmark = pytest.mark.e2e

LIMIT_S = 8.0
PATIENCE_MS = 300
"""What a roll-over may add to a silence."""
ANSWERED_MS = 450
"""The far end's detector takes 300 of it."""
TRANSCRIBED = {
    "type": "realtime",
    "audio": {"input": {"transcription": {"model": "whisper-1"}}},
}


async def play(scenario: Callable[[Stage, Conversation], Awaitable[None]], far: Upstream) -> None:
    async with staged(far, {"upstream.session_limit_s": LIMIT_S}) as stage:
        talk = Conversation(await stage.call())
        await scenario(stage, talk)
        talk.phone.hangup()
        await asyncio.wait_for(talk.phone.ended.wait(), 3)
        await talk.phone.close()


def seeds(session: Session) -> list[tuple[str, str]]:
    """Who said what, of what the session was told before its first sound."""
    told = []
    for event in session.received:
        if event["type"] == "input_audio_buffer.append":
            break
        if event["type"] == "conversation.item.create":
            item = event["item"]
            told.append((item["role"], item["content"][0]["text"]))
    return told


async def rolled(stage: Stage) -> None:
    """The second session has the call."""
    sessions = stage.upstream.sessions
    assert await until(lambda: len(sessions) == 2 and bool(sessions[1].audio), LIMIT_S + 1)
    assert await until(lambda: stage.upstream.connections == 1, 1)


async def in_a_silence() -> None:
    async def scenario(stage: Stage, talk: Conversation) -> None:
        async with stage.sideband() as sideband:
            await sideband.send("session.update", session=TRANSCRIBED)
            assert await talk.turn(answer_ms=1000)
            await rolled(stage)
            assert await talk.turn(answer_ms=1000)
            assert "error" not in sideband.types
        first, second = stage.upstream.sessions
        before, after = talk.waits_ms()
        print(f"\nanswered after {before} ms, and after the roll-over {after} ms")
        assert after <= before + PATIENCE_MS
        assert first.refused == second.refused == []
        assert second.config["instructions"] == first.config["instructions"]
        (role, words), (speaker, answer) = seeds(second)
        assert (role, words) == ("user", "turn 1")
        assert speaker == "assistant"
        assert answer.startswith("word0 word1 ")

    await play(scenario, Upstream(limit_s=LIMIT_S, answer_ms=1000))


async def in_the_middle_of_an_answer() -> None:
    """The model says it no faster than it sounds, and no silence comes."""

    async def scenario(stage: Stage, talk: Conversation) -> None:
        await asyncio.sleep(LIMIT_S / 2)
        assert await talk.turn(answer_ms=3500)
        print(f"\nlongest hole {longest_gap_ms(talk.phone)} ms")
        assert longest_gap_ms(talk.phone) <= PATIENCE_MS
        first, second = stage.upstream.sessions
        assert first.refused == second.refused == []
        # It goes on where the caller stopped hearing it.
        (order,) = [e for e in second.received if e["type"] == "response.create"]
        assert "word0 word1 " in order["response"]["instructions"]

    await play(scenario, Upstream(limit_s=LIMIT_S, answer_ms=3500, speed=1.05))


async def in_the_middle_of_a_turn() -> None:
    async def scenario(stage: Stage, talk: Conversation) -> None:
        await talk.speak(LIMIT_S + 2)
        assert await until(lambda: talk.heard_ms() >= 1900, 5)
        (wait,) = talk.waits_ms()
        print(f"\nanswered after {wait} ms")
        assert wait <= ANSWERED_MS + PATIENCE_MS
        second = stage.upstream.sessions[1]
        # All of it is one turn there.
        assert second.sent.count("input_audio_buffer.speech_started") == 1
        heard_s = (np.abs(second.heard.astype(int)) > 1000).sum() / 24_000
        assert heard_s > (LIMIT_S + 2) * 0.7

    await play(scenario, Upstream(limit_s=LIMIT_S))


def test_sessions_that_are_over_first() -> None:
    asyncio.run(together(in_a_silence(), in_the_middle_of_an_answer(), in_the_middle_of_a_turn()))

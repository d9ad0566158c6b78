"""Phone calls relayed to a Realtime server that shares no code with ours, and what its faults cost.

`upstream_faults` plays every fault at every event; here are the ones that differ.
"""

import asyncio
from asyncio import Barrier
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import pytest

from tests.e2e.upstream_drops import wave
from tests.e2e.upstream_faults import at_once
from tests.peers import speech
from tests.peers.phone import Phone, encode
from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import (
    AUDIBLE,
    Conversation,
    Stage,
    longest_gap_ms,
    loud_ms,
    said,
    staged,
    together,
    until,
)
from tests.peers.upstream_rules import Fault, FaultKind

pytestmark = pytest.mark.e2e

HEARD = "conversation.item.input_audio_transcription"
LOGPROBS = "item.input_audio_transcription.logprobs"


async def play(
    scenario: Callable[[Stage], Awaitable[None]],
    upstream: Upstream | None = None,
    *,
    start: Barrier | None = None,
    **overrides: Any,
) -> None:
    """`overrides` are settings, with __ for each dot. A service that starts keeps the loop busy:
    calls that must not notice begin after `start`."""
    wanted: Mapping[str, Any] = {k.replace("__", "."): v for k, v in overrides.items()}
    async with staged(upstream, wanted) as stage:
        if start is not None:
            await start.wait()
        await scenario(stage)


async def turn(stage: Stage) -> Phone:
    """A call of one turn."""
    phone = await stage.call()
    await Conversation(phone).turn()
    phone.hangup()
    await asyncio.wait_for(phone.ended.wait(), 3)
    await phone.close()
    return phone


async def a_turn_and_what_a_sideband_sees(start: Barrier, seen: list[dict[str, Any]]) -> None:
    async def scenario(stage: Stage) -> None:
        phone = await stage.call()
        async with stage.sideband() as sideband:
            hearing = {"input": {"transcription": {"model": "whisper-1"}}}
            asked = {"type": "realtime", "audio": hearing, "include": [LOGPROBS]}
            await sideband.send("session.update", session=asked)
            await Conversation(phone).turn()
            phone.hangup()
            await sideband.ended()
        await phone.close()
        seen.extend(sideband.events)
        heard = await sideband.wait_for(f"{HEARD}.completed")
        assert heard["transcript"] == "turn 1"
        assert heard["logprobs"] == [{"token": "turn", "logprob": -0.25, "bytes": [*b"turn"]}]
        for kind in (
            "session.created",
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "response.created",
            "output_audio_buffer.started",
            "response.done",
            "output_audio_buffer.stopped",
        ):
            assert kind in sideband.types, kind
        assert longest_gap_ms(phone) == 0
        assert 1900 <= loud_ms(phone) <= 2100
        (session,) = stage.upstream.sessions
        assert session.refused == []
        # All of the caller's second arrived there.
        assert (np.abs(session.heard.astype(int)) > 1000).sum() / 24_000 > 0.7

    await play(scenario, start=start)


async def mu_law_passes_as_it_was_sent_both_ways(start: Barrier) -> None:
    async def scenario(stage: Stage) -> None:
        phone = await turn(stage)
        (session,) = stage.upstream.sessions
        got = b"".join(session.coded)
        # Every octet in its order: nothing was decoded and coded again on the way.
        assert encode(said()) in got
        answer = b"".join(session.spoken)
        assert len(answer) == 8 * stage.upstream.answer_ms
        assert answer in b"".join(packet.payload for packet in phone.packets)

    await play(scenario, start=start, upstream__audio="pcmu")


async def babble(start: Barrier) -> None:
    fault = "babble@response.output_audio.delta#3"

    async def scenario(stage: Stage) -> None:
        phone = await turn(stage)
        print(f"\n{fault}: longest gap {longest_gap_ms(phone)} ms, {loud_ms(phone)} ms of tone")
        assert loud_ms(phone) >= 1900
        assert longest_gap_ms(phone) <= 40

    await play(scenario, start=start, session__instructions=f"fault={fault}")


async def an_ear_of_our_own_is_faster_than_a_server_far_away(start: Barrier) -> None:
    voice = speech.samples("Wait a moment please.")

    async def scenario(stage: Stage) -> None:
        talk = Conversation(await stage.call())
        async with stage.sideband() as sideband:
            await talk.speak(0.5)
            assert await until(lambda: talk.heard_ms() > 300, 5)
            talk.phone.say(voice)
            await sideband.wait_for("input_audio_buffer.speech_started", count=2)
            # It says so half a second after it was said.
            loud = [p.arrived_at for p, x in zip(talk.phone.packets, talk.levels, strict=True)
                    if x > AUDIBLE]  # fmt: skip
            assert loud[-1] < talk.phone.loop.time() - 0.1
            await sideband.wait_for("conversation.item.truncated")
            talk.phone.hangup()
            await sideband.ended()
        await talk.phone.close()

    far = Upstream(away_s=0.25, answer_ms=4000)
    await play(scenario, far, start=start, upstream__local_vad=True)


def test_calls_that_go_well(conforms: Callable[[dict[str, Any]], None]) -> None:
    seen: list[dict[str, Any]] = []
    start = Barrier(4)
    asyncio.run(
        together(
            a_turn_and_what_a_sideband_sees(start, seen),
            mu_law_passes_as_it_was_sent_both_ways(start),
            babble(start),
            an_ear_of_our_own_is_faster_than_a_server_far_away(start),
        )
    )
    # Not before: it takes its time, and would make the calls late.
    assert seen
    for event in seen:
        conforms(event)


FAULTS: Mapping[tuple[str, FaultKind], dict[str, int]] = {
    ("session.created", "die"): {"gap_ms": 800},
    ("response.output_audio.delta", "die"): {"hole_ms": 300},
    ("response.output_audio.delta", "stall"): {"gap_ms": 2700},
    ("response.output_audio.delta", "hang"): {"gap_ms": 2700},
    ("conversation.item.truncated", "die"): {"gap_ms": 1500},
    ("input_audio_buffer.speech_started", "close"): {"hole_ms": 5000},
    ("response.created", "hang"): {"gap_ms": 6500, "dead_ms": 3000},
    ("session.updated", "die"): {"hole_ms": 5000},
}
"""What each may cost at most. The last connects anew when others may be about to."""
DEAD_MS = 1600
"""Nobody listens to a dead line for longer, unless there may be an answer yet."""


async def what_faults_cost_and_leave() -> None:
    outcomes = await at_once(list(FAULTS), stall_timeout_s=5.0)
    for outcome, most in zip(outcomes, FAULTS.values(), strict=True):
        print(f"\n{outcome.row()}")
        assert outcome.whole, outcome
        assert outcome.gap_ms >= 0
        assert outcome.heard_ms >= 3800
        assert outcome.gap_ms <= most.get("gap_ms", 5000)
        assert outcome.hole_ms <= most.get("hole_ms", 5000)
        assert outcome.dead_ms <= most.get("dead_ms", DEAD_MS)


def test_what_faults_cost_and_leave() -> None:
    asyncio.run(together(what_faults_cost_and_leave()))


async def a_flood() -> None:
    (outcome,) = await at_once([("response.created", "flood")])
    print(f"\n{outcome.row()}")
    assert outcome.whole, outcome
    assert 0 <= outcome.gap_ms <= 3000
    assert outcome.dead_ms <= DEAD_MS


async def ten_calls_survive_the_loss_of_their_model() -> None:
    async def scenario(stage: Stage) -> None:
        drops = await wave(stage.upstream, ("127.0.0.1", stage.sip_port), 10)
        gaps = sorted(drop.hole_ms for drop in drops)
        print(f"\nlongest gaps in ms: {gaps}")
        assert all(drop.survived and drop.heard_ms >= 1900 for drop in drops)

    await play(scenario, Upstream(fault=Fault("die", "response.output_audio.delta", 4)))


async def an_upstream_that_refuses_is_no_dead_air(status: int, answer: int) -> None:
    async def scenario(stage: Stage) -> None:
        phone = await stage.phone()
        phone.invite()
        await asyncio.wait_for(phone.final.wait(), 6)
        assert phone.statuses[-1] == answer
        await phone.close()

    await play(scenario, Upstream(status=status))


async def words_before_the_model_is_there_are_not_lost() -> None:
    async def scenario(stage: Stage) -> None:
        phone = await turn(stage)
        assert loud_ms(phone) >= 1900
        heard = np.concatenate([session.heard for session in stage.upstream.sessions])
        assert (np.abs(heard.astype(int)) > 1000).sum() / 24_000 > 0.7

    await play(scenario, Upstream(late_s=1.5))


def test_calls_that_begin_badly_or_lose_their_model_together() -> None:
    refusals = {401: 503, 429: 480, 503: 503}
    asyncio.run(
        together(
            words_before_the_model_is_there_are_not_lost(),
            ten_calls_survive_the_loss_of_their_model(),
            *(an_upstream_that_refuses_is_no_dead_air(*each) for each in refusals.items()),
        )
    )


def test_a_flood() -> None:
    # Alone: the far end, which runs here too, is as busy with it.
    asyncio.run(together(a_flood()))


def test_the_key_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    asyncio.run(an_upstream_that_refuses_is_no_dead_air(401, 503))
    # The far end writes down what it was sent.
    ours = [r.getMessage() for r in caplog.records if r.name != "websockets.server"]
    assert ours
    assert not [text for text in ours if "sk-upstream" in text]

"""Phone calls relayed to a Realtime server that shares no code with ours, and what its faults cost.

`upstream_faults` plays every fault at every event; here are the ones that differ.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import pytest

from tests.e2e.upstream_drops import wave
from tests.e2e.upstream_faults import cell
from tests.peers.phone import Phone, encode
from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import (
    Conversation,
    Stage,
    longest_gap_ms,
    loud_ms,
    relay_tasks,
    said,
    staged,
)
from tests.peers.upstream_rules import Fault, FaultKind

pytestmark = pytest.mark.e2e

HEARD = "conversation.item.input_audio_transcription"
LOGPROBS = "item.input_audio_transcription.logprobs"


def play(
    scenario: Callable[[Stage], Awaitable[None]],
    upstream: Upstream | None = None,
    **overrides: Any,
) -> None:
    """`overrides` are settings, with __ for each dot."""
    wanted: Mapping[str, Any] = {k.replace("__", "."): v for k, v in overrides.items()}

    async def main() -> None:
        async with staged(upstream, wanted) as stage:
            await scenario(stage)
        assert not relay_tasks()

    asyncio.run(main())


async def turn(stage: Stage) -> Phone:
    """A call of one turn."""
    phone = await stage.call()
    await Conversation(phone).turn()
    phone.hangup()
    await asyncio.wait_for(phone.ended.wait(), 3)
    await phone.close()
    return phone


def test_a_turn_and_what_a_sideband_sees(conforms: Callable[[dict[str, Any]], None]) -> None:
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
        for event in sideband.events:
            conforms(event)
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

    play(scenario)


def test_mu_law_passes_as_it_was_sent_both_ways() -> None:
    async def scenario(stage: Stage) -> None:
        phone = await turn(stage)
        (session,) = stage.upstream.sessions
        got = b"".join(session.coded)
        # Every octet in its order: nothing was decoded and coded again on the way.
        assert encode(said()) in got
        answer = b"".join(session.spoken)
        assert len(answer) == 8 * stage.upstream.answer_ms
        assert answer in b"".join(packet.payload for packet in phone.packets)

    play(scenario, upstream__audio="pcmu")


@pytest.mark.parametrize(
    ("fault", "gap_ms"),
    [
        ("die@response.output_audio.delta#4", 300),
        ("babble@response.output_audio.delta#3", 40),
        ("close@input_audio_buffer.speech_started#1", 5000),
        ("die@session.updated#1", 5000),
    ],
)
def test_the_answer_is_heard_whatever_the_upstream_does(fault: str, gap_ms: int) -> None:
    async def scenario(stage: Stage) -> None:
        phone = await turn(stage)
        print(f"\n{fault}: longest gap {longest_gap_ms(phone)} ms, {loud_ms(phone)} ms of tone")
        assert loud_ms(phone) >= 1900
        assert longest_gap_ms(phone) <= gap_ms

    play(scenario, session__instructions=f"fault={fault}")


@pytest.mark.parametrize(
    ("event", "fault", "gap_ms"),
    [
        ("session.created", "die", 800),
        ("response.created", "flood", 3000),
        ("response.output_audio.delta", "stall", 2700),
        ("response.output_audio.delta", "hang", 2700),
        ("conversation.item.truncated", "die", 1500),
    ],
)
def test_what_a_fault_costs_and_leaves(event: str, fault: FaultKind, gap_ms: int) -> None:
    outcome = cell(event, fault)
    print(f"\n{outcome.row()}")
    assert outcome.whole, outcome
    assert 0 <= outcome.gap_ms <= gap_ms
    # Nobody listens to a dead line meanwhile.
    assert outcome.dead_ms <= 1600


def test_ten_calls_survive_the_loss_of_their_model() -> None:
    async def scenario(stage: Stage) -> None:
        drops = await wave(stage.upstream, ("127.0.0.1", stage.sip_port), 10)
        gaps = sorted(drop.hole_ms for drop in drops)
        print(f"\nlongest gaps in ms: {gaps}")
        assert all(drop.survived and drop.heard_ms >= 1900 for drop in drops)

    play(scenario, Upstream(fault=Fault("die", "response.output_audio.delta", 4)))


@pytest.mark.parametrize(("status", "answer"), [(401, 503), (429, 480), (503, 503)])
def test_an_upstream_that_refuses_is_no_dead_air(status: int, answer: int) -> None:
    async def scenario(stage: Stage) -> None:
        phone = await stage.phone()
        phone.invite()
        await asyncio.wait_for(phone.final.wait(), 6)
        assert phone.statuses[-1] == answer
        await phone.close()

    play(scenario, Upstream(status=status))


def test_words_before_the_model_is_there_are_not_lost() -> None:
    async def scenario(stage: Stage) -> None:
        phone = await turn(stage)
        assert loud_ms(phone) >= 1900
        heard = np.concatenate([session.heard for session in stage.upstream.sessions])
        assert (np.abs(heard.astype(int)) > 1000).sum() / 24_000 > 0.7

    play(scenario, Upstream(late_s=1.5))


def test_the_key_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(stage: Stage) -> None:
        phone = await stage.phone()
        phone.invite()
        await asyncio.wait_for(phone.final.wait(), 6)
        await phone.close()

    caplog.set_level("DEBUG")
    play(scenario, Upstream(status=401))
    # The far end writes down what it was sent.
    ours = [r.getMessage() for r in caplog.records if r.name != "websockets.server"]
    assert ours
    assert not [text for text in ours if "sk-upstream" in text]

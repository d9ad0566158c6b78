"""Phone calls relayed to a Realtime server that shares no code with ours, and what its faults cost.

The far end answers each turn with a steady tone: every hole in it is a hole of ours.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from bridge.app import running
from bridge.settings import load
from tests.peers.phone import Phone
from tests.peers.upstream import Upstream
from tests.ports import free_port

pytestmark = pytest.mark.e2e

FRAME = 160
LOUD = 500


@dataclass
class Stage:
    upstream: Upstream
    sip_port: int
    service: Any

    async def phone(self) -> Phone:
        return await Phone(("127.0.0.1", self.sip_port)).open()


def settings(upstream: Upstream, sip_port: int, instructions: str) -> dict[str, Any]:
    return {
        "session.backend": "upstream",
        "upstream.url": upstream.url,
        "upstream.api_key": "sk-upstream",
        "upstream.model": "m",
        "http.port": 0,
        "sip.udp_port": sip_port,
        "sip.tcp_port": 0,
        "rtp.port_min": 30_000,
        "rtp.port_max": 30_200,
        "session.instructions": instructions,
    }


def play(
    scenario: Callable[[Stage], Awaitable[None]],
    upstream: Upstream | None = None,
    *,
    instructions: str = "",
) -> None:
    async def main() -> None:
        async with upstream or Upstream() as far:
            port = free_port()
            config = load(environment={}, overrides=settings(far, port, instructions))
            async with running(config) as service:
                await scenario(Stage(far, port, service))
            await asyncio.sleep(0.5)
            assert not far.connections
            left = [task.get_name() for task in asyncio.all_tasks()]
            assert not [name for name in left if name.startswith("relay")], left

    asyncio.run(main())


def said() -> NDArray[np.int16]:
    """One second of the caller's."""
    return (np.sin(np.arange(8000) * 2 * np.pi * 300 / 8000) * 6000).astype(np.int16)


def levels(phone: Phone) -> NDArray[np.float64]:
    heard = phone.heard().astype(float)
    means: NDArray[np.float64] = (
        np.abs(heard[: len(heard) // FRAME * FRAME]).reshape(-1, FRAME).mean(axis=1)
    )
    return means


def longest_gap_ms(phone: Phone) -> int:
    """Of quiet between the first and the last loud frame."""
    loud = np.flatnonzero(levels(phone) > LOUD)
    return 0 if len(loud) < 2 else int((np.diff(loud).max() - 1) * 20)


def loud_ms(phone: Phone) -> int:
    return int((levels(phone) > LOUD).sum() * 20)


async def turn(stage: Stage, *, wait_s: float = 5.0) -> Phone:
    phone = await stage.phone()
    await phone.call()
    phone.say(said())
    await asyncio.sleep(wait_s)
    phone.hangup()
    await asyncio.sleep(0.3)
    await phone.close()
    return phone


def test_a_turn_and_what_a_sideband_sees(conforms: Callable[[dict[str, Any]], None]) -> None:
    async def scenario(stage: Stage) -> None:
        phone = await stage.phone()
        await phone.call()
        http = stage.service.http_url.replace("http://", "ws://")
        call_id = stage.service.switchboard.live()[0]["id"]
        events: list[dict[str, Any]] = []

        async def watch() -> None:
            async with connect(f"{http}/v1/realtime?call_id={call_id}") as socket:
                events.extend([json.loads(text) async for text in socket])

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.3)
        phone.say(said())
        await asyncio.sleep(5)
        phone.hangup()
        await asyncio.wait_for(watching, 3)
        await phone.close()
        for event in events:
            conforms(event)
        kinds = [event["type"] for event in events]
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
            assert kind in kinds, kind
        assert longest_gap_ms(phone) == 0
        assert 1900 <= loud_ms(phone) <= 2100
        (session,) = stage.upstream.sessions
        assert session.refused == []
        # All of the caller's second arrived there.
        assert (np.abs(session.heard.astype(int)) > 1000).sum() / 24_000 > 0.7

    play(scenario)


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
        phone = await turn(stage, wait_s=7.0)
        print(f"\n{fault}: longest gap {longest_gap_ms(phone)} ms, {loud_ms(phone)} ms of tone")
        assert loud_ms(phone) >= 1900
        assert longest_gap_ms(phone) <= gap_ms

    play(scenario, instructions=f"fault={fault}")


def test_ten_calls_survive_the_loss_of_their_model() -> None:
    async def scenario(stage: Stage) -> None:
        phones = await asyncio.gather(*(turn(stage, wait_s=7.0) for _ in range(10)))
        gaps = sorted(longest_gap_ms(phone) for phone in phones)
        print(f"\nlongest gaps in ms: {gaps}")
        assert all(loud_ms(phone) >= 1900 for phone in phones)

    play(scenario, instructions="fault=die@response.output_audio.delta#4")


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
        phone = await turn(stage, wait_s=6.0)
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

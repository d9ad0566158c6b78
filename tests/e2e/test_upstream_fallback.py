"""What becomes of a phone call whose model is lost and does not come back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.peers import speech
from tests.peers.phone import Phone
from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import (
    AUDIBLE,
    FRAME,
    FRAME_MS,
    LOUD,
    Conversation,
    Stage,
    said,
    staged,
    together,
    until,
)
from tests.peers.upstream_rules import Fault

pytestmark = pytest.mark.e2e

TRIES_S = 0.25 + 0.5 + 1 + 2
"""How long the model is called again."""


class Engaged(Phone):
    """Whom it is to call is busy."""

    def _notify(self, state: str, status: str) -> None:
        over = state.startswith("terminated")
        super()._notify(state, "486 Busy Here" if over else status)


async def play(
    scenario: Callable[[Stage, Conversation], Awaitable[None]],
    kind: type[Phone] = Phone,
    **overrides: Any,
) -> None:
    """A call whose model dies in the middle of its first answer, and then takes nobody."""
    wanted = {f"upstream.{name}": value for name, value in overrides.items()}

    far = Upstream(fault=Fault("die", "response.output_audio.delta", 4))
    async with staged(far, wanted) as stage:
        phone = await kind(("127.0.0.1", stage.sip_port)).open()
        talk = Conversation(await phone.call())
        far.status = 503
        await talk.speak()
        await scenario(stage, talk)
        await phone.close()


def pitch(phone: Phone, last_ms: int) -> int:
    """Of the loudest tone lately heard, in Hz."""
    heard = phone.heard()[-last_ms * FRAME // FRAME_MS :].astype(float)
    if not len(heard):
        return 0
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    return round(int(spectrum.argmax()) * 8000 / len(heard))


async def an_apology_and_bye(tmp_path: Path) -> None:
    apology = tmp_path / "sorry.wav"
    n = np.arange(16_000)
    speech.write(apology, (np.sin(n * 2 * np.pi * 900 / 16_000) * 8000).astype(np.int16), 16_000)

    async def scenario(stage: Stage, talk: Conversation) -> None:
        phone = talk.phone
        began = phone.loop.time()
        await asyncio.wait_for(phone.ended.wait(), TRIES_S + 6)
        assert phone.ended_at - began > TRIES_S
        # What the model had said, and all of the apology.
        assert talk.heard_ms() >= 400 + 960
        loud = [p.arrived_at for p, level in zip(phone.packets, talk.levels, strict=True)
                if level > LOUD]  # fmt: skip
        assert 0 <= phone.ended_at - loud[-1] < 0.5
        assert pitch(phone, 600) == pytest.approx(900, abs=10)
        assert len(stage.upstream.sessions) == 1

    await play(scenario, apology=str(apology))


async def a_congestion_tone_where_there_is_no_apology() -> None:
    async def scenario(stage: Stage, talk: Conversation) -> None:
        await asyncio.wait_for(talk.phone.ended.wait(), TRIES_S + 6)
        assert pitch(talk.phone, 1000) == pytest.approx(425, abs=10)

    await play(scenario)


async def a_transfer() -> None:
    async def scenario(stage: Stage, talk: Conversation) -> None:
        await asyncio.wait_for(talk.phone.ended.wait(), TRIES_S + 6)
        assert talk.phone.referred_to == ["<sip:desk@pbx.example>"]

    await play(scenario, fallback="transfer", fallback_target="sip:desk@pbx.example")


async def a_transfer_that_fails_ends_with_an_apology() -> None:
    async def scenario(stage: Stage, talk: Conversation) -> None:
        await asyncio.wait_for(talk.phone.ended.wait(), TRIES_S + 8)
        assert len(talk.phone.referred_to) == 1
        assert pitch(talk.phone, 1000) == pytest.approx(425, abs=10)

    await play(scenario, Engaged, fallback="transfer", fallback_target="sip:desk@pbx.example")


async def another_backend() -> None:
    async def scenario(stage: Stage, talk: Conversation) -> None:
        phone = talk.phone
        await asyncio.sleep(TRIES_S + 1)
        assert not phone.ended.is_set()
        phone.say(said())
        # Its own voice, from the echo.
        assert await until(lambda: pitch(phone, 400) == 300, 3)
        phone.hangup()
        await asyncio.wait_for(phone.ended.wait(), 3)

    await play(scenario, fallback="echo")


async def the_scripted_receptionist_takes_the_call() -> None:
    async def scenario(stage: Stage, talk: Conversation) -> None:
        phone = talk.phone
        async with stage.sideband() as sideband:
            await asyncio.sleep(TRIES_S + 1)
            silent = len(talk.levels)
            await sideband.send("response.create")
            await sideband.wait_for("output_audio_buffer.started", timeout_s=15)
            assert await until(lambda: sum(x > AUDIBLE for x in talk.levels[silent:]) > 25, 5)
            # Whoever joins now finds the conversation as it was heard.
            assert "error" not in sideband.types
            phone.hangup()
            await sideband.ended()

    await play(scenario, fallback="cascade")


async def another_backend_for_a_model_that_was_never_there() -> None:
    async with staged(Upstream(status=503), {"upstream.fallback": "echo"}) as stage:
        phone = await stage.call()
        phone.say(said())
        assert await until(lambda: pitch(phone, 400) == 300, 3)
        phone.hangup()
        await asyncio.wait_for(phone.ended.wait(), 3)
        await phone.close()


WITHOUT_A_FILE = (
    a_congestion_tone_where_there_is_no_apology,
    a_transfer,
    a_transfer_that_fails_ends_with_an_apology,
    another_backend,
    the_scripted_receptionist_takes_the_call,
    another_backend_for_a_model_that_was_never_there,
)


def test_calls_whose_model_does_not_come_back(tmp_path: Path) -> None:
    others = (each() for each in WITHOUT_A_FILE)
    asyncio.run(together(an_apology_and_bye(tmp_path), *others))

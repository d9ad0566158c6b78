"""A phone call whose every stage is a server of its own, from the greeting to the record."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE
from bridge.backends.cascade.tts import EspeakVoice
from tests.peers.models import CHARACTER_S, Fault, Knobs, ModelServers
from tests.peers.phone import Phone, Samples
from tests.peers.service import Service

pytestmark = pytest.mark.e2e

GREETING = "Hello, the workshop."
QUESTION = "are you open"
LOUD = 1000
STAGES = (
    *("line_ms", "endpointing_ms", "stt_ms"),
    *("first_token_ms", "first_audio_ms", "on_wire_ms"),
)


async def speech(words: str) -> Samples:
    voice = EspeakVoice()
    try:
        pieces = [pcm async for pcm in voice.speak(words, voice="en-gb")]
    finally:
        await voice.close()
    return Resampler(MODEL_RATE, 8000).process(np.concatenate(pieces))


def loud_s(phone: Phone, since: int = 0) -> float:
    return sum(packet.peak > LOUD for packet in phone.packets[since:]) * 0.02


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while True:
            await asyncio.sleep(0.02)
            if happened():
                return


async def until_quiet(phone: Phone, since: int = 0, quiet: int = 25) -> float:
    """Seconds that the agent has spoken, once it has been silent for so many packets."""
    await until(lambda: loud_s(phone, since) > 0 and not loud_s(phone, -quiet))
    return loud_s(phone, since)


def seconds(words: str) -> float:
    return CHARACTER_S * len(words)


async def ask(phone: Phone) -> float:
    """A question of the caller's; seconds of sound that answer it."""
    begin = len(phone.packets)
    phone.say(await speech(QUESTION))
    return await until_quiet(phone, begin)


async def murmur(phone: Phone, server: ModelServers) -> None:
    """Whoever says "mhm" to the agent hears all of its answer, and a pause in it."""
    answer = "x" * 60 + "."
    server.knobs.reply = lambda _: [answer]
    begin = len(phone.packets)
    phone.say(await speech(QUESTION))
    await until(lambda: loud_s(phone, begin) > 0.5)
    server.knobs.words = "Mhm."
    phone.say(await speech("mhm yes"))
    await until(lambda: loud_s(phone, begin) > seconds(answer) - 0.1)
    assert await until_quiet(phone, begin) == pytest.approx(seconds(answer), abs=0.1)
    loud = "".join("x" if packet.peak > LOUD else " " for packet in phone.packets[begin:])
    assert len(loud.split()) == 2


def settings(server: ModelServers) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name, kind in (("stt", "openai"), ("tts", "openai")):
        parts |= {f"cascade__{name}__kind": kind, f"cascade__{name}__base_url": server.base_url}
    llm = {"cascade__llm__base_url": server.base_url, "cascade__llm__model": "m"}
    parts |= {"cascade__turn__pause_first": "true"}
    return parts | llm | {"cascade__apology": "I am sorry.", "session__greeting": GREETING}


def test_a_call_is_greeted_answered_and_apologised_to() -> None:
    async def call(service: Service) -> list[dict[str, Any]]:
        phone = await Phone(service.sip).open()
        await phone.call()
        assert await until_quiet(phone) == pytest.approx(seconds(GREETING), abs=0.2)
        said = "You said: are you open."
        assert await ask(phone) == pytest.approx(seconds(said), abs=0.2)
        server.knobs.faults["chat"].extend([Fault(Fault.REFUSES), Fault(Fault.BABBLES)])
        assert await ask(phone) == pytest.approx(seconds("I am sorry."), abs=0.2)
        await murmur(phone, server)
        (live,) = service.calls()
        phone.hangup()
        await phone.ended.wait()
        await phone.close()
        ended = httpx2.get(f"{service.base_url}/realtime/calls/{live['id']}").json()
        assert ended["turns"] == live["turns"]
        turns: list[dict[str, Any]] = ended["turns"]
        return turns

    knobs = Knobs(words=QUESTION)
    with ModelServers(knobs) as server, Service(**settings(server)) as service:
        first, second, third = asyncio.run(call(service))
        asked, again, *_ = server.asked_of("transcriptions")
    assert asked.voiced_s > 0.5
    assert again.voiced_s > 0.5
    stages = (
        "line_ms",
        "endpointing_ms",
        "stt_ms",
        "first_token_ms",
        "first_audio_ms",
        "on_wire_ms",
    )
    assert sum(first[stage] for stage in stages) == pytest.approx(first["total_ms"], abs=0.5)
    assert set(third) == set(first)
    assert second["apologised"] is True
    assert second["retries"] == 1


def test_the_reception_transfers_a_caller_who_presses_keys(tmp_path: Path) -> None:
    reception = Path(__file__).parents[2] / "config" / "reception.yaml"
    always_open = tmp_path / "reception.yaml"
    always_open.write_text(
        re.sub(r"hours:\n  timezone.*?\n\n", "", reception.read_text(), flags=re.S)
    )
    trunk = {"addresses": ["127.0.0.1"], "uri": "sip:127.0.0.1", "prefixes": ["+4930"]}

    async def call(service: Service) -> Phone:
        phone = await Phone(service.sip).open()
        await phone.call()
        await until(lambda: loud_s(phone) > 0.2)
        phone.press("1")
        await until(lambda: not loud_s(phone, -10))
        phone.press("1")
        await asyncio.wait_for(phone.ended.wait(), 10)
        await phone.close()
        return phone

    with Service(
        cascade__llm__script=str(always_open), sip__trunks=json.dumps({"office": trunk})
    ) as service:
        phone = asyncio.run(call(service))
    (target,) = phone.referred_to
    assert "49301234501" in target

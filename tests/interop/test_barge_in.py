"""A caller who talks over the agent, again and again on one call; what it takes to be silent.

BRIDGE_BARGE_INS sets how often. The figures are printed; the assertions are bounds that hold on a
busy machine too.
"""

import asyncio
import os
from dataclasses import dataclass
from statistics import median, quantiles

import pytest

from tests.interop.judge import Judge
from tests.peers import speech
from tests.peers.phone import SILENCE, Packet, Phone
from tests.peers.service import Service
from tests.peers.sideband import Sideband

pytestmark = pytest.mark.interop("espeak-ng", "sox")

TIMES = int(os.environ.get("BRIDGE_BARGE_INS", "6"))
TALKS_FOR_S = 1.2


@dataclass(frozen=True, slots=True)
class BargeIn:
    onset_ms: float
    """From the caller's first loud packet to the last packet of the old speech."""
    decision_ms: float
    """From speech_started, as a sideband saw it, to the same."""
    truncation_error_ms: float


def spoken(packets: list[Packet], began: float, cut: float) -> list[Packet]:
    """Packets from the start of the agent's item, a marker, to the last that is not silence.

    The answer to the interruption is more than 200 ms away: there is silence to end in.
    """
    start = next(i for i, p in enumerate(packets) if p.marker and p.arrived_at > began - 0.05)
    kept = [p for p in packets[start:] if p.arrived_at < cut + 0.2]
    while kept and kept[-1].payload == SILENCE:
        kept.pop()
    return kept


async def one(phone: Phone, sideband: Sideband) -> BargeIn:
    begun = phone.loop.time()
    began, _ = await sideband.next("output_audio_buffer.started", begun)
    await asyncio.sleep(TALKS_FOR_S)
    asked_at = phone.loop.time()
    phone.spoke_at = None
    phone.say(speech.samples("Repeat please."))
    started_at, _ = await sideband.next("input_audio_buffer.speech_started", asked_at)
    cut_at, truncated = await sideband.next("conversation.item.truncated", asked_at)
    await asyncio.sleep(0.2)
    assert phone.spoke_at is not None
    old = spoken(phone.packets, began, cut_at)
    last = old[-1].arrived_at
    return BargeIn(
        onset_ms=(last - phone.spoke_at) * 1000,
        decision_ms=(last - started_at) * 1000,
        truncation_error_ms=abs(len(old) * 20 - truncated["audio_end_ms"]),
    )


def p95(values: list[float]) -> float:
    return round(quantiles(values, n=20, method="inclusive")[-1], 1)


def test_silence_comes_fast_and_the_model_is_told_what_was_heard(judge: Judge) -> None:
    async def scenario(service: Service) -> list[BargeIn]:
        phone = await Phone(service.sip).open()
        await phone.call()
        call_id = service.calls()[0]["id"]
        sideband = Sideband()
        reading = sideband.attach(service, call_id)
        # The greeting may have begun before the sideband came: it is not measured.
        await asyncio.sleep(2.0)
        phone.say(speech.samples("Repeat please."))
        measured = [await one(phone, sideband) for _ in range(TIMES)]
        told.extend(service.calls()[0]["barge_ins"][-TIMES:])
        phone.hangup()
        await asyncio.wait_for(reading, 5)
        judge.hear(event for _, event in sideband.events)
        await phone.close()
        return measured

    told: list[dict[str, float]] = []
    with Service() as service:
        measured = asyncio.run(scenario(service))
    onset = p95([m.onset_ms for m in measured])
    decision = p95([m.decision_ms for m in measured])
    truncation = p95([m.truncation_error_ms for m in measured])
    print(
        f"\n{len(measured)} barge-ins, p95: voice onset to last old packet {onset} ms, "
        f"speech_started to last old packet {decision} ms, truncation error {truncation} ms"
    )
    # By the service's own packets. One that reaches the phone late is none of its doing, so the
    # middle ones are compared.
    kept = [each["onset_ms"] for each in told]
    decided = p95([each["decision_ms"] for each in told])
    print(f"by the call's record: voice onset {p95(kept)} ms, decision {decided} ms")
    assert len(kept) == len(measured)
    assert abs(median(kept) - median(m.onset_ms for m in measured)) <= 100
    assert decided <= 150
    assert onset <= 500
    assert decision <= 150
    assert truncation <= 40

"""How many calls survive when all of them lose their model in the middle of an utterance.

    python -m tests.e2e.upstream_drops [--calls 100] [--at-once 20] [--event TYPE]

The service runs in a process of its own. `gap` is from each caller's own recording: the longest
time in which an answer was owed and not heard. By `--event input_audio_buffer.speech_started` it
is the caller who is speaking when the connection breaks.
"""

import argparse
import asyncio
from dataclasses import dataclass

from tests.e2e.upstream_faults import LATER
from tests.peers.phone import Phone
from tests.peers.service import Service
from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import Conversation, longest_gap_ms, loud_ms, relayed, until
from tests.peers.upstream_rules import FAULTS, Fault, FaultKind, Rules

ANSWER_MS = 2000


@dataclass(frozen=True, slots=True)
class Drop:
    survived: bool
    gap_ms: int
    hole_ms: int
    """Within the answer."""
    heard_ms: int


async def _answered(server: tuple[str, int]) -> Phone:
    phone = await Phone(server).open()
    await phone.call()
    return phone


async def _talk(phone: Phone) -> Drop:
    talk = Conversation(phone)
    answered = await talk.turn(answer_ms=ANSWER_MS)
    still_up = not phone.ended.is_set()
    phone.hangup()
    await until(phone.ended.is_set, 3)
    await phone.close()
    gap_ms = talk.waits_ms()[0]
    return Drop(answered and still_up, gap_ms, longest_gap_ms(phone), loud_ms(phone))


async def wave(far: Upstream, server: tuple[str, int], calls: int) -> list[Drop]:
    """All are up before the first of them speaks, so each loses its first connection."""
    far.faulty = len(far.sessions) + calls
    before = far.failed
    phones = [await _answered(server) for _ in range(calls)]
    drops = await asyncio.gather(*(_talk(phone) for phone in phones))
    assert far.failed - before == calls, f"{far.failed - before} of {calls} lost their model"
    return list(drops)


async def drop(calls: int, at_once: int, fault: Fault) -> list[Drop]:
    drops: list[Drop] = []
    # What clients send is judged elsewhere: here it would slow the far end down.
    async with Upstream(rules=Rules(judged=False), fault=fault, answer_ms=ANSWER_MS) as far:
        own = {name.replace(".", "__"): value for name, value in relayed(far).items()}
        service = await asyncio.to_thread(Service(many=True, **own).__enter__)
        try:
            while len(drops) < calls:
                drops += await wave(far, service.sip, min(at_once, calls - len(drops)))
        finally:
            await asyncio.to_thread(service.__exit__)
        assert not far.connections
    return drops


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--event", default="response.output_audio.delta")
    parser.add_argument("--fault", choices=FAULTS, default="die")
    options = parser.parse_args()
    kind: FaultKind = options.fault
    fault = Fault(kind, options.event, LATER.get(options.event, 1))
    drops = asyncio.run(drop(options.calls, options.at_once, fault))
    survived = sum(each.survived for each in drops)
    print(f"{survived} of {len(drops)} calls survive {fault.kind} at {fault.at}")
    for name, values in (
        ("gap", [each.gap_ms for each in drops]),
        ("hole in the answer", [each.hole_ms for each in drops]),
    ):
        print(
            f"{name}: median {percentile(values, 0.5)} ms, p95 {percentile(values, 0.95)} ms, "
            f"longest {max(values)} ms"
        )
    raise SystemExit(survived != len(drops))


if __name__ == "__main__":
    main()

"""Whether every word of callers who speak at once reaches a model that comes late.

    python -m tests.e2e.first_words [--calls 20] [--late 2.5]

The model's delay counts from the INVITE, and a call is answered after a second at the latest. A
word has come through if the sound that the far end was sent has it in it, by correlation.
"""

import argparse
import asyncio
import os
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bridge.audio.resample import Resampler
from tests.peers import speech
from tests.peers.phone import Phone
from tests.peers.service import Service
from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import relayed
from tests.peers.upstream_rules import Rules
from tests.peers.upstream_session import Session

WORDS = "one two three four five six seven eight nine ten".split()  # noqa: SIM905
PAUSE = np.zeros(800, np.int16)
SAME = 0.9


@dataclass(frozen=True, slots=True)
class Count:
    likenesses: list[float]
    """Of each word."""
    answered_ms: float
    """From the INVITE to the ACK."""
    began_ms: float
    """From the ACK to the first packet with voice."""

    @property
    def whole(self) -> bool:
        return min(self.likenesses) >= SAME


async def count(service: Service, late_s: float) -> tuple[float, float]:
    phone = await Phone(service.sip).open()
    for word in WORDS:
        phone.say(np.concatenate((speech.samples(word), PAUSE)))
    called_at = phone.loop.time()
    await phone.call(10)
    await asyncio.sleep(len(phone.mouth) * 0.02 + late_s + 1.0)
    phone.hangup()
    await asyncio.wait_for(phone.ended.wait(), 5)
    await phone.close()
    assert phone.spoke_at is not None
    instants = (called_at, phone.answered_at, phone.spoke_at)
    answered_ms, began_ms = ((after - before) * 1000 for before, after in pairwise(instants))
    return answered_ms, began_ms


def likenesses(session: Session) -> list[float]:
    heard = Resampler(24_000, 8000).process(session.heard)
    return [speech.resemblance(heard, speech.samples(word)) for word in WORDS]


async def run(calls: int, late_s: float) -> list[Count]:
    async with Upstream(rules=Rules(judged=False), late_s=late_s) as far:
        own = {name.replace(".", "__"): value for name, value in relayed(far).items()}
        service = await asyncio.to_thread(Service(**own).__enter__)
        try:
            times = await asyncio.gather(*(count(service, late_s) for _ in range(calls)))
        finally:
            await asyncio.to_thread(service.__exit__)
        heard = [session for session in far.sessions if len(session.heard)]
    assert len(heard) == calls, f"{len(heard)} of {calls} models heard anything"
    return [Count(likenesses(each), *at) for each, at in zip(heard, times, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=20, help="at a time (%(default)s)")
    parser.add_argument("--late", type=float, default=2.5, help="seconds (%(default)s)")
    options = parser.parse_args()
    for word in WORDS:
        speech.samples(word)
    load = os.getloadavg()[0]
    counts = asyncio.run(run(options.calls, options.late))
    found = [likeness >= SAME for each in counts for likeness in each.likenesses]
    whole = sum(each.whole for each in counts)
    print(f"load {load:.1f}; model {options.late:g} s late, {options.calls} calls at a time")
    print(f"answered within {max(each.answered_ms for each in counts):.0f} ms, ", end="")
    print(f"first voice {max(each.began_ms for each in counts):.0f} ms after the ACK at the latest")
    least = min(min(each.likenesses) for each in counts)
    print(f"{sum(found)} of {len(found)} words came through, {whole} of {len(counts)} calls whole")
    print(f"least likeness of a word {least:.3f}")
    raise SystemExit(whole != len(counts))


if __name__ == "__main__":
    main()

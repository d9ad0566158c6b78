"""Whether every word of callers who speak at once reaches a model that comes late.

    python -m tests.e2e.first_words [--calls 20] [--late 2.5] [--behind upstream | openai | ...]

The delay of a model upstream counts from the INVITE, and a call is answered after a second at the
latest. Of a cascade it is the recogniser that is late: to take a connection, or to answer what it
was posted. A word has come through if the sound that was sent there has it in it, by correlation.
"""

import argparse
import asyncio
import os
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.resample import Resampler
from tests.bench.cascade import settings as cascaded
from tests.peers import speech
from tests.peers.models import Knobs, ModelServers
from tests.peers.phone import Phone
from tests.peers.service import Service
from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import relayed
from tests.peers.upstream_rules import Rules

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


def as_sent(word: str, rate: int) -> NDArray[np.int16]:
    """Without what each change of rate takes of the highest tones."""
    sound = Resampler(8000, 24_000).process(speech.samples(word))
    sound = sound if rate == 24_000 else Resampler(24_000, rate).process(sound)
    return Resampler(rate, 8000).process(sound)


def likenesses(sound: NDArray[np.int16], rate: int) -> list[float]:
    heard = Resampler(rate, 8000).process(sound)
    return [speech.resemblance(heard, as_sent(word, rate)) for word in WORDS]


async def speak(settings: dict[str, Any], options: argparse.Namespace) -> list[tuple[float, float]]:
    service = await asyncio.to_thread(Service(**settings).__enter__)
    try:
        calls = (count(service, options.late) for _ in range(options.calls))
        return await asyncio.gather(*calls)
    finally:
        await asyncio.to_thread(service.__exit__)


async def relay(options: argparse.Namespace) -> list[Count]:
    async with Upstream(rules=Rules(judged=False), late_s=options.late) as far:
        own = {name.replace(".", "__"): value for name, value in relayed(far).items()}
        times = await speak(own, options)
        heard = [session.heard for session in far.sessions if len(session.heard)]
    assert len(heard) == options.calls, f"{len(heard)} of {options.calls} models heard anything"
    return [Count(likenesses(each, 24_000), *at) for each, at in zip(heard, times, strict=True)]


async def cascade(options: argparse.Namespace) -> list[Count]:
    knobs = Knobs(accept_s=options.late, transcript_s=options.late)
    with ModelServers(knobs) as servers:
        times = await speak(cascaded(servers.base_url, options.behind), options)
        heard = [asked for asked in servers.asked if len(asked.sound)]
    assert len(heard) == options.calls, f"{len(heard)} turns heard of {options.calls} calls"
    return [
        Count(likenesses(asked.sound, asked.rate), *at)
        for asked, at in zip(heard, times, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=20, help="at a time (%(default)s)")
    parser.add_argument("--late", type=float, default=2.5, help="seconds (%(default)s)")
    parser.add_argument(
        "--behind",
        default="upstream",
        choices=("upstream", "openai", "openai-realtime"),
        help="a relay, or a cascade with this recogniser (%(default)s)",
    )
    options = parser.parse_args()
    for word in WORDS:
        speech.samples(word)
    load = os.getloadavg()[0]
    behind = relay if options.behind == "upstream" else cascade
    counts = asyncio.run(behind(options))
    found = [likeness >= SAME for each in counts for likeness in each.likenesses]
    whole = sum(each.whole for each in counts)
    print(f"load {load:.1f}; {options.behind} {options.late:g} s late, ", end="")
    print(f"{options.calls} calls at a time")
    print(f"answered within {max(each.answered_ms for each in counts):.0f} ms, ", end="")
    print(f"first voice {max(each.began_ms for each in counts):.0f} ms after the ACK at the latest")
    least = min(min(each.likenesses) for each in counts)
    print(f"{sum(found)} of {len(found)} words came through, {whole} of {len(counts)} calls whole")
    print(f"least likeness of a word {least:.3f}")
    raise SystemExit(whole != len(counts))


if __name__ == "__main__":
    main()

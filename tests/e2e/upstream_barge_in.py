"""How soon a relayed agent is silent when the caller speaks over it, with and without an ear here.

    python -m tests.e2e.upstream_barge_in [--times 40] [--away 0,100,250]

`--away` are milliseconds between us and the model's server, which itself hears 60 ms of speech
before it tells. Measured at the phone: from its first loud packet to the last with old speech. The
service runs in a process of its own; `false` counts pauses for what the server did not hear.
"""

import argparse
import asyncio
import os
from collections.abc import Sequence
from statistics import quantiles

import httpx2
import numpy as np

from tests.peers import speech
from tests.peers.phone import Phone, decode
from tests.peers.service import Service
from tests.peers.upstream import Upstream
from tests.peers.upstream_calls import LOUD, Conversation, relayed, until
from tests.peers.upstream_rules import Rules

ANSWER_MS = 20_000
BETWEEN_MS = 2_600
"""Who talks all the time is taken for a background."""
INTERRUPTION = "Wait a moment please."


async def interrupted(server: tuple[str, int], times: int) -> list[float]:
    """One call, in which the caller speaks over each answer."""
    phone = await Phone(server).open()
    talk = Conversation(await phone.call())
    await talk.speak()
    found: list[float] = []
    voice = speech.samples(INTERRUPTION)
    first = next(n for n, v in enumerate(voice) if abs(int(v)) > 500) // 160
    for _ in range(times):
        before = talk.heard_ms()
        assert await until(lambda: talk.heard_ms() > before + BETWEEN_MS, 10)  # noqa: B023
        asked_at = phone.loop.time()
        phone.spoke_at = None
        phone.say(voice)
        await asyncio.sleep(0.02 * first + 1.0)
        assert phone.spoke_at is not None
        spoke_at = phone.spoke_at + 0.02 * first
        loud = [
            p.arrived_at
            for p in phone.packets
            if asked_at < p.arrived_at < spoke_at + 0.9
            and np.abs(decode(p.payload).astype(float)).mean() > LOUD / 10
        ]
        found.append((loud[-1] - spoke_at) * 1000)
    phone.hangup()
    await until(phone.ended.is_set, 3)
    await phone.close()
    return found


async def measure(away_ms: int, times: int, *, local: bool) -> tuple[list[float], int]:
    far = Upstream(rules=Rules(judged=False), answer_ms=ANSWER_MS, away_s=away_ms / 1000)
    async with far:
        own = {name.replace(".", "__"): value for name, value in relayed(far).items()}
        service = await asyncio.to_thread(Service(upstream__local_vad=local, **own).__enter__)
        try:
            calls = (interrupted(service.sip, times // 4) for _ in range(4))
            found = [each for call in await asyncio.gather(*calls) for each in call]
            told = httpx2.get(f"{service.base_url.removesuffix('/v1')}/metrics").text
            return found, sum(
                int(float(line.split()[1]))
                for line in told.splitlines()
                if line.startswith("bridge_upstream_false_pauses_total ")
            )
        finally:
            await asyncio.to_thread(service.__exit__)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--away", default="0,100,250")
    options = parser.parse_args(arguments)
    print(f"{options.times} interruptions each, 4 calls, load {os.getloadavg()[0]:.1f}")
    for away_ms in map(int, options.away.split(",")):
        for local in (False, True):
            found, false = asyncio.run(measure(away_ms, options.times, local=local))
            cuts = quantiles(found, n=20, method="inclusive")
            print(
                f"server {away_ms:>3} ms away, local_vad {local!s:<5}: onset to silence "
                f"p50 {cuts[9]:.0f}, p95 {cuts[18]:.0f}, worst {max(found):.0f} ms; "
                f"{false} false",
                flush=True,
            )


if __name__ == "__main__":
    main()

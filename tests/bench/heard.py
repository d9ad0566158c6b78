"""Whether the conversation keeps the words that a caller heard of answers cut by speech.

    python -m tests.bench.heard [--calls 20] [--turns 3] [--words captioned_speech | sse | ""]

The voice beeps once for each word, long and short ones by turns unless it is told to be even, so a
caller's own packets tell how many words of an answer were begun before it went quiet. The item is
asked for by a sideband after each cut.
"""

import argparse
import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.bench.cascade import QUESTIONS, Caller, settings
from tests.peers import speech
from tests.peers.models import Knobs, ModelServers
from tests.peers.service import Service

ANSWER = (
    "Yes, of course it is so, nevertheless consequently unfortunately approximately. "
    "And so on, until it is all said, notwithstanding everything extraordinarily complicated. "
)
LISTENS_S = (0.6, 6.0)


def uneven(word: str) -> float:
    return 0.4 if len(word) > 7 else 0.06


def even(word: str) -> float:
    return 0.035 * (len(word) + 1)


def beeps(caller: Caller, since: float, until: float) -> int:
    loud = [p.peak > 1000 for p in caller.packets if since <= p.arrived_at <= until]
    return sum(now and not before for before, now in zip([False, *loud], loud, strict=False))


async def told(sideband: ClientConnection, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            event: dict[str, Any] = json.loads(await sideband.recv())
            if event["type"] == kind:
                return event


async def one_call(service: Service, turns: int, delay_s: float) -> list[tuple[int, int]]:
    """Words heard and words kept of each answer that was cut."""
    await asyncio.sleep(delay_s)
    caller = await Caller(service.sip).open()
    await caller.call()
    (call,) = [each for each in service.calls() if caller.tag in str(each["from"])]
    url = f"ws://127.0.0.1:{service.http_port}/v1/realtime?call_id={call['id']}"
    found = []
    async with connect(url, max_size=None) as sideband:
        caller.say(speech.samples(QUESTIONS[0]))
        for turn in range(turns):
            started = await told(sideband, "output_audio_buffer.started")
            began = caller.loop.time() - 0.1
            await asyncio.sleep(random.uniform(*LISTENS_S))
            caller.say(speech.samples(QUESTIONS[(turn + 1) % len(QUESTIONS)]))
            cut = await told(sideband, "conversation.item.truncated")
            assert started
            item = {"type": "conversation.item.retrieve", "item_id": cut["item_id"]}
            await sideband.send(json.dumps(item))
            kept = (await told(sideband, "conversation.item.retrieved"))["item"]
            words = kept["content"][0]["transcript"].split()
            assert words == (ANSWER * 3).split()[: len(words)]
            found.append((beeps(caller, began, caller.loop.time()), len(words)))
    caller.hangup()
    await asyncio.wait_for(caller.ended.wait(), 5)
    await caller.close()
    return found


async def run(service: Service, options: argparse.Namespace) -> list[tuple[int, int]]:
    calls = (one_call(service, options.turns, n * 0.37 % 3.0) for n in range(options.calls))
    return [cut for cuts in await asyncio.gather(*calls) for cut in cuts]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20, help="at a time (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="of each call (%(default)s)")
    parser.add_argument("--words", default="captioned_speech")
    parser.add_argument("--even", action="store_true")
    options = parser.parse_args(arguments)
    for question in QUESTIONS:
        speech.samples(question)
    word_s: Callable[[str], float] = even if options.even else uneven
    knobs = Knobs(reply=lambda _: [ANSWER * 3], word_s=word_s, sound_pace=4.0)
    load = os.getloadavg()[0]
    with ModelServers(knobs) as server:
        own = settings(server.base_url, "openai") | {"session__greeting": ""}
        with Service(**own, cascade__tts__words=options.words) as service:
            cuts = asyncio.run(run(service, options))
    off = Counter(abs(heard - kept) for heard, kept in cuts)
    within = off[0] + off[1]
    print(f"{len(cuts)} cuts of {options.calls} calls at a time, load {load:.1f}, ", end="")
    print(f"words {options.words or 'untold'}, {'even' if options.even else 'uneven'} voice")
    print(f"{within} of {len(cuts)} keep what was heard to one word; ", end="")
    print(f"cuts by how many words they are off: {dict(sorted(off.items()))}")


if __name__ == "__main__":
    main()

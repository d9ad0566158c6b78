"""What one event of the protocol costs a session: µs of CPU, the best of five runs."""

import argparse
import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bridge.backends.base import AudioDelta, TextDelta
from bridge.ids import SessionId
from bridge.realtime.session_config import SessionConfig
from bridge.sessions.clients import SidebandClient
from bridge.sessions.session import Session
from bridge.sessions.terms import Terms
from tests.backends.puppet import Puppet

SIDEBANDS = 3
RUNS = 5
BATCH = 500
"""Fewer than a client may be behind."""
APPEND = json.dumps(
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(960)).decode()}
)
SOUND = np.full(480, 1000, np.int16)


def empty(clients: list[SidebandClient]) -> None:
    """What the sockets would have taken."""
    for client in clients:
        client._queue.clear()
        client._bytes = 0


def cost_us(step: Callable[[], None], clients: list[SidebandClient], batches: int) -> float:
    best = float("inf")
    for _ in range(RUNS):
        spent = 0.0
        for _ in range(batches):
            begin = time.thread_time()
            for _ in range(BATCH):
                step()
            spent += time.thread_time() - begin
            empty(clients)
        best = min(best, spent / (batches * BATCH) * 1e6)
    return best


async def costs(*, on_call: bool, batches: int) -> dict[str, float]:
    """By event."""
    model = Puppet()
    session = Session(
        SessionId("sess_1"),
        backend=model,
        config=SessionConfig.create(None),
        terms=Terms(on_call=on_call, expires_at=0),
        unix_time=lambda: 0.0,
    )
    await session.start()
    clients = [session.attach() for _ in range(SIDEBANDS)]
    found = {}
    if not on_call:
        found["append, 20 ms"] = cost_us(
            lambda: session.receive(clients[0], APPEND), clients, batches
        )
    session.receive(clients[0], '{"type":"response.create"}')
    response_id = model.orders[0].response_id
    words, sound = TextDelta(response_id, "some words "), AudioDelta(response_id, SOUND)
    found["transcript delta"] = cost_us(lambda: model.emits(words), clients, batches)
    found["audio delta, 20 ms"] = cost_us(lambda: model.emits(sound), clients, batches)
    await session.close()
    return found


def lines(batches: int = 40) -> Iterator[str]:
    for on_call in (False, True):
        where = "call" if on_call else "WebSocket"
        for what, us in asyncio.run(costs(on_call=on_call, batches=batches)).items():
            yield f"{where}, {SIDEBANDS} sidebands: {what}: {us:.1f} µs"


def main(arguments: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(prog="scripts/bench events", description=__doc__).parse_args(arguments)
    for line in lines():
        print(line)
    return 0

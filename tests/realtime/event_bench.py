"""What one event costs, in µs: `python -m tests.realtime.event_bench`."""

import asyncio
import base64
import json
import sys
import time
from collections.abc import Callable

import numpy as np

from bridge.backends.base import AudioDelta, TextDelta
from bridge.ids import SessionId
from bridge.realtime.session_config import SessionConfig
from bridge.sessions.clients import SidebandClient
from bridge.sessions.session import Session, Terms
from tests.backends.puppet import Puppet

ROUNDS = 20_000
SIDEBANDS = 3
APPEND = json.dumps(
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(960)).decode()}
)
SOUND = np.full(480, 1000, np.int16)


def empty(clients: list[SidebandClient]) -> None:
    """What the sockets would have taken."""
    for client in clients:
        client._queue.clear()
        client._bytes = 0


def cost_us(step: Callable[[], None], clients: list[SidebandClient]) -> float:
    """The best of five runs: other work on the machine only ever adds."""
    best = float("inf")
    for _ in range(5):
        spent = 0.0
        for _ in range(ROUNDS // 500):
            begin = time.perf_counter()
            for _ in range(500):
                step()
            spent += time.perf_counter() - begin
            empty(clients)
        best = min(best, spent / ROUNDS * 1e6)
    return best


async def measure(*, on_call: bool) -> dict[str, float]:
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
    costs = {}
    if not on_call:
        costs["append, 20 ms"] = cost_us(lambda: session.receive(clients[0], APPEND), clients)
    session.receive(clients[0], '{"type":"response.create"}')
    response_id = model.orders[0].response_id
    words, sound = TextDelta(response_id, "some words "), AudioDelta(response_id, SOUND)
    costs["transcript delta"] = cost_us(lambda: model.emits(words), clients)
    costs["audio delta, 20 ms"] = cost_us(lambda: model.emits(sound), clients)
    await session.close()
    return costs


if __name__ == "__main__":
    for on_call in (False, True):
        where = "call" if on_call else "WebSocket"
        for what, us in asyncio.run(measure(on_call=on_call)).items():
            sys.stdout.write(f"{where}, {SIDEBANDS} sidebands: {what}: {us:.1f} µs\n")

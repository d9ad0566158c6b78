"""How long a service does not answer: pings over a WebSocket, from a process of their own."""

import json
import subprocess
import sys
import threading
import time
from typing import Self

from websockets.sync.client import connect

EVERY_S = 0.002
FEWEST = 20


def watch(url: str) -> list[float]:
    """Round trips in ms until standard input ends."""
    over = threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=await_end, daemon=True).start()
    trips: list[float] = []
    with connect(url, compression=None, max_size=None) as websocket:
        websocket.recv()
        print("watching", flush=True)
        while not over.wait(EVERY_S) or len(trips) < FEWEST:
            begin = time.perf_counter()
            websocket.ping().wait(30)
            trips.append(1000 * (time.perf_counter() - begin))
    return trips


class LagProbe:
    """Use as a context; `worst_ms` and `usual_ms` (the median) are known afterwards."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.worst_ms = self.usual_ms = 0.0

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "watching\n"
        return self

    def __exit__(self, *_: object) -> None:
        out = self._process.communicate("", timeout=30)[0]
        trips: list[float] = sorted(json.loads(out))
        self.worst_ms, self.usual_ms = trips[-1], trips[len(trips) // 2]


if __name__ == "__main__":
    print(json.dumps(watch(sys.argv[1])))

"""A second client of a call: it keeps every event with the time at which it came."""

import asyncio
import json
from typing import Any

from websockets.asyncio.client import connect

from tests.peers.service import Service


class Sideband:
    def __init__(self) -> None:
        self.events: list[tuple[float, dict[str, Any]]] = []

    def attach(self, service: Service, call_id: str) -> asyncio.Task[None]:
        """It reads until the call is over."""
        url = f"ws://127.0.0.1:{service.http_port}/v1/realtime?call_id={call_id}"
        return asyncio.create_task(self._read(url))

    async def _read(self, url: str) -> None:
        loop = asyncio.get_running_loop()
        async with connect(url) as socket:
            async for text in socket:
                self.events.append((loop.time(), json.loads(text)))

    async def next(self, kind: str, since: float, timeout_s: float = 10.0) -> tuple[float, Any]:
        async with asyncio.timeout(timeout_s):
            while True:
                for at, event in self.events:
                    if at > since and event["type"] == kind:
                        return at, event
                await asyncio.sleep(0.005)

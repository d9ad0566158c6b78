"""Who watches a session: sidebands behind bounded queues, and the data channel of a browser."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from bridge import metrics
from bridge.ids import new_id

# A reader that is a thousand events or four megabytes behind has stopped reading: dropping it
# keeps the call and the other clients whole (reliability: slow consumer).
MAX_EVENTS = 1000
MAX_BYTES = 4 * 1024 * 1024

NORMAL = 1000
GOING_AWAY = 1001
POLICY_VIOLATION = 1008

_encode = msgspec.json.Encoder().encode


class Client(Protocol):
    id: str

    def push(self, text: str) -> None: ...

    def close(self, code: int, reason: str) -> None: ...


class SidebandClient:
    """Events for one WebSocket, in order; `next` hands them out and ends with None."""

    def __init__(self, *, extras: bool = False) -> None:
        self.id = new_id("client")
        self.extras = extras
        self.close_code = NORMAL
        self.close_reason = ""
        self._queue: deque[str] = deque()
        self._bytes = 0
        self._closed = False
        self._ready = asyncio.Event()

    def push(self, text: str) -> None:
        if self._closed:
            return
        if len(self._queue) >= MAX_EVENTS or self._bytes + len(text) > MAX_BYTES:
            self._queue.clear()
            metrics.clients_dropped.inc()
            self.close(POLICY_VIOLATION, "slow_consumer")
            return
        self._queue.append(text)
        self._bytes += len(text)
        self._ready.set()

    def close(self, code: int, reason: str) -> None:
        """What is queued is still handed out first."""
        if not self._closed:
            self._closed = True
            self.close_code = code
            self.close_reason = reason
            self._ready.set()

    async def next(self) -> str | None:
        while not self._queue:
            if self._closed:
                return None
            self._ready.clear()
            await self._ready.wait()
        text = self._queue.popleft()
        self._bytes -= len(text)
        return text


class ChannelClient:
    """The data channel: the leg has its own bounded queue."""

    def __init__(self, send: Callable[[str], None]) -> None:
        self.id = new_id("client")
        self._send = send

    def push(self, text: str) -> None:
        self._send(text)

    def close(self, code: int, reason: str) -> None:
        """The leg's hangup closes the channel."""


class Clients:
    """All clients of one session: the same events to each, in the same order."""

    def __init__(self) -> None:
        self._by_id: dict[str, Client] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Client]:
        return iter(self._by_id.values())

    def add(self, client: Client) -> None:
        self._by_id[client.id] = client

    def discard(self, client: Client) -> None:
        self._by_id.pop(client.id, None)

    def tell(self, event: Mapping[str, Any], *, to: str | None = None) -> None:
        """As `push`; without clients it costs nothing."""
        if self._by_id:
            self.push(_encode(event).decode(), to=to)

    def push(self, text: str, *, to: str | None = None) -> None:
        if to is None:
            for client in self._by_id.values():
                client.push(text)
        elif client_or_none := self._by_id.get(to):
            client_or_none.push(text)

    def close(self, code: int, reason: str) -> None:
        for client in self._by_id.values():
            client.close(code, reason)
        self._by_id.clear()

"""All clients of a call are told one story; who does not listen leaves, and nobody notices."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bridge.app import Running
from tests.peers.in_process import serving
from tests.peers.phone import Phone

pytestmark = pytest.mark.e2e

Event = dict[str, Any]
LONG = 40_000
UPDATES = 300
"""Of so much text: three times what a client may be behind."""


class Call:
    """A phone that talks to itself, and those who watch."""

    def __init__(self, service: Running, phone: Phone, stack: AsyncExitStack) -> None:
        self.phone = phone
        self.up = service.switchboard.live
        self._url = service.http_url.replace("http://", "ws://") + "/v1/realtime?call_id="
        self._stack = stack

    async def watch(self, **options: Any) -> ClientConnection:
        url = self._url + self.up()[0]["id"]
        watcher = await self._stack.enter_async_context(
            connect(url, max_size=None, compression=None, **options)
        )
        assert json.loads(await watcher.recv())["type"] == "session.created"
        return watcher


def play(scene: Callable[[Call], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serving({"session.backend": "echo"}) as here:
            phone = await (await Phone(here.sip).open()).call()
            async with AsyncExitStack() as stack, asyncio.timeout(20):
                await scene(Call(here.service, phone, stack))
            await phone.close()

    asyncio.run(main())


def update(number: int, length: int = 0) -> Event:
    told = f"{number} " + "x" * length
    session = {"type": "realtime", "instructions": told}
    return {"type": "session.update", "event_id": f"update_{number}", "session": session}


async def told(watcher: ClientConnection, count: int) -> list[Event]:
    return [json.loads(await watcher.recv()) for _ in range(count)]


async def rest(watcher: ClientConnection) -> list[Event]:
    """Until it is closed, for whatever reason."""
    seen = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            seen.append(json.loads(await watcher.recv()))
    return seen


def test_the_same_in_the_same_order_and_errors_to_their_cause() -> None:
    async def scene(call: Call) -> None:
        watchers = [await call.watch() for _ in range(3)]
        for number in range(30):
            await watchers[number % 3].send(json.dumps(update(number)))
        first, *others = [await told(watcher, 30) for watcher in watchers]
        assert {event["type"] for event in first} == {"session.updated"}
        assert all(other == first for other in others)
        wrong = {"type": "response.cancel", "event_id": "wrong"}
        await watchers[1].send(json.dumps(wrong))
        [error] = await told(watchers[1], 1)
        assert error["error"]["event_id"] == "wrong"
        # One that leaves leaves the call alone.
        await watchers.pop().close()
        call.phone.hangup()
        assert await rest(watchers[0]) == await rest(watchers[1])
        for watcher in watchers:
            assert (watcher.close_code, watcher.close_reason) == (1000, "remote_hangup")

    play(scene)


def test_who_does_not_read_is_dropped_and_the_call_goes_on() -> None:
    async def scene(call: Call) -> None:
        reader = await call.watch()
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(reader.remote_address[:2])
        deaf = await call.watch(sock=small, max_queue=1)
        for number in range(UPDATES):
            await reader.send(json.dumps(update(number, LONG)))
            [event] = await told(reader, 1)
            assert event["session"]["instructions"].startswith(f"{number} ")
        seen = await rest(deaf)
        assert [e["session"]["instructions"].split()[0] for e in seen] == [
            str(number) for number in range(len(seen))
        ]
        assert len(seen) < UPDATES
        assert (deaf.close_code, deaf.close_reason) == (1008, "slow_consumer")
        assert len(call.up()) == 1
        call.phone.hangup()
        await rest(reader)
        assert reader.close_code == 1000

    play(scene)

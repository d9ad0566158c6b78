"""Phone calls relayed to the far end of `upstream`, and what the caller hears of it.

It answers each turn with a steady tone: every hole in it is a hole of ours.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from bridge.app import Running
from tests.peers.in_process import serving
from tests.peers.phone import Phone, decode
from tests.peers.upstream import Upstream

FRAME = 160
FRAME_MS = 20
LOUD = 2000
"""Mean of a frame of the answer, which is 5000; a comfort tone stays below 600."""
AUDIBLE = 100


@dataclass
class Stage:
    upstream: Upstream
    sip_port: int
    service: Running
    phones: list[Phone] = field(default_factory=list)

    async def phone(self) -> Phone:
        phone = await Phone(("127.0.0.1", self.sip_port)).open()
        self.phones.append(phone)
        return phone

    async def call(self) -> Phone:
        return await (await self.phone()).call()

    async def named_call(self) -> tuple[Phone, str]:
        """Among others: the phone, and the id of its call."""
        known = {call["id"] for call in self.service.switchboard.live()}
        phone = await (await self.phone()).call(10)
        (call_id,) = {call["id"] for call in self.service.switchboard.live()} - known
        return phone, call_id

    def sideband(self, call_id: str = "") -> "Sideband":
        """Of the only call that is up, unless it is named."""
        call_id = call_id or self.service.switchboard.live()[0]["id"]
        http = self.service.http_url.replace("http://", "ws://")
        return Sideband(f"{http}/v1/realtime?call_id={call_id}")


class Sideband:
    """Use as an async context; `events` is all that came."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.events: list[dict[str, Any]] = []
        self._came = asyncio.Event()

    async def __aenter__(self) -> "Sideband":
        self._socket = await connect(self._url, max_size=None)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()
        await self._reading

    async def _read(self) -> None:
        async for text in self._socket:
            self.events.append(json.loads(text))
            self._came.set()
        self._came.set()

    async def send(self, kind: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def wait_for(self, kind: str, *, count: int = 1, timeout_s: float = 10) -> dict[str, Any]:
        """The `count`th event of this type."""
        async with asyncio.timeout(timeout_s):
            while len(found := [each for each in self.events if each["type"] == kind]) < count:
                self._came.clear()
                await self._came.wait()
        return found[count - 1]

    async def ended(self, timeout_s: float = 3) -> None:
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(self._reading)

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


def relayed(upstream: Upstream) -> dict[str, Any]:
    """Settings of a service whose calls go there."""
    return {
        "session.backend": "upstream",
        "upstream.url": upstream.url,
        "upstream.api_key": "sk-upstream",
        "upstream.model": "m",
    }


@asynccontextmanager
async def staged(
    upstream: Upstream | None = None, overrides: Mapping[str, Any] | None = None
) -> AsyncIterator[Stage]:
    """The service and its far end, which nobody may be connected to afterwards."""
    async with upstream or Upstream() as far:
        own = {"limits.drain_timeout_s": 0.5}
        async with serving(relayed(far) | own | dict(overrides or {})) as here:
            stage = Stage(far, here.sip_port, here.service)
            try:
                yield stage
            finally:
                # Of a test that failed: what it left open would fail the next one.
                for phone in stage.phones:
                    await phone.close()
        assert await until(lambda: not far.connections, 0.5)


async def until(happened: Callable[[], bool], timeout_s: float, *, every_s: float = 0.1) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not happened():  # noqa: ASYNC110 - packets and states tell nobody
                await asyncio.sleep(every_s)
            return True
    return False


async def together(*calls: Coroutine[Any, Any, None]) -> None:
    """They mostly wait, so they wait at the same time; nothing may be left of them."""
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call)
    assert not relay_tasks()


def relay_tasks() -> list[str]:
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith(("relay", "upstream", "tools"))]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def said(seconds: float = 1.0) -> NDArray[np.int16]:
    """By the caller."""
    n = np.arange(int(8000 * seconds))
    return (np.sin(n * 2 * np.pi * 300 / 8000) * 6000).astype(np.int16)


def levels(phone: Phone) -> NDArray[np.float64]:
    """Mean loudness of each frame that was heard."""
    heard = phone.heard().astype(float)
    whole = heard[: len(heard) // FRAME * FRAME]
    means: NDArray[np.float64] = np.abs(whole).reshape(-1, FRAME).mean(axis=1)
    return means


def longest_gap_ms(phone: Phone, level: float = LOUD) -> int:
    """Of quiet between the first and the last loud frame."""
    loud = np.flatnonzero(levels(phone) > level)
    return 0 if len(loud) < 2 else int((np.diff(loud).max() - 1) * FRAME_MS)


def loud_ms(phone: Phone) -> int:
    return int((levels(phone) > LOUD).sum() * FRAME_MS)


@dataclass
class Conversation:
    """A caller's turns, and how long it waited for answers."""

    phone: Phone
    spoken_until: list[float] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    _levels: list[float] = field(default_factory=list)

    @property
    def levels(self) -> list[float]:
        """Mean loudness of each packet."""
        for packet in self.phone.packets[len(self._levels) :]:
            self._levels.append(float(np.abs(decode(packet.payload).astype(float)).mean()))
        return self._levels

    def heard_ms(self) -> int:
        """Of answers."""
        return sum(level > LOUD for level in self.levels) * FRAME_MS

    def silent(self, ms: int = 500) -> bool:
        return max(self.levels[-ms // FRAME_MS :], default=0.0) < LOUD

    async def speak(self, seconds: float = 1.0) -> None:
        self.asked_at.append(self.phone.loop.time())
        self.phone.say(said(seconds))
        await until(lambda: not self.phone.mouth, seconds + 1, every_s=0.005)
        self.spoken_until.append(self.phone.loop.time())

    async def turn(self, *, answer_ms: int = 2000, timeout_s: float = 20.0) -> bool:
        """Whether the answer came."""
        wanted = self.heard_ms() + int(answer_ms * 0.95)
        await self.speak()
        return await until(lambda: self.heard_ms() >= wanted and self.silent(), timeout_s)

    def waits_ms(self, level: float = LOUD) -> list[int]:
        """Of each turn: the longest time without an answer, before it began or within it."""
        times = np.array([packet.arrived_at for packet in self.phone.packets])
        loud = np.array(self.levels[: len(times)]) > level
        ends = [*self.asked_at[1:], float("inf")]
        waits = []
        for begin, end in zip(self.spoken_until, ends, strict=True):
            heard = times[loud & (times > begin) & (times < end)]
            marks = np.concatenate(([begin], heard))
            waits.append(int(np.diff(marks).max() * 1000) if len(heard) else -1)
        return waits

    def holes_ms(self) -> list[int]:
        """Of each turn: the longest quiet between the first and the last sound of its answer."""
        times = np.array([packet.arrived_at for packet in self.phone.packets])
        levels = np.array(self.levels[: len(times)])
        ends = [*self.asked_at[1:], float("inf")]
        holes = []
        for begin, end in zip(self.spoken_until, ends, strict=True):
            loud = np.flatnonzero(levels[(times > begin) & (times < end)] > LOUD)
            holes.append(int((np.diff(loud).max(initial=1) - 1) * FRAME_MS))
        return holes

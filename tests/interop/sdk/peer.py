"""A client under test in a process of its own, and the phones it asks for."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.peers import speech
from tests.peers.phone import Phone
from tests.peers.service import Service

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 90.0
# What a client would take from the environment of whoever runs the tests.
NOT_INHERITED = ("OPENAI_", "BRIDGE_", "SSL_", "NODE_")
SHOWN = 4000
CALLERS_WORDS = "What are your opening hours?"


@dataclass
class Told:
    """What a client said of itself; `phones` by the name it called them."""

    passed: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    phones: dict[str, Phone] = field(default_factory=dict)
    status: int = 0
    complaints: str = ""


@dataclass(frozen=True)
class Bench:
    """A running server, and the ports of those it talks with."""

    service: Service
    webhook_port: int
    webhook_secret: str
    page_port: int
    """Of the only other origin that may call from a browser."""

    async def converse(self, command: Sequence[str], variables: Mapping[str, str]) -> Told:
        told = Told()
        async with _started(command, variables) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            complaints = asyncio.create_task(process.stderr.read())
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    async for line in process.stdout:
                        if line.startswith(b"{"):
                            await self._take(told, json.loads(line))
                    told.status = await process.wait()
            except TimeoutError:
                process.kill()
                told.status = -1
            told.complaints = (await complaints).decode(errors="replace")[-SHOWN:]
        for phone in told.phones.values():
            await phone.close()
        return told

    async def _take(self, told: Told, line: Mapping[str, Any]) -> None:
        match line:
            case {"passed": feature}:
                told.passed.append(feature)
            case {"event": event}:
                told.events.append(event)
            case {"dial": name}:
                phone = await Phone(self.service.sip, headers=(("X-Phone", name),)).open()
                told.phones[name] = phone
                phone.invite()
            case {"speak": name}:
                told.phones[name].say(speech.samples(CALLERS_WORDS))
            case _:
                pass


@asynccontextmanager
async def _started(
    command: Sequence[str], variables: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(NOT_INHERITED)}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, "PYTHONPATH": str(ROOT), **variables},
        cwd=ROOT,
        limit=2**24,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

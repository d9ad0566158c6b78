"""Calls as Twilio's Media Streams bring them: G.711 in JSON over a WebSocket.

Timed by the clock of this process, not by the kernel: good to a millisecond.
"""

import asyncio
import base64
import itertools
import json
import time
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.bench.calls import Call, NotAnswered
from tests.bench.wire import (
    BIN_MS,
    COUNTS,
    LATE_BINS,
    LATENCY_BINS,
    SPACING_BINS,
    Counted,
    Script,
)

LOUD = 0x50
FRAME_S = 0.02


def _nothing() -> Counted:
    return Counted(
        dict.fromkeys(COUNTS, 0),
        np.zeros(SPACING_BINS, np.uint32),
        np.zeros(LATENCY_BINS, np.uint32),
        np.zeros(LATE_BINS, np.uint32),
    )


@dataclass(eq=False, slots=True)
class _Talk:
    socket: ClientConnection
    sid: str
    counted: bool
    heard: int = 0
    quiet: int = 0
    spoke_at: float = 0.0
    last: float = 0.0
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)


class TwilioCalls:
    """It is its own meter: `take` gives what its calls counted."""

    def __init__(self, url: str, script: Script) -> None:
        self._url = url
        self._script = script
        self._payloads = [base64.b64encode(payload).decode() for payload in script.payloads]
        self._counted = _nothing()
        self._numbers = itertools.count()

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def take(self) -> Counted:
        taken, self._counted = self._counted, _nothing()
        return taken

    async def call(self, phase: float, *, counted: bool = True) -> Call:
        """Raises NotAnswered."""
        began = time.monotonic()
        sid = f"MZ{next(self._numbers):032x}"
        try:
            socket = await connect(self._url, compression=None)
        except (OSError, WebSocketException) as error:
            raise NotAnswered(str(error)) from error
        await socket.send(
            json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        )
        media = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        start = {"streamSid": sid, "callSid": "CA" + sid[2:], "mediaFormat": media}
        await socket.send(json.dumps({"event": "start", "streamSid": sid, "start": start}))
        talk = _Talk(socket, sid, counted)
        ended = asyncio.Event()
        talk.tasks = [
            asyncio.create_task(self._speak(talk, phase)),
            asyncio.create_task(self._listen(talk, ended)),
        ]

        async def hangup() -> int:
            talk.tasks[0].cancel()
            await socket.close()
            await asyncio.gather(*talk.tasks, return_exceptions=True)
            return talk.heard

        return Call(time.monotonic() - began, hangup, ended)

    async def _speak(self, talk: _Talk, phase: float) -> None:
        at = int(phase * len(self._payloads))
        due = time.monotonic() + phase * FRAME_S
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            self._note(self._counted.late, now - due)
            if at == 0:
                talk.spoke_at = now
                self._counted.counts["spurts_sent"] += 1
            media = {"payload": self._payloads[at]}
            try:
                await talk.socket.send(
                    json.dumps({"event": "media", "streamSid": talk.sid, "media": media})
                )
            except ConnectionClosed:
                return
            self._counted.counts["sent"] += 1
            at = (at + 1) % len(self._payloads)
            due += FRAME_S

    async def _listen(self, talk: _Talk, ended: asyncio.Event) -> None:
        try:
            async for text in talk.socket:
                event = json.loads(text)
                if event["event"] == "media":
                    self._hear(talk, base64.b64decode(event["media"]["payload"]), time.monotonic())
        except ConnectionClosed:
            pass
        ended.set()

    def _hear(self, talk: _Talk, octets: bytes, now: float) -> None:
        self._counted.counts["received"] += 1
        if talk.heard:
            self._note(self._counted.spacing, now - talk.last)
        talk.heard += 1
        talk.last = now
        if int((~np.frombuffer(octets, np.uint8) & 0x7F).max(initial=0)) < LOUD:
            talk.quiet += 1
            return
        if talk.quiet >= 3 and talk.spoke_at:
            self._counted.counts["spurts_heard"] += 1
            self._note(self._counted.latency, now - talk.spoke_at)
            talk.spoke_at = 0.0
        talk.quiet = 0

    def _note(self, bins: "np.ndarray[tuple[int], np.dtype[np.uint32]]", seconds: float) -> None:
        bins[min(len(bins) - 1, int(max(0.0, seconds) * 1000 / BIN_MS))] += 1

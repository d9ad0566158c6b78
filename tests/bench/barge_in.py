"""Callers who talk over the agent, again and again: how long it takes to be silent.

Each call makes the receptionist talk, waits, and interrupts it. Measured at the caller, from the
packets that arrive: the first loud packet sent, the event speech_started as a sideband saw it, and
the last packet of the old speech; and what a call's record says, of the service's own packets.

    python -m tests.bench.barge_in sip webrtc --times 200 --calls 8      six minutes
"""

import argparse
import asyncio
import os
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Protocol

import httpx2
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack
from aiortc.rtp import is_rtcp
from numpy.typing import NDArray

from bridge.audio.opus import OpusDecoder
from tests.peers import speech
from tests.peers.phone import SILENCE, Phone
from tests.peers.service import Service
from tests.peers.sideband import Sideband

INTERRUPTION = "Repeat please."
TALKS_FOR_S = (0.9, 1.4)
PATIENCE_S = 15.0
SLOW_MS = 250
WHISPER = 33  # -60 dBFS: what an encoder makes of silence after speech is below
MICROPHONE_RATE, MICROPHONE_FRAME = 8000, 160  # of aiortc's AudioStreamTrack


@dataclass(frozen=True, slots=True)
class BargeIn:
    """Milliseconds to the last packet of the old speech, and what the model was told beyond."""

    onset_ms: float
    decision_ms: float
    truncation_error_ms: float


@dataclass(frozen=True, slots=True)
class Heard:
    arrived_at: float
    marker: bool
    quiet: bool


class Caller(Protocol):
    spoke_at: float | None

    async def open(self) -> str:
        """Calls; returns the id of the call."""

    def interrupt(self) -> None: ...

    def heard(self) -> list[Heard]: ...

    async def close(self) -> None: ...


class PhoneCaller:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._phone: Phone | None = None

    @property
    def phone(self) -> Phone:
        assert self._phone is not None
        return self._phone

    @property
    def spoke_at(self) -> float | None:
        return self.phone.spoke_at

    @spoke_at.setter
    def spoke_at(self, value: float | None) -> None:
        self.phone.spoke_at = value

    async def open(self) -> str:
        known = {call["id"] for call in self._service.calls()}
        self._phone = await Phone(self._service.sip).open()
        await self._phone.call()
        return next(str(c["id"]) for c in self._service.calls() if c["id"] not in known)

    def interrupt(self) -> None:
        self.phone.say(speech.samples(INTERRUPTION))

    def heard(self) -> list[Heard]:
        return [Heard(p.arrived_at, p.marker, p.payload == SILENCE) for p in self.phone.packets]

    async def close(self) -> None:
        self.phone.hangup()
        await asyncio.wait_for(self.phone.ended.wait(), 5)
        await self.phone.close()


class _Mouth(AudioStreamTrack):
    def __init__(self) -> None:
        super().__init__()
        self.queue: deque[NDArray[np.int16]] = deque()
        self.spoke_at: float | None = None
        self.speaks = False
        """A frame of speech was taken whose packet has not left yet."""

    async def recv(self) -> Any:
        frame: Any = await super().recv()
        said = self.queue.popleft() if self.queue else None
        if said is not None:
            self.speaks = True
            frame.planes[0].update(said.tobytes())
        return frame


@dataclass(eq=False)
class BrowserCaller:
    """aiortc, with an ear on the packets: its own decoding is not waited for."""

    service: Service
    _heard: list[Heard] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._mouth = _Mouth()
        self._decoder = OpusDecoder()
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))

    @property
    def spoke_at(self) -> float | None:
        return self._mouth.spoke_at

    @spoke_at.setter
    def spoke_at(self, value: float | None) -> None:
        self._mouth.spoke_at = value

    async def open(self) -> str:
        connected = asyncio.Event()
        self._pc.on(
            "connectionstatechange",
            lambda: connected.set() if self._pc.connectionState == "connected" else None,
        )
        self._pc.createDataChannel("oai-events")
        sender = self._pc.addTrack(self._mouth)
        receiver = next(t.receiver for t in self._pc.getTransceivers() if t.sender is sender)
        receiver._handle_rtp_packet = self._packet  # type: ignore[method-assign]
        self._send = sender.transport._send_rtp
        sender.transport._send_rtp = self._sent  # type: ignore[method-assign]
        await self._pc.setLocalDescription(await self._pc.createOffer())
        async with httpx2.AsyncClient(timeout=10) as http:
            answer = await http.post(
                f"{self.service.base_url}/realtime/calls",
                content=self._pc.localDescription.sdp,
                headers={"content-type": "application/sdp"},
            )
        await self._pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        await asyncio.wait_for(connected.wait(), 10)
        return str(answer.headers["location"].rsplit("/", 1)[1])

    async def _sent(self, data: bytes) -> None:
        await self._send(data)
        if self._mouth.speaks and not is_rtcp(data):
            self._mouth.speaks = False
            if self._mouth.spoke_at is None:
                self._mouth.spoke_at = asyncio.get_running_loop().time()

    async def _packet(self, packet: Any, arrival_time_ms: int) -> None:
        now = asyncio.get_running_loop().time()
        pcm = self._decoder.decode(packet.payload)
        quiet = int(np.abs(pcm.astype(np.int32)).max(initial=0)) < WHISPER
        self._heard.append(Heard(now, bool(packet.marker), quiet))

    def interrupt(self) -> None:
        sound = speech.samples(INTERRUPTION, rate=MICROPHONE_RATE)
        padded = np.concatenate([sound, np.zeros(-len(sound) % MICROPHONE_FRAME, np.int16)])
        self._mouth.queue.extend(padded.reshape(-1, MICROPHONE_FRAME))

    def heard(self) -> list[Heard]:
        return self._heard

    async def close(self) -> None:
        await self._pc.close()
        self._decoder.close()


def old_speech(packets: Sequence[Heard], began: float, cut: float) -> list[Heard]:
    """From the start of the agent's item, a marker, to the last packet that is not silence.

    The answer to the interruption is more than 200 ms away: there is silence to end in.
    """
    start = next(i for i, p in enumerate(packets) if p.marker and p.arrived_at > began - 0.05)
    kept = [p for p in packets[start:] if p.arrived_at < cut + 0.2]
    while kept and kept[-1].quiet:
        kept.pop()
    return kept


async def one(caller: Caller, sideband: Sideband) -> BargeIn:
    loop = asyncio.get_running_loop()
    began, _ = await sideband.next("output_audio_buffer.started", loop.time(), PATIENCE_S)
    await asyncio.sleep(random.uniform(*TALKS_FOR_S))
    asked_at = loop.time()
    caller.spoke_at = None
    caller.interrupt()
    started_at, _ = await sideband.next("input_audio_buffer.speech_started", asked_at, PATIENCE_S)
    cut_at, truncated = await sideband.next("conversation.item.truncated", asked_at, PATIENCE_S)
    await asyncio.sleep(0.2)
    assert caller.spoke_at is not None
    old = old_speech(caller.heard(), began, cut_at)
    last = old[-1].arrived_at
    return BargeIn(
        onset_ms=(last - caller.spoke_at) * 1000,
        decision_ms=(last - started_at) * 1000,
        truncation_error_ms=abs(len(old) * 20 - truncated["audio_end_ms"]),
    )


@dataclass(slots=True)
class Measured:
    """`recorded`: `barge_ins` of the calls' records."""

    seen: list[BargeIn] = field(default_factory=list)
    recorded: list[dict[str, float | None]] = field(default_factory=list)


async def one_call(service: Service, kind: str, times: int, turn: asyncio.Lock) -> Measured:
    """Those that cannot be measured, such as an agent that had ended by itself, are left out."""
    caller: Caller = PhoneCaller(service) if kind == "sip" else BrowserCaller(service)
    async with turn:
        call_id = await caller.open()
    sideband = Sideband()
    reading = sideband.attach(service, call_id)
    await asyncio.sleep(2.0)
    measured: list[BargeIn] = []
    # The greeting may have begun before the sideband came: it is not measured.
    for _ in range(2 * times):
        if not measured:
            caller.interrupt()
        try:
            measured.append(await one(caller, sideband))
        except TimeoutError:
            caller.interrupt()
        if len(measured) == times:
            break
    calls = await asyncio.to_thread(service.calls)
    record = next(call for call in calls if call["id"] == call_id)
    await caller.close()
    reading.cancel()
    return Measured(measured, record["barge_ins"][-len(measured) :])


def told(name: str, values: Sequence[float]) -> str:
    cuts = quantiles(values, n=20, method="inclusive")
    return f"  {name}: p50 {cuts[9]:.1f}, p95 {cuts[18]:.1f}, worst {max(values):.1f} ms"


async def run(service: Service, kind: str, options: argparse.Namespace) -> Measured:
    turn = asyncio.Lock()
    each = options.times // options.calls
    calls = (one_call(service, kind, each, turn) for _ in range(options.calls))
    found = Measured()
    for call in await asyncio.gather(*calls):
        found.seen += call.seen
        found.recorded += call.recorded
    return found


def report(found: Measured, *, name: str) -> list[str]:
    seen, recorded = found.seen, found.recorded
    onsets = [each.onset_ms for each in seen]
    late = sum(onset > SLOW_MS for onset in onsets)
    kept = {
        name: [value for each in recorded if (value := each[name]) is not None]
        for name in ("onset_ms", "decision_ms")
    }
    return [
        f"{len(seen)} barge-ins by {name}",
        told("voice onset to last old packet", onsets) + f", {late} over {SLOW_MS} ms",
        told("speech_started to last old packet", [each.decision_ms for each in seen]),
        told("truncation error", [each.truncation_error_ms for each in seen]),
        told("by the record, onset", kept["onset_ms"]),
        told("by the record, decision", kept["decision_ms"]),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="+", choices=("sip", "webrtc"))
    parser.add_argument("--times", type=int, default=200, help="of each kind (%(default)s)")
    parser.add_argument("--calls", type=int, default=8, help="at a time (%(default)s)")
    options = parser.parse_args(arguments)
    for kind in options.kinds:
        load = os.getloadavg()[0]
        with Service() as service:
            measured = asyncio.run(run(service, kind, options))
        name = f"{kind}, {options.calls} calls, load {load:.1f} before"
        print("\n".join(report(measured, name=name)), flush=True)


if __name__ == "__main__":
    main()

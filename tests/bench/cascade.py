"""Where the time before an answer goes: calls of a cascade whose every stage is a server over HTTP.

Each caller asks, listens to the beginning of a long answer, and interrupts it with the next
question. Measured at the caller, from its packets: from the last voice it sent to the first loud
packet that arrives, and from the first voice of an interruption to the last packet of the old
answer. The stages are those of the call's record. The servers take the time they are told to.

    python -m tests.bench.cascade --calls 20
"""

import argparse
import asyncio
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from statistics import quantiles
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from tests.peers import speech
from tests.peers.phone import ULAW, Phone
from tests.peers.service import Service
from tests.ports import free_port

QUESTIONS = ("What time do you open?", "Could you tell me more about it?", "I have a question.")
STAGES = (
    *("line_ms", "endpointing_ms", "stt_ms"),
    *("first_token_ms", "first_audio_ms", "on_wire_ms"),
)
LISTENS_S = (1.0, 1.6)
LOUD = 1000
BLOCK = 40  # samples: 5 ms
VOICE_SHARE = 0.05  # of the loudest block of an utterance
MIN_VOICE_RMS = 40.0
SO_TIMESTAMPNS = 35  # of Linux; the module socket does not know it
TIMESPEC = struct.Struct("@qq")
ANSWER_S = 8.0


GREETING = "Hello, this is the workshop."


@dataclass(frozen=True, slots=True)
class Talk:
    """One call's."""

    greeted_ms: float
    """From our ACK to the first loud packet."""
    unanswered: int
    turns: list["Turn"]
    late_ms: list[float]
    """How late each packet of the caller's left."""


@dataclass(frozen=True, slots=True)
class Turn:
    gap_ms: float
    stages: dict[str, float]
    barge_in_ms: float | None = None

    @property
    def told_ms(self) -> float:
        return sum(self.stages.values())


@dataclass
class Caller(Phone):
    """Keeps how loud each 5 ms were that it sent, and when. What arrives is timed by the kernel:
    this process may be busy."""

    sent: list[tuple[float, NDArray[np.float32]]] = field(default_factory=list)

    async def open(self) -> "Caller":
        await super().open()
        self._rtp.close()
        self._wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._wire.bind(("127.0.0.1", 0))
        self._wire.setblocking(False)
        self._wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.rtp_port = self._wire.getsockname()[1]
        self.loop.add_reader(self._wire, self._read)
        return self

    def _read(self) -> None:
        data, told, _, _ = self._wire.recvmsg(2048, socket.CMSG_SPACE(TIMESPEC.size))
        seconds, nanoseconds = TIMESPEC.unpack(told[0][2])
        ago = time.time() - (seconds + nanoseconds / 1e9)
        self.rtp_received(data, time.monotonic() - ago)

    def _write(self, packet: bytes, to: tuple[str, int]) -> None:
        self._wire.sendto(packet, to)

    def _send_rtp(self, payload_type: int, payload: bytes, timestamp: int, *, marker: bool) -> None:
        super()._send_rtp(payload_type, payload, timestamp, marker=marker)
        blocks = ULAW[np.frombuffer(payload, np.uint8)].astype(np.float32).reshape(-1, BLOCK)
        self.sent.append((self.loop.time(), np.sqrt((blocks**2).mean(axis=1))))

    @property
    def _began(self) -> float:
        """When the first sample was spoken, by the clock that the packets keep to: some leave a
        little late."""
        return min(at - (number + 1) * 0.02 for number, (at, _) in enumerate(self.sent))

    @property
    def late_ms(self) -> list[float]:
        """Of each packet."""
        began = self._began
        return [(at - began) * 1000 - (n + 1) * 20 for n, (at, _) in enumerate(self.sent)]

    def voiced(self, since: int) -> tuple[float, float]:
        """When the first and the last voice after so many packets was spoken."""
        levels = np.concatenate([blocks for _, blocks in self.sent[since:]])
        least = max(VOICE_SHARE * float(levels.max(initial=0.0)), MIN_VOICE_RMS)
        loud = np.flatnonzero(levels >= least)
        began = self._began + since * 0.02
        return began + int(loud[0]) * 0.005, began + (int(loud[-1]) + 1) * 0.005

    async def close(self) -> None:
        await super().close()
        self.loop.remove_reader(self._wire)
        self._wire.close()

    def loud(self, since: float) -> list[float]:
        """When each packet came in which the agent speaks."""
        latest = takewhile(lambda packet: packet.arrived_at >= since, reversed(self.packets))
        return [packet.arrived_at for packet in latest if packet.peak > LOUD][::-1]

    async def finished_asking(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            if not self.mouth:
                return

    async def answered_since(self, since: float) -> float:
        async with asyncio.timeout(ANSWER_S):
            while True:
                await asyncio.sleep(0.02)
                if found := self.loud(since):
                    return found[0]


async def one_call(service: Service, turns: int, delay_s: float) -> Talk:
    await asyncio.sleep(delay_s)
    caller = await Caller(service.sip).open()
    await caller.call()
    gaps: list[tuple[float, float | None]] = []
    unanswered = 0
    greeted_ms = (await caller.answered_since(caller.answered_at) - caller.answered_at) * 1000
    await asyncio.sleep(2.0)
    for number in range(turns):
        sent = len(caller.sent)
        caller.say(speech.samples(QUESTIONS[number % len(QUESTIONS)]))
        await caller.finished_asking()
        onset, end = caller.voiced(sent)
        try:
            answered_at = await caller.answered_since(end)
        except TimeoutError:
            print(f"no answer to question {number + 1} of {caller.tag}", file=sys.stderr)
            unanswered += 1
            continue
        old = [at for at in caller.loud(onset) if at < end]
        stopped = (old[-1] - onset) * 1000 if number and old else None
        gaps.append(((answered_at - end) * 1000, stopped))
        await asyncio.sleep(random.uniform(*LISTENS_S))
    turns_told = await record_of(service, caller)
    caller.hangup()
    await asyncio.wait_for(caller.ended.wait(), 5)
    await caller.close()
    if len(turns_told) != len(gaps):
        # What was said in one turn was taken for two, or not at all: no pairs to make.
        print(f"{len(gaps)} answers, {len(turns_told)} told of", file=sys.stderr)
        return Talk(greeted_ms, unanswered, [], caller.late_ms)
    measured = [
        Turn(gap, {stage: told.get(stage, 0.0) for stage in STAGES}, stopped)
        for (gap, stopped), told in zip(gaps, turns_told, strict=True)
    ]
    return Talk(greeted_ms, unanswered, measured, caller.late_ms)


async def record_of(service: Service, caller: Caller) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient(base_url=service.base_url + "/", timeout=10) as http:
        calls = (await http.get("realtime/calls")).json()["data"]
    mine = [call for call in calls if caller.tag in str(call["from"])]
    turns: list[dict[str, Any]] = mine[0]["turns"]
    return turns


@contextmanager
def servers(options: argparse.Namespace) -> Iterator[str]:
    """In a process of their own, so that what they cost is not the service's."""
    port = free_port()
    flags = [f"--{name}={value}" for name, value in vars(options).items() if name.endswith("_s")]
    command = [sys.executable, "-m", "tests.peers.models", f"--port={port}", "--sound_pace=4"]
    process = subprocess.Popen([*command, "--words=tell me a story", *flags])
    url = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx2.get(url)
                break
            except httpx2.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def settings(url: str, stt: str) -> dict[str, Any]:
    return {
        "session__greeting": GREETING,
        "cascade__stt__kind": stt,
        "cascade__stt__base_url": url,
        "cascade__llm__base_url": url,
        "cascade__llm__model": "m",
        "cascade__tts__kind": "openai",
        "cascade__tts__base_url": url,
    }


def told(name: str, values: Sequence[float]) -> str:
    cuts = quantiles(values, n=20, method="inclusive")
    return f"{name:<44} p50 {cuts[9]:7.1f}  p95 {cuts[18]:7.1f}  worst {max(values):7.1f} ms"


async def run(service: Service, options: argparse.Namespace) -> list[Talk]:
    calls = (
        one_call(service, options.turns, number * 0.37 % 3.0) for number in range(options.calls)
    )
    return list(await asyncio.gather(*calls))


def report(talks: Sequence[Talk]) -> None:
    turns = [turn for talk in talks for turn in talk.turns]
    if len(talks) > 1:
        greeted = [talk.greeted_ms for talk in talks]
        print(told("greeting: ACK to first agent packet", greeted))
    print(told("callers' packets left late by", [ms for talk in talks for ms in talk.late_ms]))
    print(told("last voice to first agent packet", [turn.gap_ms for turn in turns]))
    for stage in STAGES:
        print(told(f"  {stage.removesuffix('_ms')}", [turn.stages[stage] for turn in turns]))
    print(told("  sum of the stages", [turn.told_ms for turn in turns]))
    print(told("gap beyond the sum of its stages", [turn.gap_ms - turn.told_ms for turn in turns]))
    beyond = [turn for turn in turns if abs(turn.gap_ms - turn.told_ms) > 20]
    print(f"{len(turns) - len(beyond)} of {len(turns)} gaps are within 20 ms of the sum")
    for turn in beyond:
        print(f"  {turn.gap_ms:.1f} ms are told as {turn.told_ms:.1f}: {turn.stages}")
    stops = [turn.barge_in_ms for turn in turns if turn.barge_in_ms is not None]
    if len(stops) > 1:
        print(told("barge-in: voice onset to last old packet", stops))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20, help="at a time (%(default)s)")
    parser.add_argument("--turns", type=int, default=6, help="of each call (%(default)s)")
    parser.add_argument("--stt", choices=("openai", "openai-realtime"), default="openai")
    for name, value in (("transcript_s", 0.15), ("first_token_s", 0.2), ("token_s", 0.02)):
        parser.add_argument(f"--{name}", type=float, default=value)
    parser.add_argument("--first_sound_s", type=float, default=0.1)
    options = parser.parse_args(arguments)
    for question in QUESTIONS:
        speech.samples(question)
    load = os.getloadavg()[0]
    with servers(options) as url, Service(**settings(url, options.stt)) as service:
        began = time.monotonic()
        talks = asyncio.run(run(service, options))
        busy = service.cpu_s() / (time.monotonic() - began)
    turns = sum(len(talk.turns) for talk in talks)
    print(f"{turns} turns of {options.calls} calls at a time, stt {options.stt}", end=", ")
    print(f"load {load:.1f} before, service {busy:.0%} of a core, start-up included")
    report(talks)


if __name__ == "__main__":
    main()

"""One generator process: `python -m tests.bench.generator sip --target 127.0.0.1:5060 --calls 100`.

It makes the calls, says so, and does what it is told by lines of standard input: "begin" counts
anew, "end" prints what was counted, "hangup" ends the calls, and the end of input ends it all.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.bench import sounds
from tests.bench.calls import Call, Caller, Meter, NotAnswered
from tests.bench.sip_calls import SipCalls
from tests.bench.twilio_calls import TwilioCalls
from tests.bench.webrtc_calls import DtlsCalls, WebRtcCalls
from tests.bench.wire import Wire

CHURN_TALK_S = 2.0


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


class Generator:
    def __init__(self, caller: Caller, meter: Meter, *, calls: int, rate: float) -> None:
        self.calls: list[Call] = []
        self._caller = caller
        self._meter = meter
        self._wanted = calls
        self._rate = rate
        self._failures: list[str] = []
        self._setups: list[float] = []
        self._short: set[asyncio.Task[None]] = set()
        self._began = (0.0, 0.0)

    async def ramp(self) -> None:
        """All calls, `rate` a second. Those that fail are told of, not tried again."""
        due = time.monotonic()
        pending: list[asyncio.Task[None]] = []
        for number in range(self._wanted):
            phase = (number * 0.618034) % 1
            pending.append(asyncio.create_task(self._one(phase)))
            if number % 25 == 24:
                say(progress=number + 1)
            due += 1 / self._rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*pending)
        say(up=len(self.calls), failed=len(self._failures), why=self._failures[:1])

    async def _one(self, phase: float) -> None:
        try:
            call = await self._caller.call(phase)
        except NotAnswered as error:
            self._failures.append(str(error))
        else:
            self._setups.append(call.setup_s)
            self.calls.append(call)

    async def churn(self, rate: float, *, talk_s: float = CHURN_TALK_S) -> None:
        """Short calls beside the others, until cancelled. They are not counted in the media."""
        due = time.monotonic()
        while True:
            task = asyncio.create_task(self._short_call(talk_s))
            self._short.add(task)
            task.add_done_callback(self._short.discard)
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _short_call(self, talk_s: float) -> None:
        try:
            call = await self._caller.call(0.5, counted=False)
        except NotAnswered as error:
            self._failures.append(str(error))
            return
        self._setups.append(call.setup_s)
        await asyncio.sleep(talk_s)
        if not await call.hangup() and talk_s >= 1:
            self._failures.append("no audio on a short call")

    def begin(self) -> None:
        self._meter.take()
        self._began = (time.monotonic(), time.process_time())
        self._setups.clear()
        say(began=True)

    def end(self) -> None:
        elapsed = time.monotonic() - self._began[0]
        cpu = time.process_time() - self._began[1]
        setups = sorted(self._setups)
        say(
            **self._meter.take().summary(),
            calls=len(self.calls),
            ended=sum(call.ended.is_set() for call in self.calls),
            seconds=elapsed,
            own_cores=cpu / elapsed,
            set_up=len(setups),
            setup_p99_ms=round(1000 * setups[int(0.99 * len(setups))], 1) if setups else None,
            failures=self._failures,
        )

    async def hangup(self) -> None:
        await asyncio.gather(*self._short)
        silent = 0
        for at in range(0, len(self.calls), 20):
            heard = await asyncio.gather(*(call.hangup() for call in self.calls[at : at + 20]))
            silent += heard.count(0)
        self.calls.clear()
        say(hung_up=True, silent=silent)


async def run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    caller: Caller
    meter: Meter
    if options.kind == "twilio":
        caller = meter = TwilioCalls(options.target, sounds.pcmu())
    else:
        meter = Wire(options.calls + options.room, theirs.fileno())
        caller = over_udp(options, meter, ours)
    await caller.open()
    generator = Generator(caller, meter, calls=options.calls, rate=options.rate)
    meter.start()
    lines: asyncio.StreamReader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    churn: asyncio.Task[None] | None = None
    try:
        await generator.ramp()
        while line := await lines.readline():
            match line.decode().split():
                case ["begin"]:
                    generator.begin()
                case ["churn", rate, talk_s]:
                    churn = asyncio.create_task(generator.churn(float(rate), talk_s=float(talk_s)))
                case ["calm"] if churn is not None:
                    churn.cancel()
                case ["end"]:
                    generator.end()
                case ["hangup"]:
                    await generator.hangup()
                case _:
                    raise ValueError(f"begin, end, churn, calm or hangup, not {line!r}")
    finally:
        if churn is not None:
            churn.cancel()
        meter.stop()
        await caller.close()


def over_udp(options: argparse.Namespace, wire: Wire, slow: socket.socket) -> Caller:
    if options.kind in ("sip", "srtp"):
        host, _, port = options.target.rpartition(":")
        secure = options.kind == "srtp"
        return SipCalls(wire, wire.script(sounds.pcmu()), (host, int(port)), secure=secure)
    script = wire.script(sounds.opus())
    if options.kind == "dtls":
        host, _, port = options.target.rpartition(":")
        return DtlsCalls(wire, script, (host, int(port)), slow)
    json_offers = options.kind == "webrtc-json"
    return WebRtcCalls(wire, script, options.target, slow, json=json_offers)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("sip", "srtp", "dtls", "webrtc", "webrtc-json", "twilio"))
    parser.add_argument("--target", required=True)
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--room", type=int, default=200, help="for short calls beside")
    parser.add_argument("--cores", default="", help="such as 1; empty: wherever there is room")
    options = parser.parse_args(arguments)
    if options.cores:
        os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    try:
        asyncio.run(run(options))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()

"""Calls set up at a rate, by sipp: how many fail, how soon each is answered, what it costs.

Nobody speaks on them: each is answered by the echo, up for --talk seconds, and hung up on. sipp
reads a clock that moves every 4 ms. Others on the machine show in the slowest: while they run,
`chrt -f 10 scripts/bench cps` measures the server and not them.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.measure import cores
from tests.bench.subjects import Bridge, DidNotStart
from tests.peers.sipp import Player, Scenario, playing

WARM_CALLS = 20
SPARE_S = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    calls: int
    failed: int
    setup_ms: tuple[float, ...]
    cpu_ms: float
    """Of the server, for one call."""
    live: float
    """Calls that it still has a second after the last one."""
    late_ms: float
    """99th percentile of the media clock's ticks."""
    load: float
    """Of the machine, before."""

    def __str__(self) -> str:
        p50, p95, p99, worst = np.percentile(self.setup_ms or [0.0], (50, 95, 99, 100))
        return (
            f"{self.calls} calls, {self.failed} failed, {self.live:g} left over; set-up p50 "
            f"{p50:.1f} p95 {p95:.1f} p99 {p99:.1f} max {worst:.0f} ms; {self.cpu_ms:.2f} ms of "
            f"CPU a call; media ticks late p99 {self.late_ms:.1f} ms; load before {self.load:.1f}"
        )


def a_call(talk_s: float) -> Scenario:
    call = Scenario().invite().ringing().expect(200, timed=True).ack()
    return call.pause(round(1000 * talk_s)).bye()


def response_times_ms(folder: Path) -> tuple[float, ...]:
    """What sipp wrote with -trace_rtt: time, response time and its number in each line."""
    lines = [line for path in folder.glob("*_rtt.csv") for line in path.read_text().splitlines()]
    fields = [line.split(";") for line in lines]
    return tuple(float(each[1]) for each in fields if len(each) > 2 and each[0][:1].isdigit())


def run(service: Bridge, *, rate: int, seconds: int, talk_s: float, folder: Path) -> Outcome:
    to, call = ("127.0.0.1", service.sip_port), a_call(talk_s)
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as other,
        playing(call, Path(other), "-r", "20", to=to, calls=WARM_CALLS),
    ):
        pass
    timing = ("-r", str(rate), "-trace_rtt", "-rtt_freq", "1", "-timer_resol", "1")
    begun, calls = service.usage().cpu_s, rate * seconds
    timeout_s = seconds + talk_s + SPARE_S
    with playing(
        call, folder, *timing, to=to, calls=calls, timeout_s=timeout_s, fails=True
    ) as player:
        pass
    time.sleep(1)
    spent, series = service.usage().cpu_s - begun, service.metrics()
    return Outcome(
        calls=calls,
        failed=calls - _succeeded(player),
        setup_ms=response_times_ms(folder),
        cpu_ms=1000 * spent / calls,
        live=series["bridge_calls_live"],
        late_ms=1000 * series["bridge_media_tick_late_p99_seconds"],
        load=load,
    )


def _succeeded(player: Player) -> int:
    return round(player.statistic("SuccessfulCall(C)"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench cps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=int, default=100, help="calls a second (%(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--talk", type=float, default=1.0, help="seconds (%(default)s)")
    options = parser.parse_args(arguments)
    pinned, others = cores()
    os.sched_setaffinity(0, others)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="cps-") as folder,
            Bridge(cores=pinned, limits__media_timeout_s=60) as service,
        ):
            outcome = run(
                service,
                rate=options.rate,
                seconds=options.seconds,
                talk_s=options.talk,
                folder=Path(folder),
            )
    except DidNotStart as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(outcome)
    return 1 if outcome.failed or outcome.live else 0

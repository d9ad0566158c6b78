"""Calls that come and go for as long as wanted, and what is left of them when all have gone.

SIP and WebRTC calls of --talk seconds each, as many at a time as asked for, on a server with the
echo behind. Memory is sampled all the while; its slope is fitted over the calls made after the
first quarter. At the end, with no call up, tasks, descriptors, UDP ports and threads must be what
they were, after a first round of calls, before it began: else the exit status is 1.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from tests.bench.measure import GeneratorFailed, Load, cores, warm
from tests.bench.subjects import Bridge, DidNotStart

SAMPLE_S = 10.0
QUIET_S = 45.0
"""Closed RTP ports rest for half a minute before they are free again, and browsers time out."""
KINDS = ("sip", "webrtc")


@dataclass(frozen=True, slots=True)
class State:
    """Of the server."""

    rss_kib: float
    tasks: float
    threads: int
    fds: int
    ports: int
    calls: float
    sessions: float
    ended: float

    def left_over(self, before: "State") -> list[str]:
        return [
            f"{name}: {getattr(before, name):g} before, {getattr(self, name):g} after"
            for name in ("tasks", "threads", "fds", "ports", "calls", "sessions")
            if getattr(self, name) > getattr(before, name)
        ]


def udp_ports(pid: int) -> int:
    """UDP sockets that the process holds."""
    inodes = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(each)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    held = 0
    for table in ("udp", "udp6"):
        lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        held += sum(line.split()[9] in inodes for line in lines)
    return held


def state(service: Bridge) -> State:
    used, series = service.usage(), service.metrics()
    assert service.process is not None
    return State(
        rss_kib=used.rss_kib,
        tasks=series["bridge_tasks"],
        threads=used.threads,
        fds=used.fds,
        ports=udp_ports(service.process.pid),
        calls=series.get("bridge_calls_live", 0.0),
        sessions=series.get("bridge_sessions_live", 0.0),
        ended=series.get("bridge_calls_ended_total", 0.0),
    )


def slope(states: Sequence[State]) -> float | None:
    """KiB for each call that ended, after the first quarter; None where it cannot be told."""
    steady = states[len(states) // 4 :]
    ended = np.array([each.ended for each in steady])
    if len(steady) < 4 or ended[-1] == ended[0]:
        return None
    return float(np.polyfit(ended, np.array([each.rss_kib for each in steady]), 1)[0])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sip", type=int, default=50, help="phone calls at a time (%(default)s)")
    parser.add_argument("--webrtc", type=int, default=10, help="browser calls (%(default)s)")
    parser.add_argument("--talk", type=float, default=20.0, help="s each call lasts (%(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="(%(default)s)")
    return parser.parse_args(arguments)


def soak(service: Bridge, options: argparse.Namespace, states: list[State]) -> list[str]:
    """Fills `states`, the last one taken in quiet. What failed, in words."""
    failures: list[str] = []
    with contextlib.ExitStack() as stack:
        loads = []
        for kind in KINDS:
            if wanted := getattr(options, kind):
                load = Load(kind, service.target(kind), 0, cores=cores()[1], room=2 * wanted + 100)
                loads.append((kind, wanted, stack.enter_context(load)))
        for _, wanted, load in loads:
            load.hear("up")
            load.tell("begin")
            load.hear("began")
            load.tell("churn", wanted / options.talk, options.talk)
        end = time.monotonic() + 60 * options.minutes
        try:
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(SAMPLE_S, left))
                states.append(state(service))
                print(told(states[-1], left), file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("stopping: the calls that are up end first", file=sys.stderr)
        for kind, _, load in loads:
            load.tell("calm")
            load.tell("hangup")
            load.hear("hung_up")
            load.tell("end")
            said = load.hear("sent")
            print(f"{kind}: {said['set_up']} calls, set-up p99 {said['setup_p99_ms']} ms")
            failures += [f"{kind}: {each}" for each in said["failures"]]
    return failures


def told(now: State, left: float) -> str:
    return (
        f"{left:5.0f} s to go: {now.calls:.0f} calls up, {now.ended:.0f} ended, "
        f"{now.rss_kib / 1024:.1f} MiB, {now.fds} descriptors, {now.ports} UDP ports, "
        f"{now.tasks:.0f} tasks, {now.threads} threads"
    )


def calmed(service: Bridge, before: State) -> State:
    """When all is as it was, or has had its time."""
    end = time.monotonic() + QUIET_S
    while (now := state(service)).left_over(before) and time.monotonic() < end:
        time.sleep(1.0)
    return now


def _interrupt(number: int, _: object) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    print(f"load before {os.getloadavg()[0]:.1f}")
    states: list[State] = []
    try:
        with Bridge(cores=cores()[0]) as service:
            for kind in KINDS:
                if getattr(options, kind):
                    warm(service, kind, service.target(kind))
            before = state(service)
            failures = soak(service, options, states)
            after = calmed(service, before)
            failures += service.complaints
    except KeyboardInterrupt:
        return 130
    except (DidNotStart, GeneratorFailed) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    left_over = after.left_over(before)
    fitted = slope(states)
    print(
        f"{after.ended - before.ended:.0f} calls ended; "
        f"{before.rss_kib / 1024:.1f} MiB before, {after.rss_kib / 1024:.1f} MiB after; slope "
        + ("not to be told" if fitted is None else f"{fitted:.2f} KiB per call")
    )
    print("left over: " + ("; ".join(left_over) or "nothing"))
    for failure in dict.fromkeys(failures):
        print(f"{failures.count(failure)} times: {failure}")
    return 1 if left_over or failures else 0


if __name__ == "__main__":
    sys.exit(main())

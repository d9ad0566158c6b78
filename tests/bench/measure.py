"""One measurement: a server, a number of calls, a span of time, and what it took."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.bench.subjects import ROOT, Bridge, Subject, usage

RAMP_PER_S = {
    "sip": 50.0,
    "srtp": 50.0,
    "dtls": 20.0,
    "webrtc": 20.0,
    "webrtc-json": 8.0,
    "twilio": 10.0,
}
SETTLE_S = 3.0
CALM_S = 10.0  # of Opus: until it is known that nothing is lost, FEC is sent
WARM_CALLS = 4
SETUPS = 60
LATE = "bridge_media_tick_late_p99_seconds"

Tell = Callable[[str], None]


class GeneratorFailed(Exception):
    """It ended, or said nothing for too long."""


class Load:
    """A generator process, told what to do by lines. Use as a context."""

    def __init__(
        self,
        kind: str,
        target: str,
        calls: int,
        *,
        cores: set[int],
        rate: float | None = None,
        room: int = 200,
    ) -> None:
        self._command = [
            sys.executable,
            "-m",
            "tests.bench.generator",
            kind,
            f"--target={target}",
            f"--calls={calls}",
            f"--rate={rate or RAMP_PER_S[kind]}",
            f"--room={room}",
            f"--cores={','.join(map(str, sorted(cores)))}",
        ]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def tell(self, *words: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()

    def hear(self, key: str, tell: Tell = lambda _: None) -> dict[str, Any]:
        """The next line with `key`; progress before it is told."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said: dict[str, Any] = json.loads(line)
            if key in said:
                return said
            if "progress" in said:
                tell(f"{said['progress']} calls up")
        raise GeneratorFailed("the load generator ended; its complaint is above")


@dataclass(slots=True)
class Row:
    """One line of the table. None: not known of this subject."""

    subject: str
    kind: str
    calls: int
    up: int = 0
    seconds: float = 0.0
    cpu_percent: float = 0.0
    """Of a core, for one call."""
    memory_kib: float = 0.0
    """For one call, over what the server had after its first calls."""
    threads: int = 0
    late_ms: float | None = None
    generator_cores: float = 0.0
    model_cores: float | None = None
    churn: float = 0.0
    model: bool = False
    """A Realtime server answers, over TLS; else what is said comes back from the server itself."""
    load: float = 0.0
    """Load average of the machine before the run: what is not ours in it."""
    media: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def cores() -> tuple[set[int], set[int]]:
    """One for the subject, the rest for what loads it."""
    ours = sorted(os.sched_getaffinity(0))
    return ({ours[0]}, set(ours[1:])) if len(ours) > 1 else (set(ours), set(ours))


def measure(
    subject: Subject,
    row: Row,
    target: str,
    *,
    seconds: float,
    tell: Tell,
    model_pid: int | None = None,
) -> None:
    """Fills the row. The calls come, settle, are measured for `seconds`, and go."""
    _, others = cores()
    row.load = os.getloadavg()[0]
    warm(subject, row.kind, target)
    before = subject.usage()
    with Load(row.kind, target, row.calls, cores=others) as load:
        up = load.hear("up", tell)
        row.up = up["up"]
        row.failures += up["why"]
        time.sleep(settle_s(row.kind))
        if row.churn:
            load.tell("churn", row.churn, 2.0)
            time.sleep(SETTLE_S)
        load.tell("begin")
        load.hear("began")
        begun, begun_at = subject.usage(), time.monotonic()
        model = usage(model_pid).cpu_s if model_pid else 0.0
        _wait(seconds, tell)
        ended, took = subject.usage(), time.monotonic() - begun_at
        late = late_p99_ms(subject)
        load.tell("end")
        row.media = load.hear("sent")
        row.failures += row.media.pop("failures")
        if row.churn:
            load.tell("calm")
        load.tell("hangup")
        load.hear("hung_up")
    row.seconds = round(took, 1)
    row.cpu_percent = 100 * (ended.cpu_s - begun.cpu_s) / took / max(1, row.up)
    row.memory_kib = (ended.rss_kib - before.rss_kib) / max(1, row.up)
    row.threads = ended.threads
    row.late_ms = late
    row.generator_cores = row.media.pop("own_cores")
    if model_pid:
        row.model_cores = (usage(model_pid).cpu_s - model) / took


def settle_s(kind: str) -> float:
    return CALM_S if kind in ("dtls", "webrtc") else SETTLE_S


def warm(subject: Subject, kind: str, target: str) -> None:
    """What a first call loads is not what a call costs."""
    _, others = cores()
    with Load(kind, target, WARM_CALLS, cores=others, rate=10) as load:
        load.hear("up")
        time.sleep(1.0)
        load.tell("hangup")
        load.hear("hung_up")
    time.sleep(0.5)


def setup_cost_ms(subject: Subject, kind: str, target: str, *, rate: float = 10.0) -> float:
    """CPU of the server for making one call and ending it, with as little talk as can be."""
    _, others = cores()
    warm(subject, kind, target)
    with Load(kind, target, 0, cores=others) as load:
        load.hear("up")
        idle, idle_at = subject.usage().cpu_s, time.monotonic()
        time.sleep(2.0)
        idle_cores = (subject.usage().cpu_s - idle) / (time.monotonic() - idle_at)
        load.tell("begin")
        load.hear("began")
        begun, begun_at = subject.usage().cpu_s, time.monotonic()
        load.tell("churn", rate, 0.0)
        time.sleep(SETUPS / rate)
        load.tell("calm")
        load.tell("hangup")
        load.hear("hung_up")
        time.sleep(0.5)
        took = time.monotonic() - begun_at
        load.tell("end")
        made: int = load.hear("sent")["set_up"]
    spent = subject.usage().cpu_s - begun - idle_cores * took
    return 1000 * spent / max(1, made)


def late_p99_ms(subject: Subject) -> float | None:
    return 1000 * subject.metrics()[LATE] if isinstance(subject, Bridge) else None


def _wait(seconds: float, tell: Tell) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        tell(f"measuring, {left:.0f} s to go")
        time.sleep(min(1.0, left))

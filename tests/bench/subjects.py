"""What is measured: a server in a process of its own, on a core of its own, and what it uses."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx2

from tests import ledger
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
START_S = 60.0
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class DidNotStart(Exception):
    """With what the server said."""


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_s: float
    rss_kib: float
    threads: int
    fds: int


def usage(pid: int) -> Usage:
    """Of one process; user and system seconds."""
    process = Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return Usage(
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS,
        rss_kib=int((process / "statm").read_text().split()[1]) * PAGE / 1024,
        threads=len(os.listdir(process / "task")),
        fds=len(os.listdir(process / "fd")),
    )


class Subject:
    """Use as a context. Ready when a line of its output matches `ready`."""

    def __init__(
        self, command: Sequence[str], *, ready: str, cores: set[int], cwd: Path = ROOT
    ) -> None:
        self._command = command
        self._pattern = re.compile(ready)
        self._cores = cores
        self._cwd = cwd
        self._output: list[str] = []
        self._ready = threading.Event()
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BRIDGE_")}
        # A child has the cores of its parent from its first instruction on: threads too.
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._cores)
        try:
            self.process = subprocess.Popen(
                list(self._command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                cwd=self._cwd,
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, ours)
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        deadline = time.monotonic() + START_S
        while not self._ready.wait(0.05):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise DidNotStart("".join(self._output[-20:]))
        return self

    def __exit__(self, *_: object) -> None:
        process = self.process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(number)
                try:
                    process.wait(3)
                except subprocess.TimeoutExpired:
                    continue
        self._reader.join(2)
        if process.stdout is not None:
            process.stdout.close()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._output.append(line)
            del self._output[:-200]
            if self._pattern.search(line):
                self._ready.set()

    @property
    def complaints(self) -> list[str]:
        return [line for line in self._output if "Traceback" in line or " error " in line]

    def usage(self) -> Usage:
        assert self.process is not None
        return usage(self.process.pid)


class Bridge(Subject):
    """The service of this checkout."""

    def __init__(self, *, cores: set[int], **settings: object) -> None:
        self.sip_port = free_port()
        self.http_port = free_port()
        values: dict[str, object] = {
            "http.port": self.http_port,
            "sip.udp_port": self.sip_port,
            "sip.tcp_port": 0,
            "sip.insecure_srtp_keys": "true",
            "limits.max_calls": 2000,
            "limits.max_load": 1.0,
            "session.backend": "echo",
            "log.level": "warning",
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        flags = [f"--set={name}={value}" for name, value in values.items()]
        command = [*ledger.command(), "serve", *flags]
        super().__init__(command, ready="^ready", cores=cores)

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def target(self, kind: str) -> str:
        if kind.startswith("webrtc"):
            return f"{self.http}/v1/realtime/calls"
        return f"127.0.0.1:{self.sip_port}"

    def metrics(self) -> dict[str, float]:
        """The sum of each series."""
        found: dict[str, float] = {}
        text = httpx2.get(f"{self.http}/metrics", timeout=10).text
        for name, value in re.findall(r"^([a-z0-9_]+)(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE):
            found[name] = found.get(name, 0.0) + float(value)
        return found

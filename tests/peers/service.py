"""The server as its users run it: `python -m bridge serve` in a process of its own."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from socket import socket
from typing import Any

import httpx2

from tests import ledger
from tests.ports import RTP_BASES, RTP_PORTS, claim, free_port

START_S = 30.0


class Service:
    """Started on free loopback ports; `settings` are dotted names. Use as a context."""

    def __init__(self, **settings: Any) -> None:
        self.sip_port = free_port()
        self.http_port = free_port()
        # Below the ports that the kernel gives to whoever asks for any.
        many = settings.pop("many", False)
        self._claim: socket | None = None
        base = 10_000
        if not many:
            self._claim, base = claim(RTP_BASES, RTP_PORTS)
        values: Mapping[str, Any] = {
            "http.port": self.http_port,
            "sip.udp_port": self.sip_port,
            "sip.tcp_port": self.sip_port,
            "rtp.port_min": base,
            "rtp.port_max": base + (10_000 if many else RTP_PORTS) - 1,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        self.settings = values
        self.scheme = "https" if "http.tls_certificate" in values else "http"
        flags = [f"--set={name}={value}" for name, value in values.items()]
        self.output: list[str] = []
        self._ready = threading.Event()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BRIDGE_")}
        self.process = subprocess.Popen(
            [*ledger.command(), "serve", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if line.startswith("ready"):
                self._ready.set()

    def __enter__(self) -> "Service":
        deadline = time.monotonic() + START_S
        while not self._ready.wait(0.05):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("the service did not start:\n" + "".join(self.output))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for line in self.output:
            # A traceback in the log of a run is a failure of that run, whatever else passed.
            assert "Traceback" not in line, "".join(self.output)

    def stop(self) -> None:
        if self._claim is not None:
            self._claim.close()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                try:
                    self.process.wait(6)
                except subprocess.TimeoutExpired:
                    continue
        self._reader.join(2)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def wait_for(self, text: str, timeout_s: float) -> None:
        """Until a line of the log has `text` in it."""
        deadline = time.monotonic() + timeout_s
        while not any(text in line for line in self.output):
            assert time.monotonic() < deadline, "".join(self.output)
            time.sleep(0.05)

    @property
    def base_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.http_port}/v1"

    @property
    def sip(self) -> tuple[str, int]:
        return ("127.0.0.1", self.sip_port)

    def calls(self) -> list[dict[str, Any]]:
        answer = httpx2.get(f"{self.base_url}/realtime/calls", timeout=5)
        data: list[dict[str, Any]] = answer.json()["data"]
        return data

    def metric(self, name: str) -> float:
        """The sum of all series of this name."""
        text = httpx2.get(f"http://127.0.0.1:{self.http_port}/metrics", timeout=5).text
        found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def cpu_s(self) -> float:
        """User and system seconds of the process so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

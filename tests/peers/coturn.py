"""coturn, Debian's TURN server, on the loopback address."""

import subprocess
import time
from pathlib import Path
from typing import Self

from tests.ports import HOST, free_port, media_ports

USER, PASSWORD, SECRET = "bridge", "aZ:9@x", "north-by-north"
START_S = 10.0


class Coturn:
    """`relayed` are the ports of its allocations. Use as a context."""

    def __init__(self, folder: Path, *, by_secret: bool) -> None:
        self.port = free_port()
        self.relayed = media_ports(100)
        self._log = folder / "coturn.log"
        proof = ["--use-auth-secret", f"--static-auth-secret={SECRET}"]
        if not by_secret:
            proof = ["--lt-cred-mech", f"--user={USER}:{PASSWORD}"]
        # What it would read and write elsewhere: its configuration, its users, its pid.
        self._command = [
            *("turnserver", "-n", f"--listening-port={self.port}", "--realm=example.com", *proof),
            *(f"--listening-ip={HOST}", f"--relay-ip={HOST}", "--no-tls", "--no-dtls", "--no-cli"),
            *(f"--min-port={self.relayed[0]}", f"--max-port={self.relayed[-1]}"),
            *(f"--userdb={folder}/users", f"--pidfile={folder}/pid"),
            *(f"--log-file={self._log}", "--simple-log", "--verbose"),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while f"IPv4. UDP listener opened on: {HOST}:{self.port}" not in self.log:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return self

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)

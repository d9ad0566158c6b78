"""A phone that is told what to do by lines on its standard input."""

import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self


class Console:
    """Use as a context. `lines` is what it has printed. It lives in a home of its own."""

    def __init__(self, name: str) -> None:
        self.lines: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix=f"{name}-")
        self.home = Path(self._folder.name)

    def start(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HOME": str(self.home), "TERM": "dumb"} | environment,
            cwd=self.home,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(self._process.stdout)

    def command(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self, pattern: str, timeout_s: float = 10.0, *, count: int = 1) -> bool:
        """Whether so many lines have it in time."""
        deadline = time.monotonic() + timeout_s
        while sum(bool(re.search(pattern, line)) for line in self.lines) < count:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def close(self) -> None:
        try:
            self.command("quit")
            self._process.wait(6)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._reader.join(2)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Twinkle, headless: one user, told what to do by lines; its microphone is silent."""

import os
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from tests.ports import free_port

# ALSA's own nowhere: without a sound card Twinkle makes no calls.
ASOUND = "pcm.!default { type null }\nctl.!default { type null }\n"
USER = "user_name=caller\nuser_domain=127.0.0.1\nregister_at_startup=no\n"


class Twinkle:
    """Use as a context. `lines` is what it has printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.port = free_port()
        self._home = tempfile.TemporaryDirectory(prefix="twinkle-")
        home = Path(self._home.name)
        (home / ".twinkle").mkdir()
        (home / ".asoundrc").write_text(ASOUND)
        (home / ".twinkle" / "user.cfg").write_text(USER)
        devices = "".join(f"dev_{name}=alsa:default\n" for name in ("ringtone", "speaker", "mic"))
        (home / ".twinkle" / "twinkle.sys").write_text(
            f"{devices}validate_audio_dev=no\nsip_port={self.port}\nrtp_port={free_port() & ~1}\n"
            "play_ringtone=no\nplay_ringback=no\n"
        )
        self._process = subprocess.Popen(
            ["twinkle-console", "user.cfg"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HOME": str(home), "TERM": "dumb"},
            cwd=home,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait("Local IP")

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(self._process.stdout)

    def command(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self, pattern: str, count: int = 1, timeout_s: float = 10.0) -> None:
        """Until so many lines have it."""
        deadline = time.monotonic() + timeout_s
        while sum(bool(re.search(pattern, line)) for line in self.lines) < count:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.05)

    def __enter__(self) -> "Twinkle":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.command("quit")
            self._process.wait(3)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._reader.join(2)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._home.cleanup()

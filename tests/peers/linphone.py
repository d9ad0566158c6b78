"""linphone, headless: registers if it is told to, answers every call and hears files for sound."""

import os
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Literal

from tests.ports import free_port

START_S = 1.0  # it says nothing when it is ready


class Linphone:
    """Use as a context. `lines` is what it has printed."""

    def __init__(
        self,
        *,
        transport: Literal["udp", "tcp"] = "udp",
        encryption: Literal["none", "srtp"] = "none",
    ) -> None:
        """`encryption` srtp: with keys in SDP, or not at all."""
        self.lines: list[str] = []
        self._transport = transport
        self._home = tempfile.TemporaryDirectory(prefix="linphone-")
        home = Path(self._home.name)
        for folder in (".config/linphone", ".local/share/linphone"):
            (home / folder).mkdir(parents=True)
        ports = {name: free_port() if name == transport else 0 for name in ("udp", "tcp")}
        self.port = ports[transport]
        (home / "rc").write_text(
            f"[sip]\nsip_port={ports['udp']}\nsip_tcp_port={ports['tcp']}\nsip_tls_port=0\n"
            f"guess_hostname=0\nmedia_encryption={encryption}\n"
            f"media_encryption_mandatory={int(encryption != 'none')}\n"
            "contact=sip:caller@127.0.0.1\nkeepalive_period=1000\nuse_ipv6=0\nipv6_migration_done=1\n[rtp]\n"
            f"audio_rtp_port={31000 + os.getpid() % 2000 * 2}\n"
            "[video]\nenabled=0\ncapture=0\ndisplay=0\n[sound]\nechocancellation=0\n"
            "[net]\nmtu=1300\nenable_nat_helper=0\n[misc]\nfile_transfer_server_url=\n"
            "[audio_codec_0]\nmime=PCMU\nrate=8000\nchannels=1\nenabled=1\n"
        )
        environment = os.environ | {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_DATA_HOME": str(home / ".local/share"),
            "TERM": "dumb",
        }
        self._process = subprocess.Popen(
            ["linphonec", "-c", str(home / "rc"), "-d", "0", "-C", "-a"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=home,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        time.sleep(START_S)
        self.command("soundcard use files")

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(self._process.stdout)

    def command(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def register(self, user: str, registrar: str, password: str) -> None:
        suffix = f";transport={self._transport}" if self._transport != "udp" else ""
        host = registrar.partition(":")[0]
        self.command(f"register sip:{user}@{host} sip:{registrar}{suffix} {password}")

    def wait(self, pattern: str, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not (found := any(re.search(pattern, line) for line in self.lines)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return found

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
        self._home.cleanup()

    def __enter__(self) -> "Linphone":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""baresip, headless: one account, a WAV as its microphone, driven over its TCP control port."""

import json
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tests.ports import free_port, media_ports

MODULES = Path("/usr/lib/baresip/modules")
CodecName = Literal["PCMU", "PCMA", "G722", "opus"]
# Its own names: an unknown one means all codecs.
NAMES: dict[CodecName, str] = {
    "PCMU": "PCMU/8000/1",
    "PCMA": "PCMA/8000/1",
    "G722": "G722/16000/1",
    "opus": "opus/48000/1",
}
RATES: dict[CodecName, int] = {"PCMU": 8000, "PCMA": 8000, "G722": 16000, "opus": 48000}
OPUS = ("opus_stereo no", "opus_sprop_stereo no", "opus_bitrate 32000")
END_OF_DIGIT = "\x04"


class Baresip:
    """`microphone` is a mono WAV; the silence after it is ours to keep going.

    `settings` are further lines for its configuration.
    """

    def __init__(
        self,
        microphone: Path,
        *,
        transport: Literal["udp", "tcp", "tls"],
        codec: CodecName,
        settings: Sequence[str] = (),
        answers: bool = False,
        encrypts: bool = False,
        by_dtls: bool = False,
        password: str = "",
        registrar: str = "",
        records: Path | None = None,
    ) -> None:
        """`answers`: every call, at once; `encrypts`: with keys in SDP, or not at all; `by_dtls`:
        with ICE, from the addresses of the machine, as it finds no loopback.

        `registrar` is the host and port where it registers as caller; `records` is where it
        writes what it encodes and decodes, dump-…-enc.wav and dump-…-dec.wav.
        """
        self.events: list[dict[str, Any]] = []
        self._unseen: deque[dict[str, Any]] = deque()
        self._home = tempfile.TemporaryDirectory(prefix="baresip-")
        home = Path(self._home.name)
        padded = home / "microphone.wav"
        effects = ["rate", "-v", str(RATES[codec]), "pad", "0", "90"]
        subprocess.run(["sox", "-D", str(microphone), str(padded), *effects], check=True)
        self.port = port = free_port()
        control = free_port()
        media = media_ports(40)
        modules = ["g711", "g722", "opus", "aufile", "aubridge", "uuid"]
        modules += ["srtp"] * encrypts + ["sndfile"] * (records is not None)
        modules += ["dtls_srtp", "ice"] * by_dtls
        lines = [
            f"module_path {MODULES}",
            "poll_method epoll",
            # Debian's baresip listens for TLS one port above.
            f"sip_listen 127.0.0.1:{port - (transport == 'tls')}",
            "audio_player aubridge,p",
            f"audio_source aufile,{padded}",
            "audio_alert aubridge,a",
            "ausrc_format s16",
            "auplay_format s16",
            "audio_buffer 20-160",
            "jitter_buffer_delay 1-5",
            f"rtp_ports {media[0]}-{media[-1]}",
            f"ctrl_tcp_listen 127.0.0.1:{control}",
            *(["rtcp_mux yes"] if by_dtls else ["net_interface 127.0.0.1"]),
            *([f"snd_path {records}"] if records is not None else []),
            *settings,  # of two lines for one thing it reads the first
            *OPUS,
            *(f"module {name}.so" for name in modules),
            "module_tmp account.so",
            "module_app menu.so",
            "module_app ctrl_tcp.so",
        ]
        (home / "config").write_text("\n".join(lines) + "\n")
        home_at = registrar or f"127.0.0.1:{port}"
        account = f"<sip:caller@{home_at};transport={transport}>"
        account += f";regint={60 if registrar else 0}"
        account += f";auth_user=caller;auth_pass={password}" if password else ""
        account += ";answermode=auto" * answers + ";mediaenc=srtp-mand" * encrypts
        account += ";mediaenc=dtls_srtp;medianat=ice" * by_dtls
        (home / "accounts").write_text(f"{account};audio_codecs={NAMES[codec]}\n")
        (home / "contacts").write_text("")
        self._log = (home / "log").open("wb")
        self._process = subprocess.Popen(
            ["baresip", "-f", str(home), "-v"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=home,
        )
        self._control = self._connect(control)
        self._buffer = b""

    def _connect(self, port: int) -> socket.socket:
        for _ in range(300):
            try:
                return socket.create_connection(("127.0.0.1", port), 1)
            except OSError:
                if self._process.poll() is not None:
                    break  # Another one took a port of ours.
                time.sleep(0.05)
        self._process.kill()
        self._process.wait(5)
        self._log.close()
        said = self.log[-500:]
        self._home.cleanup()
        raise RuntimeError(f"baresip did not open its control port:\n{said}")

    def command(self, name: str, parameter: str | None = None) -> None:
        order: dict[str, str] = {"command": name}
        if parameter is not None:
            order["params"] = parameter
        data = json.dumps(order).encode()
        self._control.sendall(b"%d:%s," % (len(data), data))

    def wait(self, kind: str, timeout_s: float) -> dict[str, Any] | None:
        """The next event of this type, or None when it does not come in time."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if not self._unseen:
                self._unseen.extend(self._read(left))
            while self._unseen:  # One read may bring several.
                event = self._unseen.popleft()
                self.events.append(event)
                if event.get("type") == kind:
                    return event
        return None

    def _read(self, timeout_s: float) -> list[dict[str, Any]]:
        """Netstrings: LENGTH:JSON,"""
        self._control.settimeout(timeout_s)
        try:
            self._buffer += self._control.recv(65536)
        except TimeoutError:
            return []
        found = []
        while b":" in self._buffer:
            size, rest = self._buffer.split(b":", 1)
            if len(rest) <= int(size):
                break
            event = json.loads(rest[: int(size)], strict=False)
            self._buffer = rest[int(size) + 1 :]
            if event.get("event"):
                found.append(event)
        return found

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def press(self, digit: str) -> None:
        self.command("sndcode", digit)
        time.sleep(0.1)
        self.command("sndcode", END_OF_DIGIT)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(5)
        self._control.close()
        self._log.close()
        self._home.cleanup()

    def __enter__(self) -> "Baresip":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

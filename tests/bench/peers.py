"""Servers of others, each in the environment it needs: what stands beside our figures."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Row, Tell, cores, measure
from tests.bench.subjects import Subject
from tests.ports import free_port

SERVERS = Path(__file__).with_name("servers")
ENVIRONMENTS = Path(os.environ.get("BRIDGE_PEERS") or Path.home() / ".cache" / "bridge-peers")


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    kind: str
    server: str
    environment: str
    """Of scripts/install-peers --all; empty: ours."""
    path: str
    calls: int

    @property
    def ours(self) -> str:
        """The kind of call of this server that it stands beside."""
        return "sip" if self.kind == "twilio" else "webrtc"

    @property
    def python(self) -> Path:
        if not self.environment:
            return Path(sys.executable)
        return ENVIRONMENTS / self.environment / "bin" / "python"

    @property
    def here(self) -> bool:
        python = self.python
        if not self.environment:
            return True
        wanted = python.parent.parent / "lib"
        return python.exists() and any(wanted.glob("python*/site-packages/aiortc"))


PEERS = (
    Peer("aiortc 1.16 echo", "webrtc-json", "aiortc_echo.py", "", "/offer", 8),
    Peer("Pipecat SmallWebRTC", "webrtc-json", "pipecat_echo.py", "pipecat", "/offer", 8),
    Peer("Pipecat telephony", "twilio", "pipecat_echo.py", "pipecat", "/ws", 20),
)


def missing() -> list[str]:
    """A line for each peer that is not installed."""
    return [
        f"{peer.name}: not measured, not installed; scripts/install-peers --all"
        for peer in PEERS
        if not peer.here
    ]


def measure_peer(peer: Peer, row: Row, *, seconds: float, tell: Tell) -> None:
    """Leaves the row without figures if the peer is not installed."""
    if not peer.here:
        row.failures.append("not installed; scripts/install-peers --all")
        return
    port = free_port()
    command = [str(peer.python), str(SERVERS / peer.server), str(port)]
    scheme = "ws" if peer.kind == "twilio" else "http"
    with Subject(command, ready="^ready", cores=cores()[0]) as subject:
        target = f"{scheme}://127.0.0.1:{port}{peer.path}"
        measure(subject, row, target, seconds=seconds, tell=tell)

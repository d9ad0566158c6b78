"""baresip puts us on hold and comes back; baresip calls with keys, in the clear and over TLS."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.peers import speech
from tests.peers.baresip import Baresip
from tests.peers.capture import Capture, is_loud
from tests.peers.phone import Packet
from tests.peers.service import Service
from tests.ports import free_port
from tests.sip.certificates import Authority

pytestmark = pytest.mark.interop("baresip", "sox", "tcpdump")

HOLDS = 10
RATE = 8000


def humming(folder: Path, seconds: int) -> Path:
    """A microphone that is never silent."""
    time_s = np.arange(seconds * RATE) / RATE
    sound = (8000 * np.sin(2 * np.pi * 440 * time_s)).astype(np.int16)
    return speech.write(folder / "microphone.wav", sound, RATE)


def sent_by(service: Service, capture: Capture) -> list[Packet]:
    low = int(service.settings["rtp.port_min"])
    ours = {d.source[1] for d in capture.datagrams if low <= d.source[1] <= low + 399}
    return [packet for port in sorted(ours) for packet in capture.rtp_from(port)]


def media_of(service: Service) -> Capture:
    low = int(service.settings["rtp.port_min"])
    return Capture(f"udp portrange {low}-{low + 399}")


@dataclass(frozen=True, slots=True)
class Hold:
    """When each 200 to a re-INVITE passed, and when the next re-INVITE came."""

    held_at: float
    asked_at: float
    resumed_at: float
    over_at: float


def holds(capture: Capture, sip_port: int) -> list[Hold]:
    """From the wire: re-INVITEs of the peer in turn hold and resume."""
    asked = [d.at for d in capture.datagrams if d.data.startswith(b"INVITE ")][1:]
    answered = [
        d.at
        for d in capture.datagrams
        if d.source[1] == sip_port and b"200 OK" in d.data[:20] and b" INVITE\r\n" in d.data
    ][1:]
    over = next(d.at for d in capture.datagrams if d.data.startswith(b"BYE "))
    ends = [*asked[2::2], over]
    turns = zip(answered[::2], asked[1::2], answered[1::2], ends, strict=True)
    return [Hold(*turn) for turn in turns]


@pytest.mark.matrix(19, peer="baresip")
def test_hold_and_resume_ten_times(tmp_path: Path) -> None:
    """A tone without a pause goes out and comes back: whatever is silent is the line."""
    with (
        Service(session__backend="echo") as service,
        Baresip(humming(tmp_path, 30), transport="udp", codec="PCMU") as phone,
    ):
        low = int(service.settings["rtp.port_min"])
        wire = f"udp port {service.sip_port} or udp portrange {low}-{low + 399}"
        with Capture(wire) as capture:
            phone.command("dial", f"sip:agent@127.0.0.1:{service.sip_port}")
            assert phone.wait("CALL_ESTABLISHED", 5), phone.events
            time.sleep(1)
            for _ in range(HOLDS):
                phone.command("hold")
                time.sleep(0.6)
                phone.command("resume")
                time.sleep(0.8)
            assert len(service.calls()) == 1
            phone.command("hangup")
            assert phone.wait("CALL_CLOSED", 5)
    ours = sent_by(service, capture)
    (port,) = {
        d.destination[1] for d in capture.datagrams if d.source[1] in range(low, low + 399, 2)
    }
    theirs = capture.rtp_from(port)
    turns = holds(capture, service.sip_port)
    assert len(turns) == HOLDS
    back_ms = []
    for turn in turns:
        # One packet may be on its way when the answer is.
        quiet = [p for p in ours if turn.held_at + 0.03 < p.arrived_at < turn.asked_at]
        assert len(quiet) > 20
        assert not any(map(is_loud, quiet))
        said = next(p.arrived_at for p in theirs if p.arrived_at > turn.asked_at)
        # What comes back after the first new packet of the peer's is made of it.
        since = max(turn.resumed_at, said)
        heard = next(p.arrived_at for p in ours if p.arrived_at > since and is_loud(p))
        back_ms.append(round((heard - turn.resumed_at) * 1000))
        rest = [p for p in ours if heard < p.arrived_at < turn.over_at]
        # A packet that comes late to a busy machine leaves a hole in the echo, but a small one.
        assert sum(map(is_loud, rest)) > 0.9 * len(rest)
    print(f"\naudio back after ms: {back_ms}")
    assert max(back_ms) <= 200


def wav_of(folder: Path, way: str) -> NDArray[np.int16]:
    """What baresip encoded or decoded, as it left the codec."""
    (path,) = folder.glob(f"dump-*-{way}.wav")
    return speech.read(path)


@pytest.mark.matrix(53, peer="baresip")
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_call_with_keys(tmp_path: Path, transport: Literal["tcp", "tls"]) -> None:
    """baresip speaks, we echo, and what it decrypted is what it had said."""
    settings: dict[str, Any] = {"sip__insecure_srtp_keys": "true"}
    port = 0
    if transport == "tls":
        issued = Authority(tmp_path).issue("127.0.0.1", "localhost")
        port = free_port()
        settings = {
            "sip__tls_port": port,
            "sip__tls_certificate": issued.certificate,
            "sip__tls_private_key": issued.private_key,
        }
    microphone = speech.wav("She sells sea shells by the sea shore, and nobody knows why.")
    with (
        Service(session__backend="echo", **settings) as service,
        Baresip(
            microphone, transport=transport, codec="PCMU", encrypts=True, records=tmp_path
        ) as phone,
        media_of(service) as capture,
    ):
        target = f"sip:agent@127.0.0.1:{port or service.sip_port};transport={transport}"
        phone.command("dial", target)
        assert phone.wait("CALL_ESTABLISHED", 8), (phone.events, service.output)
        time.sleep(4)
        phone.command("hangup")
        assert phone.wait("CALL_CLOSED", 5)
    packets = sent_by(service, capture)
    # G.711 with ten bytes of proof behind it, and not a packet without.
    assert len(packets) > 50
    assert {len(packet.payload) for packet in packets} == {170}
    secured = [event for event in phone.events if event.get("type") == "CALL_MENC"]
    assert "AES_CM_128_HMAC_SHA1_80" in json.dumps(secured)
    # What comes close to 4 kHz is lost on the way to the model and back.
    assert speech.likeness(wav_of(tmp_path, "enc"), wav_of(tmp_path, "dec")) > 0.95


@pytest.mark.matrix(54, peer="baresip")
def test_keys_in_the_clear_are_refused(tmp_path: Path) -> None:
    with (
        Service(session__backend="echo") as service,
        Baresip(humming(tmp_path, 5), transport="tcp", codec="PCMU", encrypts=True) as phone,
    ):
        phone.command("dial", f"sip:agent@127.0.0.1:{service.sip_port};transport=tcp")
        closed = phone.wait("CALL_CLOSED", 5)
        assert closed is not None
        assert "488" in closed["param"]

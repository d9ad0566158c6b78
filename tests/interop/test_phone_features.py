"""baresip puts us on hold and comes back; baresip calls with keys, in the clear and over TLS."""

import json
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.peers import speech
from tests.peers.baresip import Baresip
from tests.peers.capture import Capture, spurts
from tests.peers.phone import Packet
from tests.peers.service import Service, free_port
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


@pytest.mark.matrix(19, peer="baresip")
def test_hold_and_resume_ten_times(tmp_path: Path) -> None:
    resumed_at: list[float] = []
    with (
        Service(session__backend="echo") as service,
        Baresip(humming(tmp_path, 30), transport="udp", codec="PCMU") as phone,
    ):
        with media_of(service) as capture:
            phone.command("dial", f"sip:agent@127.0.0.1:{service.sip_port}")
            assert phone.wait("CALL_ESTABLISHED", 5), phone.events
            time.sleep(1)
            for _ in range(HOLDS):
                phone.command("hold")
                time.sleep(0.6)
                resumed_at.append(time.time())
                phone.command("resume")
                time.sleep(1.2)
            assert len(service.calls()) == 1
            phone.command("hangup")
            assert phone.wait("CALL_CLOSED", 5)
        packets = sent_by(service, capture)
    heard = spurts(packets, 0.3)
    back_ms = []
    for at in resumed_at:
        back = next((s.began for s in heard if s.ended > at + 0.1), None)
        assert back is not None, (at, heard)
        back_ms.append(round((back - at) * 1000))
    print(f"\naudio back after ms: {back_ms}")
    # Every hold made it silent, and every return made it sound.
    assert min(back_ms) > 0
    assert max(back_ms) < 1000


@pytest.mark.matrix(53, peer="baresip")
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_call_with_keys(tmp_path: Path, transport: Literal["tcp", "tls"]) -> None:
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
    with (
        Service(session__backend="echo", **settings) as service,
        Baresip(humming(tmp_path, 10), transport=transport, codec="PCMU", encrypts=True) as phone,
        media_of(service) as capture,
    ):
        target = f"sip:agent@127.0.0.1:{port or service.sip_port};transport={transport}"
        phone.command("dial", target)
        assert phone.wait("CALL_ESTABLISHED", 8), (phone.events, service.output)
        time.sleep(2)
        phone.command("hangup")
        assert phone.wait("CALL_CLOSED", 5)
    packets = sent_by(service, capture)
    # G.711 with ten bytes of proof behind it, and not a packet without.
    assert len(packets) > 50
    assert {len(packet.payload) for packet in packets} == {170}
    secured = [event for event in phone.events if event.get("type") == "CALL_MENC"]
    assert "AES_CM_128_HMAC_SHA1_80" in json.dumps(secured)


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

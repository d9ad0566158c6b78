"""baresip calls by ICE and DTLS: over TLS as carriers do, and over TCP, where no key may pass."""

import re
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.peers import speech
from tests.peers.baresip import RATES, Baresip, CodecName
from tests.peers.calling import dial, in_state, lab, one_call, post, until
from tests.peers.service import Service
from tests.ports import free_port
from tests.sip.certificates import Authority

pytestmark = pytest.mark.interop("baresip", "sox")

RATE = 8000
TONE_HZ = 440
BLOCK_S = 0.05
BITRATES = re.compile(r"audio=(\d+)/(\d+) \(bit/s\)")


def humming(folder: Path) -> Path:
    time_s = np.arange(20 * RATE) / RATE
    sound = (8000 * np.sin(2 * np.pi * TONE_HZ * time_s)).astype(np.int16)
    return speech.write(folder / "microphone.wav", sound, RATE)


def tones(sound: NDArray[np.int16], rate: int) -> list[bool]:
    """Of each 50 ms, whether it is the tone."""
    size = int(rate * BLOCK_S)
    found = []
    for block in sound[: len(sound) // size * size].reshape(-1, size).astype(float):
        spectrum = np.abs(np.fft.rfft(block * np.hanning(size)))
        loudest_hz = float(np.argmax(spectrum)) / BLOCK_S
        found.append(block.std() > 500 and abs(loudest_hz - TONE_HZ) <= 1 / BLOCK_S)
    return found


def secured(folder: Path) -> dict[str, Any]:
    issued = Authority(folder).issue("127.0.0.1", "localhost")
    return {
        "sip__tls_port": free_port(),
        "sip__tls_certificate": issued.certificate,
        "sip__tls_private_key": issued.private_key,
    }


@pytest.mark.matrix(19, 55, peer="baresip")
@pytest.mark.parametrize(("transport", "codec"), [("tls", "opus"), ("tcp", "PCMU")])
def test_a_call(tmp_path: Path, transport: Literal["tls", "tcp"], codec: CodecName) -> None:
    settings = secured(tmp_path) if transport == "tls" else {}
    with (
        Service(session__backend="echo", **settings) as service,
        Baresip(
            humming(tmp_path), transport=transport, codec=codec, by_dtls=True, records=tmp_path
        ) as phone,
    ):
        port = settings.get("sip__tls_port", service.sip_port)
        phone.command("dial", f"sip:agent@127.0.0.1:{port};transport={transport}")
        # It is told with the keys of the call.
        assert phone.wait("CALL_MENC", 8), (phone.events, service.output)
        call = one_call(service)
        assert call["secure"] == "dtls"
        time.sleep(1.0)
        if transport == "tls":
            hold_and_resume(phone)
        phone.command("hangup")
        assert phone.wait("CALL_CLOSED", 5)
        ended = until(service, call["id"], in_state("ended"))
        assert ended["end_reason"] == "remote_hangup"
    # It records what it hears up to the first hold.
    (path,) = tmp_path.glob("dump-*-dec.wav")
    heard = tones(speech.read(path), RATES[codec])
    print(f"\n{sum(heard) * BLOCK_S:.2f} s of {len(heard) * BLOCK_S:.2f} s are the tone")
    assert sum(heard) * BLOCK_S > 0.6


@pytest.mark.matrix(55, peer="baresip")
def test_a_call_of_ours(tmp_path: Path) -> None:
    """To a trunk that is given nothing else, over TCP, where no key may pass."""
    trunk = lab(addresses=["127.0.0.1"], srtp="dtls")
    with (
        Service(session__backend="echo", **trunk) as service,
        Baresip(
            humming(tmp_path),
            transport="tcp",
            codec="opus",
            by_dtls=True,
            answers=True,
            records=tmp_path,
        ) as phone,
    ):
        call_id = dial(service, f"sip:caller@127.0.0.1:{phone.port};transport=tcp")
        assert phone.wait("CALL_MENC", 8), (phone.events, service.output)
        assert until(service, call_id, in_state("active"))["secure"] == "dtls"
        time.sleep(1.0)
        post(service, call_id, "hangup")
        assert phone.wait("CALL_CLOSED", 5)
    (path,) = tmp_path.glob("dump-*-dec.wav")
    heard = tones(speech.read(path), RATES["opus"])
    assert sum(heard) * BLOCK_S > 0.6


def hold_and_resume(phone: Baresip) -> None:
    phone.command("hold")
    time.sleep(0.5)
    phone.command("resume")
    # Every three seconds it counts anew what it has sent and decrypted.
    counted = len(BITRATES.findall(phone.log))
    deadline = time.monotonic() + 8
    while not any(int(both[0]) and int(both[1]) for both in BITRATES.findall(phone.log)[counted:]):
        assert time.monotonic() < deadline, phone.log[-2000:]
        time.sleep(0.1)

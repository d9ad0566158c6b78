"""linphone calls: its speech comes back, it holds and resumes, presses keys and hangs up."""

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from tests.peers import speech
from tests.peers.calling import dial, in_state, lab, one_call, until
from tests.peers.capture import Capture
from tests.peers.linphone import Linphone
from tests.peers.service import Service

WORDS = "She sells sea shells by the sea shore, and nobody knows why. " * 3
OPUS = 96


def clear(said: Path, heard: Path) -> int:
    """Half seconds of what linphone recorded, at the rate of its codec, that sound as it spoke."""
    narrow = heard.with_suffix(".8k.wav")
    subprocess.run(["sox", str(heard), "-r", "8000", str(narrow)], check=True)
    sound = speech.read(narrow)
    pieces = [sound[start : start + 4000] for start in range(0, len(sound) - 4000, 1000)]
    loud = [piece for piece in pieces if np.abs(piece).max() > 1000]
    return sum(speech.same_sound(speech.read(said), piece) > 0.97 for piece in loud) // 4


@pytest.mark.interop("linphonec", "espeak-ng", "sox", "tcpdump")
@pytest.mark.matrix(1, 19, 52, peer="linphone")
def test_a_call_with_hold_and_keys(tmp_path: Path) -> None:
    heard_path = tmp_path / "heard.wav"
    words = speech.write(tmp_path / "words.wav", speech.samples(WORDS), 8000)
    with Service(session__backend="echo") as service, Linphone() as phone:
        low = int(service.settings["rtp.port_min"])
        wire = f"udp port {service.sip_port} or udp portrange {low}-{low + 399}"
        with Capture(wire) as capture:
            phone.command(f"record {heard_path}")
            phone.command(f"call sip:agent@127.0.0.1:{service.sip_port}")
            call_id = one_call(service)["id"]
            url = f"ws://127.0.0.1:{service.http_port}/v1/realtime?call_id={call_id}"
            with connect(f"{url}&events=bridge") as sideband:
                phone.command(f"play {words}")
                time.sleep(2)
                phone.command("pause")
                time.sleep(0.7)
                held_at = time.time()
                time.sleep(0.4)
                resumed_at = time.time()
                phone.command("resume")
                time.sleep(0.5)
                for key in "5#":
                    phone.command(key)
                    time.sleep(0.3)
                phone.command("terminate all")
                heard = [json.loads(text) for text in sideband]
            ended = until(service, call_id, in_state("ended"))
    assert ended["end_reason"] == "remote_hangup"
    keys = [e["event"] for e in heard if e["type"] == "transport.dtmf.received"]
    assert keys == ["5", "#"]
    ports = {d.source[1] for d in capture.datagrams if low <= d.source[1] <= low + 399}
    sent = [packet for port in sorted(ports) for packet in capture.rtp_from(port)]
    assert {packet.payload_type for packet in sent} == {OPUS}
    # Silence is three bytes long.
    assert max(len(p.payload) for p in sent if held_at < p.arrived_at < resumed_at) < 10
    assert clear(words, heard_path) >= 1


def both_ways(found: Mapping[str, Any]) -> bool:
    """linphone is heard, and tells in its RTCP what it hears."""
    media = found["media"]
    return media["received"]["packets"] > 25 and media["sent"]["lost"] is not None


@pytest.mark.interop("linphonec", "espeak-ng")
@pytest.mark.matrix(59, peer="linphone")
def test_a_phone_as_it_comes(tmp_path: Path) -> None:
    """On a host that has an IPv6 address its SDP names that, though it signals by IPv4."""
    words = speech.write(tmp_path / "words.wav", speech.samples(WORDS), 8000)
    with Service(session__backend="echo") as service, Linphone(ipv6=True) as phone:
        phone.command(f"call sip:agent@127.0.0.1:{service.sip_port}")
        call_id = one_call(service)["id"]
        phone.command(f"play {words}")
        until(service, call_id, both_ways, 20)
        phone.command("terminate all")
        ended = until(service, call_id, in_state("ended"))
    assert (ended["end_reason"], ended["media"]["sent"]["lost"]) == ("remote_hangup", 0)


@pytest.mark.interop("linphonec", "espeak-ng", "sox")
@pytest.mark.matrix(53, peer="linphone")
@pytest.mark.parametrize("way", ["in", "out"])
def test_a_call_with_keys(tmp_path: Path, way: str) -> None:
    """It speaks, and hears what it said, whoever has called."""
    heard_path = tmp_path / "heard.wav"
    words = speech.write(tmp_path / "words.wav", speech.samples(WORDS), 8000)
    trunk = lab(addresses=["127.0.0.1"], srtp="required")
    with (
        Service(session__backend="echo", sip__insecure_srtp_keys="true", **trunk) as service,
        Linphone(transport="tcp", encryption="srtp") as phone,
    ):
        phone.command(f"record {heard_path}")
        if way == "in":
            phone.command(f"call sip:agent@127.0.0.1:{service.sip_port};transport=tcp")
        else:
            dial(service, f"sip:caller@127.0.0.1:{phone.port};transport=tcp")
        call_id = one_call(service)["id"]
        phone.command(f"play {words}")
        time.sleep(2.5)
        phone.command("terminate all")
        ended = until(service, call_id, in_state("ended"))
    assert (ended["secure"], ended["end_reason"]) == ("sdes", "remote_hangup")
    assert clear(words, heard_path) >= 1

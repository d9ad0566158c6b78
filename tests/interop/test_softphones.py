"""Phones of our own: baresip and linphone register, are called by their name, and call."""

import json
import time
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest

from tests.peers import speech
from tests.peers.baresip import Baresip
from tests.peers.calling import in_state, post, until
from tests.peers.capture import Capture
from tests.peers.linphone import Linphone
from tests.peers.service import Service

Transport = Literal["udp", "tcp"]


def office() -> Service:
    """Old libre phones know MD5 only."""
    registrar: dict[str, Any] = {
        "users": {"caller": "wonderland"},
        "algorithms": ["MD5"],
        "addresses": ["127.0.0.1/32"],
    }
    return Service(session__backend="echo", sip__registrar=json.dumps(registrar))


def ring(service: Service, user: str) -> httpx2.Response:
    transport = {"type": "sip", "destination": f"sip:{user}@127.0.0.1", "caller": "desk"}
    url = f"{service.base_url}/realtime/calls"
    return httpx2.post(url, json={"transport": transport}, timeout=5)


def call(service: Service, user: str) -> str:
    """Up, and hung up by us."""
    deadline = time.monotonic() + 5
    while (answer := ring(service, user)).status_code == 404:
        assert answer.json()["error"]["code"] == "not_registered"
        assert time.monotonic() < deadline, "".join(service.output)
        time.sleep(0.1)
    assert answer.status_code == 201, answer.text
    call_id = str(answer.json()["id"])
    until(service, call_id, in_state("active"))
    return call_id


@pytest.mark.interop("baresip", "espeak-ng", "sox")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_baresip(tmp_path: Path, transport: Transport) -> None:
    microphone = speech.write(tmp_path / "mic.wav", speech.samples("Hello there."), 8000)
    with (
        office() as service,
        Baresip(
            microphone,
            transport=transport,
            codec="PCMU",
            answers=True,
            password="wonderland",
            registrar=f"127.0.0.1:{service.sip_port}",
        ) as phone,
    ):
        call_id = call(service, "caller")
        assert phone.wait("CALL_ESTABLISHED", 5), phone.events
        post(service, call_id, "hangup")
        assert phone.wait("CALL_CLOSED", 5), phone.events
        phone.command("dial", f"sip:agent@127.0.0.1:{service.sip_port};transport={transport}")
        assert phone.wait("CALL_ESTABLISHED", 5), phone.events


@pytest.mark.interop("linphonec", "tcpdump")
@pytest.mark.matrix(2, 38, peer="linphone")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_linphone(transport: Transport) -> None:
    with (
        office() as service,
        Linphone(transport=transport) as phone,
        Capture(f"tcp port {service.sip_port}") as capture,
    ):
        phone.register("caller", f"127.0.0.1:{service.sip_port}", "wonderland")
        call_id = call(service, "caller")
        assert phone.wait("Media streams established|connected", 5), phone.lines
        post(service, call_id, "hangup")
        assert until(service, call_id, in_state("ended"))["end_reason"] == "local_hangup"
        assert phone.wait("ended|terminated", 5), phone.lines
        # It pings once a second.
        time.sleep(1.5 if transport == "tcp" else 0)
        looked_at = time.time()
    to_us = [d for d in capture.datagrams if d.destination[1] == service.sip_port]
    from_us = [d for d in capture.datagrams if d.source[1] == service.sip_port]
    pings = [d.at for d in to_us if d.data == b"\r\n\r\n"]
    pongs = sum(d.data == b"\r\n" for d in from_us)
    # The capture may end between a ping and its answer.
    owed = sum(at <= looked_at for at in pings)
    assert owed <= pongs <= len(pings)
    assert bool(owed) == (transport == "tcp")

"""Ways to a phone: gateways that fail or redirect, what a registrar tells, phones of one name."""

import json
import re
import socket
import time
from pathlib import Path

import httpx2
import pytest

from tests.peers import speech
from tests.peers.baresip import Baresip
from tests.peers.calling import calling, dial, in_state, post, record, until
from tests.peers.service import Service
from tests.peers.sipp import Scenario, playing, sdp

HOST = "127.0.0.1"


def answering() -> Scenario:
    callee = Scenario().receive_invite().reply("180 Ringing")
    return callee.reply_to_invite("200 OK", sdp()).receive("ACK").answer_bye()


@pytest.mark.interop("sipp")
@pytest.mark.matrix(39, 40, peer="sipp")
def test_a_silent_gateway_then_one_that_redirects(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf,
        playing(answering(), tmp_path) as phone,
    ):
        deaf.bind((HOST, 0))
        moved = f"<sip:4930123@{HOST}:{phone.port}>"
        redirecting = Scenario().receive_invite().reply("302 Moved Temporarily", contact=moved)
        with playing(redirecting.receive("ACK"), tmp_path) as gateway:
            trunk = {
                "uri": f"sip:{HOST}:{deaf.getsockname()[1]}",
                "backups": [f"sip:{HOST}:{gateway.port}"],
                "failover_s": 0.5,
                "redirects": "any",
            }
            with calling(**trunk) as service:
                begun = time.monotonic()
                call_id = dial(service, "tel:4930123")
                until(service, call_id, in_state("active"))
                assert time.monotonic() - begun < 3
                assert deaf.recv(65536).startswith(b"INVITE sip:4930123@")
                post(service, call_id, "hangup")
                phone.finish()


@pytest.mark.interop("sipp")
@pytest.mark.matrix(38, peer="sipp")
def test_what_the_registrar_tells_is_used(tmp_path: Path) -> None:
    """It sees us at another address, and wants calls by a proxy."""
    seen = "203.0.113.9;rport=40000"
    proxy = Scenario().receive_invite(
        r"^INVITE sip:4930123@127\.0\.0\.1:",
        r"Route: <sip:proxy@127\.0\.0\.1:[0-9]+;lr>",
        r"Contact: <sip:203\.0\.113\.9:40000>",
        r"c=IN IP4 203\.0\.113\.9",
    )
    proxy = proxy.reply_to_invite("486 Busy Here").receive("ACK")
    with playing(proxy, tmp_path) as hop:
        branch = ("branch", "Via: [^;]*;branch=([^;]+)")
        via = f"SIP/2.0/UDP {HOST};branch=[$branch];received={seen}"
        route = f"Service-Route: <sip:proxy@{HOST}:{hop.port};lr>"
        registrar = Scenario()
        for match in (
            r"Contact: <sip:agent@127\.0\.0\.1:",
            r"Contact: <sip:agent@203\.0\.113\.9:40000>",
        ):
            registrar = registrar.receive("REGISTER", match, captures=[branch])
            registrar = registrar.reply(headers=[route, "Expires: 600"], via=via)
        farewell = registrar.receive("REGISTER", "Expires: 0", captures=[branch])
        with playing(farewell.reply(via=via), tmp_path, recv_timeout_ms=15000) as server:
            trunk = {
                "uri": f"sip:{HOST}:{server.port}",
                "username": "agent",
                "password": "x",
                "register": True,
            }
            with calling(**trunk) as service:
                moved = re.compile(r"registered  .*expires_s=600")
                deadline = time.monotonic() + 8
                while not any(map(moved.search, service.output)):
                    assert time.monotonic() < deadline, server.errors() + "".join(service.output)
                    time.sleep(0.02)
                time.sleep(0.3)
                call_id = dial(service, "tel:4930123")
                assert until(service, call_id, in_state("ended"))["sip_status"] == 486


@pytest.mark.interop("baresip", "espeak-ng", "sox")
def test_two_phones_of_one_name(tmp_path: Path) -> None:
    """Both ring, one answers, and the other stops."""
    registrar = {"users": {"caller": "x"}, "algorithms": ["MD5"], "addresses": [f"{HOST}/32"]}
    microphone = speech.write(tmp_path / "mic.wav", speech.samples("Hello there."), 8000)
    with Service(session__backend="echo", sip__registrar=json.dumps(registrar)) as service:
        here = f"{HOST}:{service.sip_port}"

        def phone(*, answers: bool) -> Baresip:
            return Baresip(
                microphone,
                transport="udp",
                codec="PCMU",
                answers=answers,
                password="x",
                registrar=here,
            )

        with phone(answers=False) as silent, phone(answers=True) as eager:
            transport = {"type": "sip", "destination": f"sip:caller@{HOST}"}
            url = f"{service.base_url}/realtime/calls"
            deadline = time.monotonic() + 10
            while True:
                made = httpx2.post(url, json={"transport": transport}, timeout=5)
                if made.status_code == 201 and silent.wait("CALL_INCOMING", 1):
                    break
                # Not both have registered yet.
                assert time.monotonic() < deadline, (made.text, silent.events)
                if made.status_code == 201:
                    post(service, made.json()["id"], "hangup")
                time.sleep(0.2)
            call_id = made.json()["id"]
            assert eager.wait("CALL_ESTABLISHED", 5), eager.events
            assert silent.wait("CALL_CLOSED", 5), silent.events
            assert record(service, call_id)["state"] == "active"
            post(service, call_id, "hangup")
            assert eager.wait("CALL_CLOSED", 5), eager.events

"""sipp calls, and the wire or the API tells how it went: what no answer shows by itself."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from tests.peers.calling import in_state, one_call, post, until
from tests.peers.capture import Capture
from tests.peers.receiver import Receiver
from tests.peers.service import Service
from tests.peers.sipp import OURSELVES, REST, Scenario, play, playing, sdp

pytestmark = pytest.mark.interop("sipp", "tcpdump")

# Nobody answers the webhook: the phone rings until the caller gives up.
RINGS: dict[str, Any] = {
    "webhooks__url": "http://127.0.0.1:9/",
    "webhooks__secret": "whsec_c2VjcmV0",
}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(session__backend="echo") as service:
        yield service


@pytest.fixture(scope="module")
def ringing() -> Iterator[Service]:
    with Service(session__backend="echo", **RINGS) as service:
        yield service


def times(capture: Capture, start: str) -> list[float]:
    return [at for at, line in capture.sip() if line.startswith(start)]


@pytest.mark.matrix(4, peer="sipp")
def test_invite_again_while_it_rings(ringing: Service, tmp_path: Path) -> None:
    call = Scenario().invite(retransmits=False).expect(100).expect(180)
    call.pause(200).copy_of_invite().expect(180).cancel().expect(200).expect(487).ack_refusal()
    with Capture(f"udp port {ringing.sip_port}") as capture:
        play(call, tmp_path, "-nr", to=ringing.sip)
    rung = [d.data for d in capture.datagrams if d.data.startswith(b"SIP/2.0 180")]
    assert len(rung) == 2
    assert rung[0] == rung[1]
    assert ringing.metric("bridge_calls_started_total") == 1


@pytest.mark.matrix(8, peer="sipp")
def test_a_refusal_is_repeated_until_it_is_acknowledged(service: Service, tmp_path: Path) -> None:
    unplayable = sdp("m=audio 7000 RTP/AVP 18")
    call = Scenario().invite(unplayable, retransmits=False).expect(100).expect(488)
    call.pause(1800).ack_refusal().pause(2500)
    with Capture(f"udp port {service.sip_port}") as capture:
        play(call, tmp_path, to=service.sip)
    refused = times(capture, "SIP/2.0 488")
    gaps = [after - before for before, after in pairwise(refused)]
    # T1, then twice that; the next would have come in the last pause.
    assert gaps == pytest.approx([0.5, 1.0], abs=0.1)


@pytest.mark.matrix(18, peer="sipp")
def test_bye_again(service: Service, tmp_path: Path) -> None:
    call = Scenario().call().bye().again().expect(200)
    # Else sipp would take the second 200 for a reason to repeat itself.
    play(call, tmp_path, "-nr", to=service.sip)


@pytest.mark.matrix(22, peer="sipp")
def test_a_refresh_changes_nothing(service: Service, tmp_path: Path) -> None:
    call = Scenario().invite().ringing().expect(200, log=f"o={REST}").ack()
    for _ in range(2):
        call.invite().ringing().expect(200, log=f"o={REST}").ack()
    call.request("UPDATE").expect(200).bye()
    logged = play(call, tmp_path, to=service.sip).logged()
    assert len({line for line in logged if line.startswith("o=")}) == 1
    assert sum(line.startswith("o=") for line in logged) == 3


@pytest.mark.matrix(18, 27, 31, peer="sipp")
@pytest.mark.parametrize("doubled", [";lr", ";lr=on;r2=on"])
def test_our_bye_goes_by_the_recorded_routes(
    service: Service, tmp_path: Path, doubled: str
) -> None:
    hop = "sip:[local_ip]:[local_port]"
    first, second = f"<{hop}{doubled};n=1>", f"<{hop};transport=tcp{doubled};n=2>"
    routes = [f"Record-Route: {first}", f"Record-Route: {second}"]
    call = Scenario(contact="<sip:sipp@10.9.8.7:5099>")
    call.invite(headers=routes).expect(100).expect(180, "n=1.*n=2").expect(200, "n=1.*n=2").ack()
    call.receive("BYE", "BYE sip:sipp@10.9.8.7:5099 SIP", "Route: .*n=1.*n=2").reply(tag="")
    with playing(call, tmp_path, to=service.sip):
        post(service, one_call(service)["id"], "hangup")


@pytest.mark.matrix(29, peer="sipp")
def test_a_strict_router(service: Service, tmp_path: Path) -> None:
    call = Scenario().invite(headers=[f"Record-Route: <{OURSELVES};n=1>"])
    call.ringing().expect(200).ack()
    call.receive("BYE", "BYE sip:sipp@[^ ]*n=1", "Route: .*transport=UDP").reply(tag="")
    with playing(call, tmp_path, to=service.sip):
        post(service, one_call(service)["id"], "hangup")


@pytest.mark.matrix(46, peer="sipp")
def test_update_with_sdp_before_the_answer(ringing: Service, tmp_path: Path) -> None:
    call = Scenario().invite().expect(100).expect(180, early=True)
    call.request("UPDATE", sdp(version=2)).expect(500, "Retry-After: ")
    call.request("UPDATE").expect(200)
    call.cancel().expect(200).expect(487).ack_refusal()
    play(call, tmp_path, to=ringing.sip)


@pytest.mark.matrix(51, peer="sipp")
def test_keys_by_info(service: Service, tmp_path: Path) -> None:
    call = Scenario().call().pause(800)
    relay = "Signal=5\nDuration=160\n"
    call.request("INFO", relay, content_type="application/dtmf-relay").expect(200)
    call.pause(300).request("INFO", "#", content_type="application/dtmf").expect(200)
    call.pause(200).bye()
    with playing(call, tmp_path, to=service.sip):
        url = f"ws://127.0.0.1:{service.http_port}/v1/realtime?call_id={one_call(service)['id']}"
        with connect(f"{url}&events=bridge") as sideband:
            heard = [json.loads(text) for text in sideband]
    keys = [e["event"] for e in heard if e["type"] == "transport.dtmf.received"]
    assert keys == ["5", "#"]


@pytest.mark.matrix(54, peer="sipp")
def test_no_keys_where_they_are_required(tmp_path: Path) -> None:
    trunk = {"addresses": ["127.0.0.1"], "srtp": "required"}
    call = Scenario().invite().expect(100).expect(488).ack_refusal()
    with Service(session__backend="echo", sip__trunks=json.dumps({"pbx": trunk})) as service:
        play(call, tmp_path, to=service.sip)


@pytest.mark.matrix(57, peer="sipp")
def test_a_caller_who_says_nothing(tmp_path: Path) -> None:
    with Service(session__backend="echo", limits__media_timeout_s=2) as service:
        began = time.monotonic()
        play(Scenario().call().answer_bye(), tmp_path, to=service.sip)
        assert 1.5 < time.monotonic() - began < 5


@pytest.mark.matrix(63, peer="sipp")
@pytest.mark.parametrize("trusted", [True, False])
def test_headers_of_the_caller(tmp_path: Path, trusted: bool) -> None:
    trunk = {"addresses": ["127.0.0.1" if trusted else "127.0.0.2"]}
    headers = {
        "P-Asserted-Identity": "<sip:+49301@carrier>",
        "X-Account": "42",
        "Diversion": "<sip:+49302@carrier>;reason=unconditional",
        "History-Info": "<sip:+49303@carrier>;index=1",
        "User-to-User": "3132;encoding=hex",
        "Identity": "eyJhbGciOi;info=<https://a.example>;alg=ES256",
    }
    call = Scenario().call(None, [f"{name}: {value}" for name, value in headers.items()])
    call.pause(300).bye()

    async def scenario() -> dict[str, str]:
        receiver = await Receiver().open()
        settings: dict[str, Any] = {
            **RINGS,
            "webhooks__url": receiver.url,
            "sip__trunks": json.dumps({"carrier": trunk}),
            "sip__unknown_sources": "allow",
        }
        with Service(session__backend="echo", **settings) as service:
            with playing(call, tmp_path, to=service.sip):
                told = json.loads((await receiver.next()).body)["data"]
                post(service, told["call_id"], "accept", type="realtime")
            await receiver.close()
        return {entry["name"]: entry["value"] for entry in told["sip_headers"]}

    found = asyncio.run(scenario())
    expected = set(headers) if trusted else set(headers) - {"P-Asserted-Identity"}
    assert {name: found[name] for name in set(headers) & set(found)} == {
        name: headers[name] for name in expected
    }


@pytest.mark.matrix(61, peer="sipp")
def test_strangers_get_silence(tmp_path: Path) -> None:
    trunks = json.dumps({"carrier": {"addresses": ["127.0.0.2"]}})
    settings: dict[str, Any] = {"sip__trunks": trunks, "sip__unknown_sources": "drop"}
    with Service(session__backend="echo", **settings) as service:
        with Capture(f"udp port {service.sip_port} and src host 127.0.0.1") as capture:
            silence = Scenario().request("OPTIONS").pause(700)
            play(silence, tmp_path, to=service.sip)
        ours = [d for d in capture.datagrams if d.source[1] == service.sip_port]
        assert len(capture.datagrams) >= 2
        assert ours == []
        play(Scenario().call().bye(), tmp_path, to=service.sip, host="127.0.0.2")


@pytest.mark.matrix(64, peer="sipp")
def test_drain(tmp_path: Path) -> None:
    kept = Scenario().call().answer_bye()
    leaves = Scenario().call().pause(1500).bye()
    with Service(session__backend="echo", limits__drain_timeout_s=3) as service:
        with playing(kept, tmp_path, to=service.sip), playing(leaves, tmp_path, to=service.sip):
            while service.metric("bridge_calls_live") < 2:
                time.sleep(0.05)
            began = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            refused = Scenario().request("OPTIONS").expect(503)
            refused.invite().expect(503, "Retry-After: ").ack_refusal()
            play(refused, tmp_path, to=service.sip)
        service.process.wait(5)
        # The one that stayed was hung up on at the deadline.
        assert 2.5 < time.monotonic() - began < 5
        assert service.process.returncode == 0


@pytest.mark.matrix(2, 58, peer="phone")
def test_a_stream_in_pieces_and_one_that_is_too_much(service: Service) -> None:
    ask = (
        "OPTIONS sip:agent@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK{0}\r\n"
        "From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: {0}\r\nCSeq: 1 OPTIONS\r\n"
        "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    with socket.create_connection(service.sip, 5) as stream:
        stream.sendall(b"\r\n\r\n")
        assert stream.recv(100) == b"\r\n"
        both = (ask.format(1) + ask.format(2)).encode()
        for start in range(0, len(both), 50):
            stream.sendall(both[start : start + 50])
            time.sleep(0.005)
        got = b""
        while got.count(b"SIP/2.0 200") < 2:
            got += stream.recv(4096)
        stream.sendall(b"OPTIONS sip:agent@127.0.0.1 SIP/2.0\r\nX-Pad: " + b"x" * 70_000)
        rest = b""
        while piece := stream.recv(4096):
            rest += piece
    assert rest == b"" or rest.startswith(b"SIP/2.0 513")


@pytest.mark.matrix(63, peer="phone")
def test_a_header_that_would_break_out() -> None:
    trunks = json.dumps({"lab": {"prefixes": ["*"], "private_hosts": True}})
    with Service(session__backend="echo", sip__trunks=trunks) as service:
        transport = {
            "type": "sip",
            "trunk": "lab",
            "destination": "sip:bob@127.0.0.1:9",
            "headers": {"X-A": "b\r\nVia: c"},
        }
        url = f"{service.base_url}/realtime/calls"
        answer = httpx2.post(url, json={"transport": transport}, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "transport.headers.X-A"


@pytest.mark.matrix(18, peer="sipp")
def test_our_bye(service: Service, tmp_path: Path) -> None:
    with playing(Scenario().call().answer_bye(), tmp_path, to=service.sip):
        call_id = one_call(service)["id"]
        post(service, call_id, "hangup")
        assert until(service, call_id, in_state("ended"))["end_reason"] == "local_hangup"

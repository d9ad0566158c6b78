"""Twinkle calls and is called: hold, keys, and BYE from either side."""

import json
from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from tests.peers.calling import calling, dial, in_state, one_call, post, until
from tests.peers.capture import Capture
from tests.peers.service import Service
from tests.peers.twinkle import Twinkle

pytestmark = pytest.mark.interop("twinkle-console", "tcpdump")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with calling() as service:
        yield service


@pytest.mark.matrix(1, 18, 19, 52, peer="twinkle")
def test_twinkle_calls(service: Service) -> None:
    with (
        Twinkle() as phone,
        Capture(f"udp port {service.sip_port}") as capture,
    ):
        phone.command(f"call sip:agent@127.0.0.1:{service.sip_port}")
        assert phone.wait("far end answered"), phone.lines
        call_id = one_call(service)["id"]
        url = f"ws://127.0.0.1:{service.http_port}/v1/realtime?call_id={call_id}"
        with connect(f"{url}&events=bridge") as sideband:
            phone.command("hold")
            assert phone.wait("re-INVITE successful"), phone.lines
            phone.command("retrieve")
            assert phone.wait("re-INVITE successful", count=2), phone.lines
            phone.command("dtmf 5#")
            keys: list[str] = []
            while len(keys) < 2:
                event = json.loads(sideband.recv(timeout=5))
                keys += [event["event"]] if event["type"] == "transport.dtmf.received" else []
        phone.command("bye")
        ended = until(service, call_id, in_state("ended"))
    assert keys == ["5", "#"]
    assert ended["end_reason"] == "remote_hangup"
    answers = [d.data for d in capture.datagrams if d.data.startswith(b"SIP/2.0 200 ")]
    directions = [line for data in answers for line in data.split(b"\r\n") if line[:6] == b"a=recv"]
    assert directions == [b"a=recvonly"]


@pytest.mark.matrix(18, 42, peer="twinkle")
def test_twinkle_is_called(service: Service) -> None:
    with Twinkle() as phone:
        call_id = dial(service, f"sip:caller@127.0.0.1:{phone.port}")
        assert phone.wait("incoming call"), phone.lines
        phone.command("answer")
        until(service, call_id, in_state("active"))
        post(service, call_id, "hangup")
        assert phone.wait("far end ended call"), phone.lines
        assert until(service, call_id, in_state("ended"))["end_reason"] == "local_hangup"

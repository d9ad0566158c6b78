"""A transfer that fails: how long until the caller hears the agent again, by the wire.

baresip calls the target beside the call, as many phones do; sipp plays one that puts the agent on
hold meanwhile, and comes back when the target has refused. The agent is an echo of a caller who
is never silent.
"""

import json
import time
from pathlib import Path

import pytest

from tests.interop.test_phone_features import humming
from tests.peers.baresip import Baresip
from tests.peers.calling import WAIT_S, post
from tests.peers.capture import Capture, is_loud
from tests.peers.service import Service
from tests.peers.sipp import Scenario, playing, sdp
from tests.ports import free_port

TOGETHER_MS = 500


def wire(service: Service) -> Capture:
    low = int(service.settings["rtp.port_min"])
    return Capture(f"udp port {service.sip_port} or udp portrange {low}-{low + 399}")


def apart_ms(service: Service, capture: Capture, status: int) -> float:
    """From the NOTIFY that ends the transfer to the first sound for the caller."""
    outcome = f"SIP/2.0 {status} ".encode()
    told_at = next(
        d.at for d in capture.datagrams if d.data.startswith(b"NOTIFY ") and outcome in d.data
    )
    low = int(service.settings["rtp.port_min"])
    ours = {d.source[1] for d in capture.datagrams if low <= d.source[1] <= low + 399}
    heard = [p for port in ours for p in capture.rtp_from(port) if p.arrived_at > told_at]
    return 1000 * (min(p.arrived_at for p in heard if is_loud(p)) - told_at)


def failed(service: Service, status: int) -> None:
    """The call goes on, and its record says why."""
    deadline = time.monotonic() + WAIT_S
    while ((call := service.calls()[0])["transfer"] or {}).get("status") != status:
        assert time.monotonic() < deadline, call
        time.sleep(0.02)
    assert call["state"] == "active"


def report(phone: str, status: int, ms: float) -> None:
    print(json.dumps({"phone": phone, "refused_with": status, "together_after_ms": round(ms, 1)}))


@pytest.mark.interop("baresip", "sipp", "sox", "tcpdump")
@pytest.mark.matrix(48, peer="baresip")
def test_a_phone_that_calls_beside_it(tmp_path: Path) -> None:
    target = Scenario().receive_invite().reply("180 Ringing").pause(400)
    target = target.reply_to_invite("486 Busy Here").receive("ACK")
    with (
        Service(session__backend="echo") as service,
        playing(target, tmp_path) as colleague,
        Baresip(humming(tmp_path, 20), transport="udp", codec="PCMU") as phone,
        wire(service) as capture,
    ):
        phone.command("dial", f"sip:agent@127.0.0.1:{service.sip_port}")
        assert phone.wait("CALL_ESTABLISHED", 5), phone.events
        (call,) = service.calls()
        post(service, call["id"], "refer", target_uri=f"sip:bob@127.0.0.1:{colleague.port}")
        failed(service, 486)
        time.sleep(0.6)
        assert len(service.calls()) == 1
    ms = apart_ms(service, capture, 486)
    report("baresip", 486, ms)
    assert ms <= TOGETHER_MS


@pytest.mark.interop("sipp", "tcpdump")
@pytest.mark.matrix(48, peer="sipp")
def test_a_phone_that_holds_meanwhile(tmp_path: Path) -> None:
    tone = tmp_path / "tone.ulaw"
    tone.write_bytes(bytes([0x10, 0x20, 0x10, 0x7F, 0x90, 0xA0, 0x90, 0xFF]) * 1000)
    outcome = ("Event: refer", "Subscription-State: terminated;reason=noresource")
    caller = Scenario().call().execute(f'rtp_stream="{tone},-1,0"')
    caller = caller.receive("REFER").reply("202 Accepted", tag="")
    caller = caller.invite(sdp(direction="inactive", version=2)).expect(100, optional=True)
    caller = caller.expect(200, "a=inactive").ack().pause(400)
    caller = caller.request(
        "NOTIFY", "SIP/2.0 603 Decline\n", outcome, content_type="message/sipfrag;version=2.0"
    ).expect(200)
    caller = caller.invite(sdp(direction="sendrecv", version=3)).expect(100, optional=True)
    caller = caller.expect(200, "a=sendrecv").ack().pause(600).bye()
    with (
        Service(session__backend="echo") as service,
        wire(service) as capture,
        playing(caller, tmp_path, to=("127.0.0.1", service.sip_port)),
    ):
        deadline = time.monotonic() + WAIT_S
        while not [call for call in service.calls() if call["state"] == "active"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.4)
        (call,) = service.calls()
        post(service, call["id"], "refer", target_uri=f"sip:bob@127.0.0.1:{free_port()}")
        failed(service, 603)
    ms = apart_ms(service, capture, 603)
    report("sipp, on hold", 603, ms)
    assert ms <= TOGETHER_MS

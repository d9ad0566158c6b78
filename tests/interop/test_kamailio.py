"""sipp calls through Kamailio: over two nodes of which one goes, and back by a registration."""

import json
import signal
import time
from pathlib import Path

import pytest

from tests.peers.capture import Capture
from tests.peers.kamailio import PASSWORD, USER, Edge, Gate, Kamailio
from tests.peers.service import Service
from tests.peers.sipp import Scenario, play, playing

pytestmark = pytest.mark.interop("kamailio", "sipp")

CALLS = 32
PER_SECOND = 20
TALK_MS = 800


def until_calls(service: Service, count: int) -> None:
    deadline = time.monotonic() + 5
    while service.metric("bridge_calls_started_total") < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def a_call() -> Scenario:
    """What the edge says of a BYE that nobody answers is logged, and no failure."""
    call = Scenario().call().pause(TALK_MS).request("BYE")
    gone = '<recv response="408" optional="true" next="1"><action><log message="lost"/></action>'
    call.steps += [f"{gone}</recv>", '<recv response="200"/>', '<label id="1"/>']
    return call


@pytest.mark.matrix(27, 30, 64, peer="Kamailio, sipp")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_node_goes_in_the_middle_of_calls(tmp_path: Path, how: signal.Signals) -> None:
    """Killed, it takes the calls with it that it had; asked to go, it ends them first."""
    with (
        Service(session__backend="echo") as kept,
        Service(session__backend="echo") as lost,
        Edge([kept.sip, lost.sip]) as edge,
        playing(
            a_call(), tmp_path, "-r", str(PER_SECOND), to=("127.0.0.1", edge.port), calls=CALLS
        ) as callers,
    ):
        until_calls(lost, CALLS // 4)
        asked_at = time.monotonic()
        live = lost.metric("bridge_calls_live")
        lost.process.send_signal(how)
        live += 1 + PER_SECOND * (time.monotonic() - asked_at)
        until_calls(kept, CALLS // 2)
        lost.process.wait(10)
        assert kept.process.poll() is None
    # All were answered, and those of the other node ended as they should.
    assert callers.statistic("SuccessfulCall(C)") == CALLS
    missed = callers.logged().count("lost")
    assert missed == 0 if how == signal.SIGTERM else 0 < missed <= live
    assert lost.process.returncode == (0 if how == signal.SIGTERM else -how)


@pytest.mark.interop("tcpdump")
@pytest.mark.matrix(37, 38, peer="Kamailio, sipp")
def test_a_trunk_is_called_by_its_path(tmp_path: Path) -> None:
    """We register through a proxy, and calls come by it."""
    with Kamailio() as registrar, Gate(registrar) as gate:
        trunk = {
            "addresses": ["127.0.0.1"],
            "uri": f"sip:127.0.0.1:{gate.port};transport=tcp",
            "username": USER,
            "password": PASSWORD,
            "register": True,
        }
        with (
            Service(session__backend="echo", sip__trunks=json.dumps({"pbx": trunk})) as service,
            Capture(f"tcp port {service.sip_port}") as capture,
        ):
            service.wait_for("registered", 8)
            target = f"sip:{USER}@127.0.0.1:{registrar.port}"
            call = Scenario().invite(uri=target).ringing()
            call.expect(200, f"Record-Route: .*{gate.port}")
            play(call.ack().pause(200).bye(), tmp_path, to=("127.0.0.1", registrar.port))
    (invite,) = [
        d.data
        for d in capture.datagrams
        if d.destination[1] == service.sip_port and d.data.startswith(b"INVITE ")
    ]
    assert invite.count(b"\r\nVia: ") == 3

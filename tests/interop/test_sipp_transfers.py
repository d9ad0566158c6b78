"""Transfers that callers ask for: sipp and baresip name a target, and sipp is who that is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import speech
from tests.peers.baresip import Baresip
from tests.peers.calling import in_state, lab, one_call, post, until
from tests.peers.service import Service
from tests.peers.sipp import REST, Scenario, playing, sdp

pytestmark = pytest.mark.interop("sipp")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    trunk = lab(addresses=["127.0.0.1"])
    with Service(session__backend="echo", sip__inbound_transfer="allow", **trunk) as service:
        yield service
        assert service.calls() == []


def refers(port: int, *headers: str, replaces: str = "") -> Scenario:
    asks = [f"Refer-To: <sip:bob@127.0.0.1:{port}{replaces}>", *headers]
    return Scenario().call().request("REFER", headers=asks)


def told(call: Scenario, *news: str) -> Scenario:
    for line in news:
        call.receive("NOTIFY", "Event: refer", line).reply(tag="")
    return call


def takes(*matches: str) -> Scenario:
    """The colleague, whom we hang up on."""
    call = Scenario().receive("INVITE", *matches).reply("200 OK", sdp(), retransmits=True)
    return call.receive("ACK").answer_bye()


def hang_up(service: Service) -> None:
    """On the one call there is, which was transferred."""
    (call,) = service.calls()
    assert call["state"] == "active"
    assert call["transfer"]["status"] == 200
    post(service, call["id"], "hangup")


@pytest.mark.parametrize(
    ("replaces", "expected"),
    [
        pytest.param("", (), id="unasked", marks=pytest.mark.matrix(47, peer="sipp")),
        pytest.param(
            "?Replaces=asked%40pbx%3Bto-tag%3D1%3Bfrom-tag%3D2",
            ("Replaces: asked@pbx;to-tag=1;from-tag=2",),
            id="asked",
            marks=pytest.mark.matrix(49, peer="sipp"),
        ),
    ],
)
def test_a_colleague_answers(
    service: Service, tmp_path: Path, replaces: str, expected: tuple[str, ...]
) -> None:
    """Whom the caller may have talked to already, in a call that we then take over."""
    with playing(takes(*expected), tmp_path) as colleague:
        caller = refers(colleague.port, replaces=replaces).expect(202)
        told(caller, "SIP/2.0 100.*", "terminated.*SIP/2.0 200").answer_bye()
        with playing(caller, tmp_path, to=service.sip):
            pass
        hang_up(service)


@pytest.mark.matrix(47, peer="sipp")
def test_a_caller_who_is_slow_hears_it_before_our_bye(service: Service, tmp_path: Path) -> None:
    with playing(takes(), tmp_path) as colleague:
        caller = refers(colleague.port).expect(202)
        caller.receive("NOTIFY", "SIP/2.0 100").pause(300).reply(tag="")
        told(caller, "terminated.*SIP/2.0 200").answer_bye()
        with playing(caller, tmp_path, to=service.sip):
            pass
        hang_up(service)


@pytest.mark.matrix(47, peer="sipp")
def test_a_colleague_is_busy(service: Service, tmp_path: Path) -> None:
    """The caller stays with us, and hangs up."""
    busy = Scenario().receive("INVITE").reply("486 Busy Here", retransmits=True).receive("ACK")
    with playing(busy, tmp_path) as colleague:
        caller = refers(colleague.port).expect(202)
        told(caller, "SIP/2.0 100", "terminated.*SIP/2.0 486").request("OPTIONS").expect(200)
        with playing(caller.bye(), tmp_path, to=service.sip):
            pass


@pytest.mark.matrix(50, peer="sipp")
def test_a_caller_who_wants_no_news(service: Service, tmp_path: Path) -> None:
    with playing(takes(), tmp_path) as colleague:
        caller = refers(colleague.port, "Refer-Sub: false", "Supported: norefersub")
        caller.expect(202, "Refer-Sub: false").answer_bye()
        with playing(caller, tmp_path, to=service.sip):
            pass
        hang_up(service)


@pytest.mark.matrix(49, peer="sipp")
def test_a_colleague_takes_over(service: Service, tmp_path: Path) -> None:
    """INVITE with Replaces: the caller is let go, the session goes on."""
    caller = Scenario().invite().ringing().expect(200, log=f"To:{REST}").ack().answer_bye()
    with playing(caller, tmp_path, to=service.sip) as first:
        call = one_call(service)
        ours = first.logged()[-1].partition(";tag=")[2].strip()
        place = f"Replaces: 1-{first.pid}@127.0.0.1;to-tag={ours};from-tag={first.pid}sipp1"
        colleague = Scenario().call(None, [place]).answer_bye()
        with playing(colleague, tmp_path, to=service.sip):
            first.finish()
            assert until(service, call["id"], in_state("active"))["id"] == call["id"]
            post(service, call["id"], "hangup")


@pytest.mark.interop("baresip", "sox", "espeak-ng")
@pytest.mark.matrix(47, peer="baresip")
def test_baresip_transfers_us(service: Service, tmp_path: Path) -> None:
    microphone = speech.write(tmp_path / "mic.wav", speech.samples("One moment."), 8000)
    with (
        playing(takes(), tmp_path) as colleague,
        Baresip(microphone, transport="udp", codec="PCMU") as phone,
    ):
        phone.command("dial", f"sip:agent@127.0.0.1:{service.sip_port}")
        assert phone.wait("CALL_ESTABLISHED", 5), phone.events
        phone.command("transfer", f"sip:bob@127.0.0.1:{colleague.port}")
        assert phone.wait("CALL_CLOSED", 5), phone.events
        hang_up(service)

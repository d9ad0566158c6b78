"""What takes long by the RFCs' own timers, all at once: a minute of waiting and little work."""

import faulthandler
import re
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peers.calling import dial, in_state, lab, post, until
from tests.peers.capture import Capture
from tests.peers.service import Service
from tests.peers.sipp import Player, Scenario, play, playing, sdp

pytestmark = pytest.mark.interop("sipp", "tcpdump")

PATIENT = {"timeout_s": 80.0, "recv_timeout_ms": 75_000}
TIMED = "Supported: timer"
SIGNALLING = Path(__file__).parent / "sipp" / "signalling.xml"
BURST = 200


def never_acknowledged() -> Scenario:
    """200 until 64*T1, then BYE."""
    return Scenario().invite().ringing().expect(200).answer_bye()


def never_acknowledged_early() -> Scenario:
    """A reliable 180 until 64*T1, then 504."""
    call = Scenario().invite(headers=["Require: 100rel"]).expect(100).expect(180, "RSeq: ")
    return call.expect(504).ack_refusal()


def never_refreshes() -> Scenario:
    """BYE a third before the end of an interval that the caller promised to refresh."""
    return Scenario().call(None, ["Session-Expires: 90;refresher=uac", TIMED]).answer_bye()


def is_refreshed() -> Scenario:
    agreed = ["Session-Expires: 90;refresher=uac", "Require: timer"]
    call = Scenario().call(
        None, ["Session-Expires: 90;refresher=uas", TIMED, "Allow: INVITE, ACK, BYE, UPDATE"]
    )
    return call.receive("UPDATE", "Session-Expires: 90").reply(headers=agreed, tag="").bye()


def glares() -> Scenario:
    """Both ask at once: 491 both ways, and the server comes back within two seconds."""
    agreed = ["Session-Expires: 90;refresher=uac", "Require: timer"]
    call = Scenario().call(
        None, ["Session-Expires: 90;refresher=uas", TIMED, "Allow: INVITE, ACK, BYE"]
    )
    call.receive_invite().invite(retransmits=False)
    call.expect(100, optional=True).expect(491).ack_refusal()
    call.reply_to_invite("491 Request Pending", tag="").receive("ACK")
    call.receive("INVITE", timeout_ms=2500).reply("200 OK", sdp(version=2), agreed, tag="")
    return call.receive("ACK").bye()


def says_nothing() -> Scenario:
    return Scenario().receive("INVITE").pause(33_000)


def rings_long() -> Scenario:
    """Longer than timer B, which is over with the first response."""
    call = Scenario().receive("INVITE").reply("180 Ringing").pause(35_000)
    return call.reply("200 OK", sdp(), retransmits=True).receive("ACK").answer_bye()


class Soak:
    """Calls in bursts to a service of their own; the first one is to warm it up."""

    def __init__(self, folder: Path) -> None:
        self.service = Service(session__backend="echo")
        self._folder = folder
        self._before = (0.0, 0, 0)

    def __enter__(self) -> "Soak":
        self.service.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.service.__exit__(*raised)

    def burst(self) -> None:
        self._before = self._state()
        play(SIGNALLING, self._folder, "-r", "100", to=self.service.sip, calls=BURST)

    def check(self) -> None:
        """All of the last burst is gone: from SIP, from the kernel, from memory."""
        deadline = time.monotonic() + 35
        while self.service.metric("bridge_sip_state"):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert self.service.calls() == []
        before, *kernel_before = self._before
        memory, *kernel = self._state()
        # Our own question was a connection, which its server closes when it sees us leave.
        while kernel != kernel_before:
            assert time.monotonic() < deadline, (kernel, kernel_before)
            time.sleep(0.1)
            memory, *kernel = self._state()
        # Records are kept for a while. A live call takes half a MiB.
        assert memory - before < 40 * BURST

    def _state(self) -> tuple[float, int, int]:
        """Memory in KiB, descriptors, threads."""
        process = Path(f"/proc/{self.service.process.pid}")
        found = re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text())
        assert found is not None
        files, threads = ((process / name).iterdir() for name in ("fd", "task"))
        return float(found[1]), len(list(files)), len(list(threads))


@pytest.mark.matrix(6, 23, 25, 32, 43, 62, peer="sipp")
def test_timers(tmp_path: Path) -> None:
    # pytest's own takes a minute for a sign of trouble.
    faulthandler.cancel_dump_traceback_later()
    with (
        Service(session__backend="echo", limits__media_timeout_s=120, **lab()) as service,
        Capture(f"udp port {service.sip_port}") as capture,
        Soak(tmp_path) as soak,
        ExitStack() as stack,
    ):

        def plays(scenario: Scenario, to: tuple[str, int] | None) -> Player:
            return stack.enter_context(playing(scenario, tmp_path, to=to, **PATIENT))  # type: ignore[arg-type]

        for caller in (never_acknowledged, never_acknowledged_early, never_refreshes):
            plays(caller(), service.sip)
        for caller in (is_refreshed, glares):
            plays(caller(), service.sip)
        silent, patient = plays(says_nothing(), None), plays(rings_long(), None)
        began = time.monotonic()
        given_up, taken = (
            dial(service, f"sip:bob@127.0.0.1:{phone.port}", ring_timeout_s=120)
            for phone in (silent, patient)
        )
        soak.burst()
        ended = until(service, given_up, in_state("ended"), timeout_s=40)
        assert (ended["sip_status"], ended["end_reason"]) == (408, "no_answer")
        assert 31.5 < time.monotonic() - began < 35
        soak.burst()
        until(service, taken, in_state("active"), timeout_s=10)
        post(service, taken, "hangup")
        stack.close()
        assert 58 < time.monotonic() - began < 66
        assert service.calls() == []
        soak.check()
    invites = [
        d.at
        for d in capture.datagrams
        if d.destination[1] == silent.port and d.data.startswith(b"INVITE")
    ]
    gaps = [round(later - invites[0], 1) for later in invites[1:]]
    assert gaps == pytest.approx([0.5, 1.5, 3.5, 7.5, 15.5, 31.5], abs=0.2)

"""Calls that the API makes: sipp and baresip take them, refuse them and let them ring."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers import speech
from tests.peers.baresip import Baresip
from tests.peers.calling import WAIT_S, calling, dial, in_state, post, record, until
from tests.peers.capture import Capture, spurts
from tests.ports import free_port

SCENARIOS = Path(__file__).parent / "sipp"


@contextmanager
def sipp(scenario: str, folder: Path, *options: str) -> Iterator[int]:
    """Plays one call at the port given; it must have gone as the scenario says."""
    port = free_port()
    command = ["sipp", "-sf", str(SCENARIOS / f"{scenario}.xml"), "-nostdin", "-m", "1"]
    command += ["-i", "127.0.0.1", "-p", str(port), "-mi", "127.0.0.1", "-mp", str(free_port())]
    command += ["-recv_timeout", "8000", "-trace_err", "-error_file", str(folder / "errors")]
    peer = subprocess.Popen(
        [*command, *options], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield port
        output, _ = peer.communicate(timeout=WAIT_S)
    finally:
        peer.kill()
        peer.communicate()
    errors = folder / "errors"
    assert peer.returncode == 0, errors.read_text() if errors.exists() else output[-1500:]


@pytest.mark.interop("sipp")
@pytest.mark.parametrize(
    ("scenario", "reason", "status", "q850"),
    [("callee_busy", "busy", 486, 17), ("callee_overloaded", "failed", 503, None)],
)
def test_refused(tmp_path: Path, scenario: str, reason: str, status: int, q850: int | None) -> None:
    with calling() as service, sipp(scenario, tmp_path) as port:
        call_id = dial(service, f"sip:bob@127.0.0.1:{port}")
        ended = until(service, call_id, in_state("ended"))
        assert (ended["end_reason"], ended["sip_status"]) == (reason, status)
        assert ended["q850_cause"] == q850


@pytest.mark.interop("sipp")
@pytest.mark.matrix(41, 42, peer="sipp")
@pytest.mark.parametrize("scenario", ["callee_rings", "callee_early_media"])
def test_taken(tmp_path: Path, scenario: str) -> None:
    with calling() as service, sipp(scenario, tmp_path) as port:
        call_id = dial(service, f"sip:bob@127.0.0.1:{port}")
        time.sleep(0.3)
        assert record(service, call_id)["state"] == "ringing"
        assert until(service, call_id, in_state("active"))["answered_at"]
        post(service, call_id, "hangup")
        assert until(service, call_id, in_state("ended"))["end_reason"] == "local_hangup"


@pytest.mark.interop("sipp")
@pytest.mark.matrix(34, peer="sipp")
@pytest.mark.parametrize("by_hand", [False, True])
def test_given_up_while_it_rings(tmp_path: Path, *, by_hand: bool) -> None:
    with calling() as service, sipp("callee_never", tmp_path) as port:
        call_id = dial(
            service, f"sip:bob@127.0.0.1:{port}", ring_timeout_s=1 if not by_hand else 60
        )
        if by_hand:
            time.sleep(0.3)
            post(service, call_id, "hangup")
        ended = until(service, call_id, in_state("ended"))
        assert ended["end_reason"] == ("local_hangup" if by_hand else "no_answer")


@pytest.mark.interop("sipp")
@pytest.mark.matrix(35, peer="sipp")
def test_a_trunk_that_wants_a_password(tmp_path: Path) -> None:
    with (
        sipp("callee_challenges", tmp_path) as port,
        calling(uri=f"sip:127.0.0.1:{port}", username="user", password="secret") as service,
    ):
        call_id = dial(service, "tel:+49-30-123")
        assert record(service, call_id)["to"] == f"sip:+4930123@127.0.0.1:{port}"
        until(service, call_id, in_state("active"))
        post(service, call_id, "hangup")


@pytest.mark.interop("sipp")
@pytest.mark.matrix(48, peer="sipp")
@pytest.mark.parametrize(
    ("scenario", "status", "reason"),
    [("transferred", 200, "transferred"), ("not_transferred", 603, "remote_hangup")],
)
def test_transfer(tmp_path: Path, scenario: str, status: int, reason: str) -> None:
    with calling() as service:
        with sipp(scenario, tmp_path, "-s", "agent", f"127.0.0.1:{service.sip_port}"):
            deadline = time.monotonic() + WAIT_S
            while not [call for call in service.calls() if call["state"] == "active"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            (call,) = service.calls()
            post(service, call["id"], "refer", target_uri="tel:+4930123")
            found = until(
                service, call["id"], lambda r: r["transfer"] and r["transfer"]["status"] == status
            )
            if status != 200:
                assert found["state"] == "active"
        ended = until(service, call["id"], in_state("ended"))
        assert ended["end_reason"] == reason
        assert ended["transfer"]["target"] == "tel:+4930123"


@pytest.mark.interop("baresip", "espeak-ng", "sox", "tcpdump")
@pytest.mark.matrix(52, peer="baresip")
def test_baresip_is_called_and_heard(tmp_path: Path) -> None:
    words = speech.script(8000, (0.5, "Hello, who is calling me?"))
    microphone = speech.write(tmp_path / "mic.wav", words, 8000)
    with (
        calling() as service,
        Baresip(microphone, transport="udp", codec="PCMA", answers=True) as phone,
    ):
        low = int(service.settings["rtp.port_min"])
        with Capture(f"udp portrange {low}-{low + 399}") as capture:
            call_id = dial(service, f"sip:caller@127.0.0.1:{phone.port}")
            assert phone.wait("CALL_ESTABLISHED", 5), phone.events
            until(service, call_id, in_state("active"))
            time.sleep(3.5)
            post(service, call_id, "hangup")
            assert phone.wait("CALL_CLOSED", 5), phone.events
    ours = {d.source[1] for d in capture.datagrams if low <= d.source[1] <= low + 399}
    packets = [packet for port in sorted(ours) for packet in capture.rtp_from(port)]
    # The echo is what baresip said, so both directions work.
    assert spurts(packets)
    assert {packet.payload_type for packet in packets} == {8}

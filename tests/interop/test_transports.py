"""sipp over IPv6 and TLS, baresip over TLS, JsSIP over WebSocket."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from bridge.sdp.negotiation import offer
from bridge.sip.events import CallConfirmed, CallEnded, OutgoingAnswered
from bridge.sip.outgoing import OutgoingInvite
from tests.peers import speech
from tests.peers.answering import Answering
from tests.peers.baresip import Baresip
from tests.peers.socat import relayed
from tests.ports import free_port
from tests.sip.certificates import Authority

HERE = Path(__file__).parent
LOOPBACK = ("127.0.0.1", 0)


def sipp(remote: str, folder: Path, *options: str) -> None:
    """Ten calls that must all succeed."""
    command = ["sipp", remote, "-sf", str(HERE / "sipp" / "signalling.xml"), "-s", "agent"]
    command += ["-nostdin", "-m", "10", "-r", "10", "-recv_timeout", "5000"]
    done = subprocess.run(
        [*command, "-p", str(free_port()), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def check(server: Answering, transport: str, count: int) -> None:
    server.wait(CallEnded, count)
    assert list(server.calls()) == [(transport, True, "bye")] * count


@pytest.mark.interop("sipp")
@pytest.mark.matrix(17, 59, peer="sipp")
@pytest.mark.parametrize(("transport", "mode"), [("udp", "u1"), ("tcp", "t1")])
def test_sipp_over_ipv6(tmp_path: Path, transport: str, mode: str) -> None:
    both = [LOOPBACK, ("::1", 0)]
    with Answering(udp=both, tcp=both) as server:
        for family, options in (("::1", ["-i", "::1", "-mi", "::1"]), ("127.0.0.1", [])):
            bound = [a for name, a in server.transport.listening if name == transport]
            port = next(a[1] for a in bound if a[0] == family)
            host = f"[{family}]" if ":" in family else family
            sipp(f"{host}:{port}", tmp_path, "-t", mode, *options)
        check(server, transport, 20)


def tls_client(port: int, authority: Authority) -> AbstractContextManager[int]:
    """Debian's sipp has no TLS; the port where it is put around what is sent."""
    return relayed(f"OPENSSL:127.0.0.1:{port},cafile={authority.path},commonname=localhost")


@pytest.mark.interop("sipp", "socat")
@pytest.mark.matrix(3, peer="sipp")
def test_sipp_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.files(authority.issue("localhost", "127.0.0.1"))
    with (
        Answering(tls_files=files, tls=LOOPBACK) as server,
        tls_client(server.transport.endpoints["tls"][1], authority) as port,
    ):
        sipp(f"127.0.0.1:{port}", tmp_path, "-t", "t1")
        check(server, "tls", 10)


def silence(folder: Path) -> Path:
    return speech.write(folder / "microphone.wav", np.zeros(8000, np.int16), 8000)


@pytest.mark.interop("baresip", "sox")
@pytest.mark.matrix(3, peer="baresip")
def test_baresip_calls_over_tls_and_a_new_certificate_leaves_the_call_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.files(authority.issue("127.0.0.1", "localhost"))
    with Answering(tls_files=files, tls=LOOPBACK) as server:
        port = server.transport.endpoints["tls"][1]
        with Baresip(silence(tmp_path), transport="tls", codec="PCMU") as phone:
            phone.command("dial", f"sip:agent@127.0.0.1:{port};transport=tls")
            assert phone.wait("CALL_ESTABLISHED", 10), phone.events
            authority.issue("127.0.0.1", "localhost")
            server.transport.reload_tls()
            phone.command("hangup")
            assert phone.wait("CALL_CLOSED", 10)
        check(server, "tls", 1)
        assert server.transport.stats.connections_opened == 1


@pytest.mark.interop("baresip", "sox")
@pytest.mark.matrix(3, 40, peer="baresip")
def test_calling_baresip_over_tls_past_a_dead_server_and_a_wrong_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("phone.example", file="phone")
    shown = tmp_path / "shown.pem"
    shown.write_bytes(issued.private_key.read_bytes() + issued.certificate.read_bytes())
    ours = authority.files(authority.issue("localhost"))
    with (
        Answering(tls_files=ours, udp=LOOPBACK, tls=LOOPBACK) as caller,
        Baresip(
            silence(tmp_path),
            transport="tls",
            codec="PCMU",
            settings=[f"sip_certificate {shown}"],
        ) as phone,
    ):
        remote = ("127.0.0.1", phone.port)
        flows = [
            caller.transport.flow("udp", ("127.0.0.1", free_port())),
            caller.transport.flow("tls", remote, server_name="other.example"),
            caller.transport.flow("tls", remote, server_name="phone.example"),
        ]
        call = OutgoingInvite(
            f"sip:caller@127.0.0.1:{phone.port};transport=tls",
            tuple(flow for flow in flows if flow is not None),
            "sip:agent@localhost",
            "sip:caller@phone.example",
            body=str(offer(address="127.0.0.1", port=40002, session_id=1, version=1)).encode(),
        )
        usage = caller.run(lambda now: caller.agent.invite(call, now))
        assert phone.wait("CALL_INCOMING", 10), caller.seen
        phone.command("accept")
        caller.wait(OutgoingAnswered)
        stats = caller.transport.stats
        assert (stats.unreachable, stats.tls_failures) == (1, 1)
        caller.run(lambda now: caller.agent.hangup(usage, now))
        assert phone.wait("CALL_CLOSED", 10)


def jssip(url: str, environment: dict[str, str] | None = None) -> Sequence[Sequence[object]]:
    node = shutil.which("node")
    assert node is not None
    wanted = {"url": url, "to": "sip:agent@127.0.0.1"}
    done = subprocess.run(
        [node, "--experimental-websocket", HERE / "node" / "jssip.mjs", json.dumps(wanted)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stderr
    events: Sequence[Sequence[object]] = json.loads(done.stdout)
    return events


@pytest.mark.interop("node", "jssip")
@pytest.mark.matrix(12, 60, peer="JsSIP")
@pytest.mark.parametrize("transport", ["ws", "wss"])
def test_jssip_calls_and_hangs_up(tmp_path: Path, transport: str) -> None:
    authority = Authority(tmp_path)
    files = authority.files(authority.issue("localhost"))
    trust = {"NODE_EXTRA_CA_CERTS": str(authority.path)}
    with Answering(tls_files=files, ws=LOOPBACK, wss=LOOPBACK) as server:
        port = server.transport.endpoints[transport][1]
        host = "localhost" if transport == "wss" else "127.0.0.1"
        events = jssip(f"{transport}://{host}:{port}/sip", trust)
        assert events[0] == ["connected", None], events
        assert ["options", 200] in events
        assert ["progress", 180] in events
        assert ["confirmed", "answer"] in events
        assert ["ended", "local: Terminated"] in events
        check(server, transport, 1)
        assert len(server.wait(CallConfirmed)) == 1

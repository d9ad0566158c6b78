"""TCP as others send it: cut anywhere by socat, kept open by linphone, without an end."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.interop.test_softphones import office
from tests.peers.capture import Capture, Datagram
from tests.peers.linphone import Linphone
from tests.peers.service import Service
from tests.peers.sipp import Scenario, play
from tests.peers.socat import relayed

PIECE = 60


def sent_to(service: Service, capture: Capture) -> list[Datagram]:
    return [d for d in capture.datagrams if d.destination[1] == service.sip_port and d.data]


@pytest.mark.interop("sipp", "socat", "tcpdump")
@pytest.mark.matrix(2, peer="sipp, socat")
def test_messages_in_pieces(tmp_path: Path) -> None:
    """Twenty calls by one connection."""
    call = Scenario().call().bye()
    with (
        Service(session__backend="echo") as service,
        Capture(f"tcp port {service.sip_port}") as capture,
        relayed(f"TCP:127.0.0.1:{service.sip_port},nodelay", "-b", str(PIECE)) as port,
    ):
        to = ("127.0.0.1", port)
        play(call, tmp_path, "-r", "100", to=to, transport="t1", calls=20)
    pieces = [d.data for d in sent_to(service, capture)]
    # The kernel joins what it has not sent yet.
    assert sum(len(piece) <= PIECE for piece in pieces) > 50


@pytest.mark.interop("socat")
@pytest.mark.matrix(2, peer="socat")
def test_pieces_with_the_end_of_one_message_and_the_next() -> None:
    ask = (
        "OPTIONS sip:agent@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK{0}\r\n"
        "From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: {0}\r\nCSeq: 1 OPTIONS\r\n"
        "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    both = "\r\n\r\n" + ask.format(1) + ask.format(2)
    with Service(session__backend="echo") as service:
        to = f"TCP:127.0.0.1:{service.sip_port},nodelay"
        answers = subprocess.run(
            ["socat", "-t", "1", "-b", str(PIECE), "-", to],
            input=both.encode(),
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    assert answers.startswith(b"\r\n")
    assert answers.count(b"SIP/2.0 200 ") == 2


@pytest.mark.interop("linphonec", "tcpdump")
@pytest.mark.matrix(2, 38, peer="linphone")
def test_linphone_keeps_its_connection_open() -> None:
    with (
        office() as service,
        Linphone(transport="tcp") as phone,
        Capture(f"tcp port {service.sip_port}") as capture,
    ):
        phone.register("caller", f"127.0.0.1:{service.sip_port}", "wonderland")
        time.sleep(3)
    pings = sum(d.data == b"\r\n\r\n" for d in sent_to(service, capture))
    pongs = sum(d.data == b"\r\n" for d in capture.datagrams if d.source[1] == service.sip_port)
    assert pings == pongs >= 2


@pytest.mark.interop("socat")
@pytest.mark.matrix(58, peer="socat")
def test_a_message_without_an_end(tmp_path: Path) -> None:
    endless = tmp_path / "message"
    endless.write_bytes(b"OPTIONS sip:agent@127.0.0.1 SIP/2.0\r\nX-Pad: " + b"x" * 70_000)
    with Service(session__backend="echo") as service:
        to = f"TCP:127.0.0.1:{service.sip_port}"
        with endless.open("rb") as message:
            done = subprocess.run(
                ["socat", "-t", "5", "-", to],
                stdin=message,
                stdout=subprocess.PIPE,
                timeout=10,
                check=False,
            )
    assert done.stdout == b"" or done.stdout.startswith(b"SIP/2.0 513")

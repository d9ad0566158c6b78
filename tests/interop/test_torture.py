"""The messages of RFC 4475 on the wire, and what zzuf makes of them by flipping bits."""

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.service import Service
from tests.peers.sipp import Scenario, play
from tests.sip import torture

MESSAGES = torture.DATA / "rfc4475"

# REGISTER and MESSAGE are not for us; wsinv has a To tag, sdp01 does not accept SDP.
ANSWERED = {
    200: "badaspec badbranch baddate esc01 inv2543 longreq lwsdisp semiuri transports zeromf",
    400: "baddn badinv01 clerr escruri insuf ltgtruri lwsruri lwsstart mcl01 mismatch01 mismatch02 "
    "multi01 ncl quotbal regbadct scalar02 trws",
    405: "cparam01 cparam02 dblreq esc02 escnull intmeth mpart01 regaut01 regescrt unksm2",
    406: "sdp01",
    415: "invut",
    416: "novelsc unkscm",
    420: "bext01",
    481: "wsinv",
    505: "badvers",
    # Responses to nothing.
    0: "bcast bigcode noreason scalarlg unreason",
}
CALLS = 4
"""Of those answered by 200: nobody acknowledges it."""


def final(answers: bytes) -> int:
    """The status that ended the transaction, 0 for silence."""
    statuses = set(re.findall(rb"^SIP/2\.0 (\d+) ", answers, re.MULTILINE)) - {b"100", b"180"}
    assert len(statuses) <= 1
    return int(max(statuses, default=b"0"))


@pytest.mark.interop("socat", "sipp")
@pytest.mark.matrix(13, 15, 17, peer="socat, sipp")
def test_rfc_4475(tmp_path: Path) -> None:
    """Each from an address of its own, where whoever sent it waits for answers."""
    paths = sorted(MESSAGES.glob("*.dat"))
    assert len(paths) == 49
    asking = {}
    with Service(session__backend="echo", limits__drain_timeout_s=0) as service:
        for number, path in enumerate(paths, 1):
            # The Via of one of them names another port.
            port = 5050 if path.stem == "quotbal" else 5060
            to = f"UDP:127.0.0.1:{service.sip_port},bind=127.0.2.{number}:{port}"
            with path.open("rb") as message:
                asking[path.stem] = subprocess.Popen(
                    ["socat", "-b", "65536", "-t", "20", "-", to],
                    stdin=message,
                    stdout=subprocess.PIPE,
                )
        play(Scenario().call().pause(100).bye(), tmp_path, to=service.sip)
        deadline = time.monotonic() + 5
        while [call["state"] for call in service.calls()] != ["answering"] * CALLS:
            assert time.monotonic() < deadline, service.calls()
            time.sleep(0.05)
        for each in asking.values():
            each.terminate()
    expected = {name: status for status, names in ANSWERED.items() for name in names.split()}
    assert {name: final(each.communicate()[0]) for name, each in asking.items()} == expected


def bent(copies: int) -> Iterator[bytes]:
    """Every torture message with bits flipped, from a few to one of a hundred."""
    pieces = [path.read_bytes() for path in sorted(torture.DATA.glob("*/*.dat"))] * copies
    for seed, share in enumerate(("0.0005", "0.002", "0.01")):
        command = ["zzuf", "-s", str(seed), "-r", share]
        flipped = subprocess.run(
            command, input=b"".join(pieces), stdout=subprocess.PIPE, check=True
        ).stdout
        start = 0
        for piece in pieces:
            yield flipped[start : start + len(piece)]
            start += len(piece)


def seconds(message: bytes) -> float:
    """What it takes to judge it, and to answer it."""
    began = time.process_time()
    torture.verdict(message)
    torture.check_answer(message)
    return time.process_time() - began


@pytest.mark.interop("zzuf")
@pytest.mark.matrix(16, peer="zzuf")
def test_reading_messages_with_flipped_bits() -> None:
    read = 0
    for message in bent(copies=60):
        read += 1
        if seconds(message) > 0.001:
            # The machine may have been elsewhere meanwhile, but not every time.
            assert min(seconds(message) for _ in range(10)) < 0.001, message
    assert read > 10_000


@pytest.mark.interop("zzuf", "sipp")
@pytest.mark.matrix(16, 61, peer="zzuf, sipp")
def test_a_server_that_gets_messages_with_flipped_bits(tmp_path: Path) -> None:
    """As fast as it reads them; it answers what comes between, and a call after them."""
    with (
        Service(session__backend="echo", limits__drain_timeout_s=0) as service,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.bind(("127.0.3.1", 0))
        sender.connect(service.sip)
        sender.settimeout(3)
        began, sent = service.cpu_s(), 0
        for message in bent(copies=8):
            sender.send(message)
            sent += 1
            if sent % 20 == 0:
                probe(sender, sent)
        print(f"\n{sent} messages, {1000 * (service.cpu_s() - began) / sent:.2f} ms CPU each")
        play(Scenario().call().pause(100).bye(), tmp_path, to=service.sip)


def probe(sender: socket.socket, number: int) -> None:
    host, port = sender.getsockname()
    lines = [
        "OPTIONS sip:agent@127.0.0.1 SIP/2.0",
        f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bKprobe{number}",
        "From: <sip:probe@127.0.0.1>;tag=p",
        "To: <sip:agent@127.0.0.1>",
        f"Call-ID: probe-{number}",
        "CSeq: 1 OPTIONS",
        "Max-Forwards: 70",
        "Content-Length: 0",
        "",
        "",
    ]
    sender.send("\r\n".join(lines).encode())
    expected = f"Call-ID: probe-{number}\r\n".encode()
    while expected not in (answer := sender.recv(65_536)):
        pass
    assert answer.startswith(b"SIP/2.0 200 ")

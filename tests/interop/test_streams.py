"""TCP as socat sends it: cut anywhere, and without an end."""

import subprocess
from pathlib import Path

import pytest

from tests.peers.service import Service

PIECE = 60


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

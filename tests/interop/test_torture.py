"""The messages of RFC 4475 on the wire, and what sipsak makes of messages by trashing them."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.peers.capture import Capture, Datagram
from tests.peers.service import Service
from tests.peers.sipp import Scenario, play

MESSAGES = Path(__file__).parents[1] / "data" / "sip" / "rfc4475"

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


def final(answers: Sequence[Datagram]) -> int:
    """The status that ended the transaction, 0 for silence."""
    statuses = {int(answer.data[8:11]) for answer in answers} - {100, 180}
    assert len(statuses) <= 1
    return max(statuses, default=0)


@pytest.mark.interop("socat", "sipp", "tcpdump")
@pytest.mark.matrix(15, peer="socat, sipp")
def test_rfc_4475(tmp_path: Path) -> None:
    """Each from an address of its own, which is where the answers go to."""
    paths = sorted(MESSAGES.glob("*.dat"))
    hosts = {f"127.0.2.{number}": path for number, path in enumerate(paths, 1)}
    assert len(hosts) == 49
    with Service(session__backend="echo", limits__drain_timeout_s=0) as service:
        with Capture(f"udp src port {service.sip_port} and dst net 127.0.2.0/24") as capture:
            for host, path in hosts.items():
                to = f"UDP-SENDTO:127.0.0.1:{service.sip_port},bind={host}"
                command = ["socat", "-u", "-b", "65536", f"FILE:{path}", to]
                subprocess.run(command, check=True)
            play(Scenario().call().pause(100).bye(), tmp_path, to=service.sip)
    expected = {name: status for status, names in ANSWERED.items() for name in names.split()}
    found = {
        path.stem: final([d for d in capture.datagrams if d.destination[0] == host])
        for host, path in hosts.items()
    }
    assert found == expected

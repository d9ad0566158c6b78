"""sipp calls: load with media, loss, and the corners of an INVITE."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.peers import speech
from tests.peers.phone import encode
from tests.peers.service import Service
from tests.ports import free_port, media_ports

pytestmark = pytest.mark.interop("sipp")

SCENARIOS = Path(__file__).parent / "sipp"
T1_64_S = 32.0


def sipp(
    service: Service, scenario: str, cwd: Path, *options: str, timeout_s: float = 60.0
) -> dict[str, float]:
    """Runs a scenario to its end; what its last statistics line counts."""
    statistics = cwd / f"{scenario}.csv"
    command = [
        "sipp",
        f"127.0.0.1:{service.sip_port}",
        *("-sf", str(SCENARIOS / f"{scenario}.xml"), "-s", "agent", "-nostdin"),
        *("-i", "127.0.0.1", "-p", str(free_port()), "-mi", "127.0.0.1"),
        *("-mp", str(media_ports(10)[0])),
        *("-trace_stat", "-stf", str(statistics), "-fd", "1"),
        *("-trace_err", "-error_file", str(cwd / f"{scenario}.err")),
        *options,
    ]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    names, *rows = statistics.read_text().splitlines()
    values = dict(zip(names.split(";"), rows[-1].split(";"), strict=False))
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    return {
        "successful": float(values["SuccessfulCall(C)"]),
        "failed": float(values["FailedCall(C)"]),
    }


def nothing_is_left(service: Service) -> bool:
    return service.calls() == [] and service.metric("bridge_calls_live") == 0


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Where scenarios find the speech they play."""
    (tmp_path / "speech.ul").write_bytes(encode(speech.samples("Hello there. " * 8)))
    return tmp_path


@pytest.mark.interop("sipp", "espeak-ng", "sox")
@pytest.mark.matrix(1, peer="sipp")
def test_500_calls_at_20_a_second_with_media(workplace: Path) -> None:
    with Service(session__backend="echo", many=True) as service:
        counts = sipp(
            service, "call", workplace, *("-m", "500", "-r", "20", "-d", "4000"), timeout_s=90
        )
        assert counts == {"successful": 500, "failed": 0}
        assert nothing_is_left(service)


@pytest.mark.matrix(1, 2, peer="sipp")
@pytest.mark.parametrize("transport", ["u1", "t1"])
def test_a_call_over_each_transport(workplace: Path, transport: str) -> None:
    with Service(session__backend="echo") as service:
        options = ("-t", transport, "-m", "5", "-r", "5", "-d", "300")
        assert sipp(service, "call", workplace, *options)["successful"] == 5
        assert nothing_is_left(service)


@pytest.mark.matrix(7, peer="sipp")
def test_50_calls_under_15_percent_loss(workplace: Path) -> None:
    with Service(session__backend="echo") as service:
        options = ("-m", "50", "-r", "10", "-d", "300", "-lost", "15", "-recv_timeout", "32000")
        counts = sipp(service, "call", workplace, *options, timeout_s=100)
        assert counts == {"successful": 50, "failed": 0}
        deadline = time.monotonic() + T1_64_S + 3
        while not nothing_is_left(service) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert nothing_is_left(service)


@pytest.mark.matrix(12, peer="sipp")
def test_options(workplace: Path) -> None:
    with Service(session__backend="echo") as service:
        assert sipp(service, "options", workplace, "-m", "1")["successful"] == 1


@pytest.mark.matrix(9, peer="sipp")
def test_cancel_while_it_rings(workplace: Path) -> None:
    """Nobody answers the webhook, so the phone rings until it gives up."""
    settings = {"webhooks__url": "http://127.0.0.1:9/", "webhooks__secret": "whsec_c2VjcmV0"}
    with Service(session__backend="echo", **settings) as service:
        assert sipp(service, "cancel", workplace, "-m", "5", "-r", "5")["successful"] == 5
        assert nothing_is_left(service)


@pytest.mark.matrix(5, peer="sipp")
def test_a_retransmitted_invite_is_one_call(workplace: Path) -> None:
    with Service(session__backend="echo") as service:
        assert sipp(service, "retransmit", workplace, "-m", "5", "-r", "5")["successful"] == 5
        assert service.metric("bridge_calls_started_total") == 5
        assert nothing_is_left(service)

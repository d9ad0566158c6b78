"""Callers that must prove who they are: sipp and baresip, with right and wrong passwords."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.interop.test_sipp import nothing_is_left, sipp
from tests.peers import speech
from tests.peers.baresip import Baresip
from tests.peers.service import Service


def guarded(**digest: Any) -> Service:
    users = {"sipp": "secret", "caller": "wonderland"}
    trunk = {"addresses": ["127.0.0.1"], "digest": {"users": users, **digest}}
    return Service(session__backend="echo", sip__trunks=json.dumps({"carrier": trunk}))


@pytest.mark.interop("sipp")
@pytest.mark.matrix(36, peer="sipp")
def test_the_right_password(tmp_path: Path) -> None:
    with guarded(algorithms=["MD5"]) as service:
        options = ("-au", "sipp", "-ap", "secret", "-m", "3", "-r", "3", "-d", "300")
        counts = sipp(service, "caller_authenticates", tmp_path, *options)
        assert counts == {"successful": 3, "failed": 0}
        assert service.metric("bridge_calls_started_total") == 3
        assert nothing_is_left(service)


@pytest.mark.interop("sipp")
@pytest.mark.matrix(36, peer="sipp")
@pytest.mark.parametrize(("user", "password"), [("sipp", "guess"), ("nobody", "secret")])
def test_a_wrong_password(tmp_path: Path, user: str, password: str) -> None:
    with guarded(algorithms=["MD5"]) as service:
        options = ("-au", user, "-ap", password, "-m", "1")
        assert sipp(service, "caller_is_refused", tmp_path, *options)["successful"] == 1
        assert service.metric("bridge_calls_started_total") == 0
        service.wait_for("INVITE refused", 2)
        assert password not in "".join(service.output)


@pytest.mark.interop("sipp")
@pytest.mark.matrix(36, peer="sipp")
def test_who_guesses_meets_silence(tmp_path: Path) -> None:
    """Ten wrong answers in a minute; then even the right one is not heard."""
    with guarded(algorithms=["MD5"]) as service:
        wrong = ("-au", "sipp", "-ap", "guess", "-m", "10", "-r", "10")
        assert sipp(service, "caller_is_refused", tmp_path, *wrong)["successful"] == 10
        right = ("-au", "sipp", "-ap", "secret", "-m", "1", "-recv_timeout", "1500")
        counts = sipp(service, "caller_authenticates", tmp_path, *right)
        assert counts == {"successful": 0, "failed": 1}
        assert service.metric("bridge_calls_started_total") == 0


@pytest.mark.interop("baresip", "espeak-ng", "sox")
@pytest.mark.matrix(36, peer="baresip")
@pytest.mark.parametrize("password", ["wonderland", "guess"])
def test_baresip(tmp_path: Path, password: str) -> None:
    microphone = speech.write(tmp_path / "mic.wav", speech.samples("Hello there."), 8000)
    with (
        guarded(algorithms=["MD5"]) as service,
        Baresip(microphone, transport="udp", codec="PCMU", password=password) as phone,
    ):
        phone.command("dial", f"sip:agent@127.0.0.1:{service.sip_port}")
        if password == "wonderland":
            assert phone.wait("CALL_ESTABLISHED", 5), phone.events
        else:
            assert phone.wait("CALL_CLOSED", 5), phone.events
            assert service.metric("bridge_calls_started_total") == 0

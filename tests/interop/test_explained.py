"""What the log says of a refused call, `bridge check` says of its capture: sipp calls in vain."""

import json
from pathlib import Path

import pytest

from bridge.cli import main
from tests.peers.capture import Capture
from tests.peers.service import Service
from tests.peers.sipp import Scenario, play, sdp

KEYS = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40


def refused(body: str | None, status: int, *headers: str) -> Scenario:
    invite = Scenario().invite(body, headers).expect(100, optional=True)
    return invite.expect(status).ack_refusal()


REFUSED = [
    refused(sdp("m=audio [media_port] RTP/AVP 18"), 488),
    refused(sdp(f"m=audio [media_port] RTP/SAVP 0\n{KEYS}"), 488),
    refused(None, 420, "Require: precondition"),
    refused(None, 422, "Session-Expires: 30", "Supported: timer"),
]


@pytest.mark.interop("sipp", "tcpdump")
def test_the_log_and_the_replay_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trunk = {"carrier": {"addresses": ["127.0.0.1"], "srtp": "optional"}}
    with (
        Service(session__backend="echo", sip__trunks=json.dumps(trunk)) as service,
        Capture(f"udp port {service.sip_port}") as capture,
    ):
        for scenario in REFUSED:
            play(scenario, tmp_path, to=service.sip)
    invites = [d for d in capture.datagrams if d.data.startswith(b"INVITE ")]
    lines = [line for line in service.output if "INVITE refused" in line]
    assert len(lines) == len(invites) == len(REFUSED)
    assert not any("A" * 40 in line for line in service.output)
    for invite, line in zip(invites, lines, strict=True):
        file = tmp_path / "captured.txt"
        file.write_bytes(invite.data)
        source = f"{invite.source[0]}:{invite.source[1]}"
        settings = [f"--set={name}={value}" for name, value in service.settings.items()]
        assert main(["check", "--invite", str(file), "--from", source, *settings]) == 1
        told = capsys.readouterr().out
        said = dict(each.split(maxsplit=1) for each in told.splitlines()[1:])
        status, _, why = said["verdict"].removeprefix("refused ").partition(" because ")
        assert f"status={status} " in line
        assert f"why={json.dumps(why)}" in line
        assert json.dumps(said["change"]) in line or f"change={said['change']} " in line
        assert f"matched={said['taken'].removeprefix('as').strip()} " in line

"""What a call's record tells of its media, while real phones call: one that reports by RTCP, and
one that never sends a packet."""

from pathlib import Path

import pytest

from tests.peers import speech
from tests.peers.baresip import Baresip
from tests.peers.calling import in_state, one_call, record, until
from tests.peers.service import Service
from tests.peers.sipp import Scenario, playing

pytestmark = pytest.mark.interop("baresip", "sipp", "espeak-ng", "sox")

TIMEOUT_S = 6.5


def test_loss_round_trip_and_silence_are_told(tmp_path: Path) -> None:
    microphone = speech.write(tmp_path / "mic.wav", speech.script(8000, (0.5, "Hello.")), 8000)
    silent = Scenario().call().answer_bye()
    with (
        Service(session__backend="echo", limits__media_timeout_s=TIMEOUT_S) as service,
        Baresip(microphone, transport="udp", codec="PCMU") as phone,
    ):
        phone.command("dial", f"sip:agent@127.0.0.1:{service.sip_port}")
        assert phone.wait("CALL_ESTABLISHED", 5)
        talking = one_call(service)["id"]
        with playing(silent, tmp_path, to=service.sip):
            until(service, talking, lambda _: len(service.calls()) == 2)
            (mute,) = {call["id"] for call in service.calls()} - {talking}
            ended = until(service, mute, in_state("ended"), TIMEOUT_S + 3)
        media, findings = record(service, talking)["media"], service.metric("bridge_findings_total")
    print(f"\n{media}\n{ended['findings']}")
    assert ended["end_reason"] == "media_timeout"
    (finding,) = ended["findings"]
    assert finding["type"] == "media.one_way"
    assert finding["text"].startswith("No packet was heard in ")
    assert ended["media"]["received"] == {**ended["media"]["received"], "packets": 0, "mos": None}
    assert findings == 1
    assert media["received"]["packets"] > 200
    assert 0 <= media["round_trip_ms"] < 100
    assert media["received"]["mos"] > 4.0
    assert media["sent"]["mos"] > 4.0

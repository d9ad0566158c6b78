"""A service whose calls leave no time for others, called by sipp."""

from pathlib import Path

import httpx2
import pytest

from tests.peers.service import Service
from tests.peers.sipp import Scenario, play, playing


@pytest.mark.interop("sipp")
def test_those_who_are_up_stay_and_others_are_sent_elsewhere(tmp_path: Path) -> None:
    with Service(session__backend="echo", limits__max_load=0.0001) as service:
        up = Scenario().call().pause(6000).bye()
        with playing(up, tmp_path, to=service.sip):
            service.wait_for("new calls are refused", 8)
            refused = Scenario().invite().expect(100, optional=True)
            play(refused.expect(503, "Retry-After: ").ack_refusal(), tmp_path, to=service.sip)
            answer = httpx2.post(
                f"{service.base_url}/realtime/calls",
                content="v=0\r\n",
                headers={"content-type": "application/sdp"},
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
            assert [call["state"] for call in service.calls()] == ["active"]
        service.wait_for("there is time for new calls again", 8)
        play(Scenario().call().bye(), tmp_path, to=service.sip)
        assert service.metric("bridge_media_load") < 1

"""Somebody is transferred into a call that the agent has with somebody else: two linphones."""

import time

import pytest

from tests.peers.calling import calling, dial, in_state, post, record, until
from tests.peers.capture import Capture
from tests.peers.linphone import Linphone


@pytest.mark.interop("linphonec", "tcpdump")
@pytest.mark.matrix(49, peer="linphone")
def test_linphone_takes_our_place() -> None:
    with (
        calling(addresses=["127.0.0.1"]) as service,
        Linphone() as caller,
        Linphone() as colleague,
        Capture(f"udp port {caller.port} or udp port {colleague.port}") as capture,
    ):
        first, second = [
            dial(service, f"sip:bob@127.0.0.1:{phone.port}") for phone in (caller, colleague)
        ]
        for call_id in (first, second):
            until(service, call_id, in_state("active"))
        post(service, first, "refer", replaces=second)
        ended = until(service, first, in_state("ended"))
        assert ended["end_reason"] == "transferred", ended
        assert (ended["transfer"]["status"], ended["transfer"]["replaces"]) == (200, second)
        assert until(service, second, in_state("ended"))["end_reason"] == "transferred"
        assert record(service, first)["sip_status"] is None
        # The two talk to each other now, and their call is theirs alone.
        time.sleep(0.5)
        assert service.calls() == []
    ports = {caller.port, colleague.port}
    between = [d.data for d in capture.datagrams if {d.source[1], d.destination[1]} == ports]
    (invite, *_) = [data for data in between if data.startswith(b"INVITE ")]
    assert b"\r\nReplaces: " in invite
    assert any(data.startswith(b"SIP/2.0 200 ") and b" INVITE\r\n" in data for data in between)

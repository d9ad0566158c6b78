"""RTP of sipp: behind a NAT, after a move, without its keys, and while strangers flood and scan."""

import json
import subprocess
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.peers import speech
from tests.peers.calling import in_state, one_call, until
from tests.peers.capture import Capture
from tests.peers.phone import encode
from tests.peers.service import Service
from tests.peers.sipp import Scenario, play, playing, sdp
from tests.ports import free_port

pytestmark = pytest.mark.interop("sipp", "tcpdump")


def spoken(folder: Path) -> None:
    """What `rtp_stream` finds."""
    (folder / "speech.ul").write_bytes(encode(speech.samples("Hello there. " * 8)))


def media_of(service: Service) -> tuple[range, str]:
    low = int(service.settings["rtp.port_min"])
    return range(low, low + 400), f"udp portrange {low}-{low + 399}"


@pytest.mark.interop("espeak-ng", "sox")
@pytest.mark.matrix(31, 57, peer="sipp")
def test_rtp_goes_where_it_comes_from(tmp_path: Path) -> None:
    """Not to the private address that SDP names; to that of a re-INVITE, once that is public."""
    spoken(tmp_path)
    port = free_port()
    moved = sdp(f"m=audio {port} RTP/AVP 0", version=2)
    call = Scenario().call(sdp(connection="10.9.8.7")).execute('rtp_stream="speech.ul,-1,0"')
    call.pause(1000).execute('rtp_stream="pause"').invite(moved).ringing().expect(200).ack()
    call.pause(500).bye()
    with Service(session__backend="echo") as service:
        ours, wire = media_of(service)
        with Capture(f"udp port {service.sip_port} or {wire}") as capture:
            play(call, tmp_path, to=service.sip)
    media = [d for d in capture.datagrams if d.data[:1] == b"\x80" and d.data[1] & 0x7F == 0]
    (theirs,) = {d.source for d in media if d.destination[1] in ours}
    reached = [d.destination for d in media if d.source[1] in ours]
    assert set(reached) == {theirs, ("127.0.0.1", port)}
    first = reached.index(("127.0.0.1", port))
    assert first > 10
    assert set(reached[first:]) == {("127.0.0.1", port)}
    assert len(reached) - first > 10


@pytest.mark.interop("espeak-ng", "sox")
@pytest.mark.matrix(53, peer="sipp")
def test_rtp_that_nobody_can_decrypt(tmp_path: Path) -> None:
    """New keys come by a re-INVITE; what was not encrypted by them is nobody's speech."""
    spoken(tmp_path)
    keys = [f"inline:{first * 40}" for first in "AB"]
    lines = [
        f"m=audio [media_port] RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 {key}" for key in keys
    ]
    told = "RTP/SAVP 0.*a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"
    call = Scenario().call(sdp(lines[0]), (), told)
    call.invite(sdp(lines[1], version=2)).ringing().expect(200, told).ack()
    call.execute('rtp_stream="speech.ul,-1,0"').answer_bye()
    settings = {"sip__insecure_srtp_keys": "true", "limits__media_timeout_s": 1}
    with Service(session__backend="echo", **settings) as service:
        began = time.monotonic()
        with playing(call, tmp_path, to=service.sip):
            call_id = one_call(service)["id"]
        assert 0.7 < time.monotonic() - began < 6
        assert until(service, call_id, in_state("ended"))["end_reason"] == "media_timeout"


@pytest.mark.interop("svmap")
@pytest.mark.matrix(61, peer="sipp, sipvicious")
def test_a_flood_and_scans(tmp_path: Path) -> None:
    """Strangers call 300 times a second and look for numbers; whom we know notices nothing."""
    trunks = json.dumps({"carrier": {"addresses": ["127.0.0.2"]}})
    settings = {"sip__trunks": trunks, "sip__unknown_sources": "drop"}
    stranger = Scenario().invite().expect(200)
    talks, calls = (Scenario().call().pause(ms).bye() for ms in (2500, 100))
    with Service(session__backend="echo", **settings) as service:
        ours, wire = media_of(service)
        strangers_hear = f"udp src port {service.sip_port} and dst host 127.0.0.1"
        with (
            Capture(f"({wire}) or ({strangers_hear})") as capture,
            playing(talks, tmp_path, to=service.sip, host="127.0.0.2"),
            playing(
                stranger,
                tmp_path,
                *("-r", "300"),
                to=service.sip,
                calls=600,
                recv_timeout_ms=500,
                fails=True,
            ) as flood,
            playing(calls, tmp_path, "-r", "20", to=service.sip, host="127.0.0.2", calls=30),
        ):
            target = ("-p", str(service.sip_port), "127.0.0.1")
            scans = [
                subprocess.Popen([*scan, *target], stderr=subprocess.PIPE, text=True)
                for scan in (["svmap"], ["svwar", "-e100-300"])
            ]
            for scan in scans:
                assert "found nothing" in scan.communicate()[1]
        assert flood.statistic("FailedCall(C)") == 600
        assert service.metric("bridge_calls_started_total") == 31
    assert not [d for d in capture.datagrams if d.source[1] == service.sip_port]
    # To the call that lasted: nothing is missing of what was said, and nothing came late.
    sources = Counter(d.source[1] for d in capture.datagrams if d.source[1] in ours)
    packets = capture.rtp_from(sources.most_common(1)[0][0])
    assert len(packets) > 100
    for before, after in pairwise(packets):
        assert (after.sequence - before.sequence) % 65_536 == 1
        assert after.arrived_at - before.arrived_at < 0.25

"""Addresses of the other IP version: what linphone and others say of themselves is made use of."""

import pytest

from bridge.errors import SdpError
from bridge.sdp.description import SessionDescription
from bridge.sdp.negotiation import Answer, accept_answer, answer, offer
from bridge.sdp.reach import ip_version, offered_hosts

V4, V6 = "192.0.2.200", "2001:db8::200"
HEAD = "v=0\r\no=caller 3967 2990 IN IP6 fd00::2\r\ns=Talk\r\nc=IN IP6 fd00::2\r\nt=0 0\r\n"
AUDIO = "m=audio 33800 RTP/AVP 0\r\n"
# linphone 5.1 on a host with both versions and ICE, wherever it calls
CANDIDATES = (
    "a=candidate:1 1 UDP 2130706303 192.0.2.2 33800 typ host\r\n"
    "a=candidate:1 2 UDP 2130706302 192.0.2.2 33801 typ host\r\n"
    "a=candidate:2 1 UDP 2130706431 fd00::2 33800 typ host\r\n"
    "a=candidate:2 2 UDP 2130706430 fd00::2 33801 typ host\r\n"
)
ALTERNATES = "a=altc:1 IP6 fd00::2 33800\r\na=altc:2 IP4 192.0.2.2 33802\r\n"


def answered(text: str, address: str) -> Answer:
    offered = SessionDescription.parse(text)
    return answer(offered, address=address, port=20000, session_id=1, version=1)


def test_the_refusal_names_both_versions() -> None:
    with pytest.raises(SdpError, match="c= address is IPv6, and media here goes by IPv4") as caught:
        answered(HEAD + AUDIO, V4)
    assert (caught.value.code, caught.value.sip_status) == ("other_ip_version", 488)


@pytest.mark.parametrize(
    ("more", "rtp", "rtcp"),
    [
        (CANDIDATES, ("192.0.2.2", 33800), ("192.0.2.2", 33801)),
        (ALTERNATES, ("192.0.2.2", 33802), ("192.0.2.2", 33803)),
    ],
)
def test_an_address_of_our_version(more: str, rtp: tuple[str, int], rtcp: tuple[str, int]) -> None:
    found = answered(HEAD + AUDIO + more, V4)
    assert (found.media.remote, found.media.remote_rtcp) == (rtp, rtcp)
    assert f"c=IN IP4 {V4}\r\n" in str(found.description)
    # Where c= can be reached it counts.
    assert answered(HEAD + AUDIO + more, V6).media.remote == ("fd00::2", 33800)


@pytest.mark.parametrize(
    "more",
    [
        "a=altc:1 IP4 224.0.0.1 4000\r\n",
        "a=altc:1 IP4 255.255.255.255 4000\r\n",
        "a=altc:1 IP4 phone.example 4000\r\n",
        "a=altc:1 IP4 192.0.2.2 0\r\n",
        "a=altc:1 IP4 192.0.2.2 65536\r\n",
        "a=altc:1 IP4\r\n",
        "a=altc\r\n",
        "a=candidate:1 1 TCP 2130706303 192.0.2.2 33800 typ host\r\n",
        "a=candidate:1 2 UDP 2130706303 192.0.2.2 33801 typ host\r\n",
        "a=candidate:1 1 UDP 2130706303 phone.local 33800 typ host\r\n",
    ],
)
def test_what_is_no_way_either(more: str) -> None:
    with pytest.raises(SdpError):
        answered(HEAD + AUDIO + more, V4)


def test_the_line_that_can_be_reached_is_taken() -> None:
    """The older way to offer both (RFC 4091)."""
    found = answered(HEAD + AUDIO + AUDIO.replace("33800", "33900") + "c=IN IP4 192.0.2.2\r\n", V4)
    assert found.media.remote == ("192.0.2.2", 33900)
    assert [line.port for line in found.description.media] == [0, 20000]


@pytest.mark.parametrize(("address", "hold"), [(V4, "IP6 ::"), (V6, "IP4 0.0.0.0")])
def test_a_hold_of_the_other_version(address: str, hold: str) -> None:
    media = answered(HEAD + AUDIO + f"c=IN {hold}\r\n", address).media
    assert media.direction == "recvonly"


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        (HEAD + AUDIO, {6: "fd00::2"}),
        (HEAD + AUDIO + AUDIO + "c=IN IP4 192.0.2.2\r\n", {6: "fd00::2", 4: "192.0.2.2"}),
        (HEAD + AUDIO + "c=IN IP4 0.0.0.0\r\n", {}),
        (HEAD + AUDIO + "c=IN IP4 phone.example\r\n", {}),
        (HEAD + "m=video 4000 RTP/AVP 96\r\n", {}),
        (HEAD + "m=audio 0 RTP/AVP 0\r\n", {}),
    ],
)
def test_the_hosts_of_an_offer(text: str, hosts: dict[int, str]) -> None:
    assert offered_hosts(SessionDescription.parse(text)) == hosts


def test_answers_too() -> None:
    ours = offer(address=V4, port=20000, session_id=1, version=1)
    with pytest.raises(SdpError, match="IPv6"):
        accept_answer(ours, SessionDescription.parse(HEAD + AUDIO))
    found = accept_answer(ours, SessionDescription.parse(HEAD + AUDIO + ALTERNATES))
    assert found.remote == ("192.0.2.2", 33802)


@pytest.mark.parametrize(
    ("host", "version"), [(V4, 4), (V6, 6), ("fe80::1%eth0", None), ("phone.example", None)]
)
def test_the_version_of_an_address(host: str, version: int | None) -> None:
    assert ip_version(host) == version

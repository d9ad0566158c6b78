"""Which of our addresses a call's media is at."""

import pytest

from bridge.legs.grounds import Grounds
from bridge.rtp.transport import PortPool, source_towards
from bridge.sip.private import is_private_host
from tests.ports import media_ports

V4, V6 = b"192.0.2.7", b"2001:db8::7"
HERE = "203.0.113.1"


def offer(*addresses: bytes) -> bytes:
    lines = [b"v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nt=0 0\r\n"]
    for address in addresses:
        kind = b"IP6" if b":" in address else b"IP4"
        lines.append(b"m=audio 4000 RTP/AVP 0\r\nc=IN %s %s\r\n" % (kind, address))
    return b"".join(lines)


def pool(host: str) -> PortPool:
    ports = media_ports(10)
    return PortPool(host, ports[0], ports[-1])


@pytest.mark.parametrize(
    ("body", "signalling", "address"),
    [
        (offer(V4), "192.0.2.7", HERE),
        (offer(V6), "192.0.2.7", "::1"),
        (offer(V6, V4), "192.0.2.7", HERE),
        (offer(b"::"), "192.0.2.7", HERE),
        (offer(b"phone.example"), "192.0.2.7", HERE),
        (b"IP6, but no session description", "2001:db8::7", HERE),
        (b"", "192.0.2.7", HERE),
        (b"", "2001:db8::7", "::1"),
    ],
)
def test_the_address_of_a_call(body: bytes, signalling: str, address: str) -> None:
    grounds = Grounds(pool("127.0.0.1"), HERE)
    grounds.use_other(pool("::1"), "::1")
    socket, named = grounds.open(body, signalling)
    socket.close()
    assert named == address
    assert socket.address[0] == ("::1" if address == "::1" else "127.0.0.1")


@pytest.mark.parametrize(
    ("body", "seen_at", "address"),
    [
        (offer(V4), "198.51.100.9", "198.51.100.9"),
        (b"", "198.51.100.9", "198.51.100.9"),
        (offer(V4), "2001:db8::9", HERE),
        (offer(V6), "198.51.100.9", "::1"),
    ],
)
def test_behind_a_nat(body: bytes, seen_at: str, address: str) -> None:
    grounds = Grounds(pool("127.0.0.1"), HERE)
    grounds.use_other(pool("::1"), "::1")
    socket, named = grounds.open(body, "192.0.2.7", seen_at)
    socket.close()
    assert named == address


def test_no_address_of_the_other_version() -> None:
    grounds = Grounds(pool("127.0.0.1"), HERE)
    socket, named = grounds.open(offer(V6), "192.0.2.7")
    socket.close()
    assert named == HERE


def test_an_address_that_leads_there() -> None:
    """On a host that is all addresses of a version, SDP names the one on the way."""
    grounds = Grounds(pool("127.0.0.1"), HERE)
    grounds.use_other(pool("::"), "")
    socket, named = grounds.open(offer(b"::1"), "192.0.2.7")
    socket.close()
    assert (named, socket.address[0]) == ("::1", "::")


def test_no_private_address_for_a_host_of_the_internet() -> None:
    """It would send there, and nothing would come."""
    far = "2600::1"
    ours = source_towards(far)
    grounds = Grounds(pool("127.0.0.1"), HERE)
    grounds.use_other(pool("::"), "")
    socket, named = grounds.open(offer(far.encode()), "192.0.2.7")
    socket.close()
    assert named == (HERE if is_private_host(ours) else ours)


def test_the_way_to_a_host() -> None:
    assert source_towards("127.0.0.1") == "127.0.0.1"
    assert source_towards("::1") == "::1"
    assert source_towards("255.255.255.255") == ""


@pytest.mark.parametrize(("host", "local"), [("::1", True), ("2001:db8::1", False)])
def test_whether_an_address_is_here(host: str, *, local: bool) -> None:
    assert pool(host).is_local is local

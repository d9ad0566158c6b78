from dataclasses import dataclass

import pytest

from bridge.sip.connections import Connections, alias_port
from bridge.sip.events import Flow

HERE = ("192.0.2.1", 5060)


@dataclass(frozen=True)
class Line:
    flow: Flow
    incoming: bool = True
    closing: bool = False
    peer_names: frozenset[str] = frozenset()

    def is_closing(self) -> bool:
        return self.closing


def line(host: str, port: int, key: int, *, incoming: bool = True, closing: bool = False) -> Line:
    return Line(Flow("tcp", HERE, (host, port), key), incoming, closing)


def test_found_by_flow_then_by_peer() -> None:
    books = Connections[Line](most=9, most_per_host=9)
    one = line("10.0.0.1", 1, 1)
    assert books.add(one)
    assert books.find(one.flow) is one
    assert books.find(Flow("tcp", HERE, ("10.0.0.1", 1))) is one
    assert books.find(Flow("tcp", HERE, ("10.0.0.1", 2))) is None
    assert books.remove(one)
    assert not books.remove(one)
    assert books.find(one.flow) is None
    assert len(books) == 0


def test_a_closing_connection_is_not_found() -> None:
    books = Connections[Line](most=9, most_per_host=9)
    old = line("10.0.0.1", 1, 1, closing=True)
    new = line("10.0.0.1", 1, 2)
    assert books.add(old)
    assert books.find(old.flow) is None
    assert books.add(new)
    assert books.find(old.flow) is new
    assert books.remove(old)
    assert books.find(old.flow) is new
    assert books.all() == [new]


def test_caps_count_incoming_connections_per_host_and_in_all() -> None:
    books = Connections[Line](most=3, most_per_host=2)
    first = line("10.0.0.1", 1, 1)
    assert books.add(first)
    assert books.add(line("10.0.0.1", 2, 2))
    assert not books.add(line("10.0.0.1", 3, 3))
    assert books.add(line("10.0.0.2", 1, 4))
    assert not books.add(line("10.0.0.3", 1, 5))
    ours = line("10.0.0.1", 4, 6, incoming=False)
    assert books.add(ours)
    assert books.remove(ours)
    assert books.remove(first)
    assert books.add(line("10.0.0.1", 5, 7))


def test_a_named_flow_takes_those_who_proved_the_name() -> None:
    books = Connections[Line](most=9, most_per_host=9)
    proven = Line(Flow("tls", HERE, ("10.0.0.1", 5061), 1), peer_names=frozenset({"sip.example"}))
    unknown = Line(Flow("tls", HERE, ("10.0.0.1", 5061), 2))
    assert books.add(proven)
    assert books.add(unknown)
    towards = Flow("tls", HERE, ("10.0.0.1", 5061), server_name="SIP.example")
    assert books.find(towards) is proven
    assert books.find(Flow("tls", HERE, ("10.0.0.1", 5061))) is unknown
    assert books.find(Flow("tcp", HERE, ("10.0.0.1", 5061))) is None
    assert books.find(Flow("tls", HERE, ("10.0.0.1", 5061), server_name="other")) is None


def test_an_alias_lasts_as_long_as_its_connection() -> None:
    books = Connections[Line](most=9, most_per_host=9)
    peer = Line(Flow("tls", HERE, ("10.0.0.1", 40000), 1), peer_names=frozenset({"sip.example"}))
    back = Flow("tls", HERE, ("10.0.0.1", 5061), server_name="sip.example")
    books.alias(peer, 5061)
    assert books.find(back) is None
    assert books.add(peer)
    books.alias(peer, 5061)
    books.alias(peer, 5062)
    assert books.find(back) is peer
    assert books.find(Flow("tls", HERE, ("10.0.0.1", 5062))) is None
    assert books.remove(peer)
    assert books.find(back) is None


@pytest.mark.parametrize(
    ("via", "port"),
    [
        ("SIP/2.0/TLS a.example:5071;branch=z9hG4bK1;alias", 5071),
        ("SIP/2.0/TLS a.example;alias;branch=z9hG4bK1", 5061),
        ("SIP/2.0/TLS a.example:5071;branch=z9hG4bK1", None),
        ("nonsense;alias", None),
    ],
)
def test_the_alias_in_a_via(via: str, port: int | None) -> None:
    request = f"OPTIONS sip:x SIP/2.0\r\nVia: {via}\r\nContent-Length: 0\r\n\r\n"
    assert alias_port(request.encode(), "tls") == port


def test_a_response_offers_no_alias() -> None:
    response = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS a.example;alias\r\n\r\n"
    assert alias_port(response, "tls") is None
    assert alias_port(b"", "tls") is None

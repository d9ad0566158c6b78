from dataclasses import dataclass

from bridge.sip.connections import Connections
from bridge.sip.events import Flow

HERE = ("192.0.2.1", 5060)


@dataclass(frozen=True)
class Line:
    flow: Flow
    incoming: bool = True
    closing: bool = False

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

import random
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from bridge.errors import ConfigError, OverloadedError
from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import ReceiverReport
from bridge.rtp.transport import (
    DATAGRAM_SIZE,
    MAX_PER_POLL,
    QUARANTINE_S,
    PortPool,
    RtpPoller,
    RtpSocket,
)
from tests.ports import media_ports

LOOPBACK = "127.0.0.1"
REPORT = bytes(ReceiverReport(7))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def rtp(sequence_number: int = 0) -> bytes:
    return bytes(RtpPacket(0, False, sequence_number, 0, 7, b"\xff" * 160))


def phone(host: str = LOOPBACK) -> socket.socket:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((host, 0))
    udp.settimeout(2.0)
    return udp


def wait_readable(poller: RtpPoller) -> None:
    assert select.select([poller], [], [], 2.0)[0]


@pytest.fixture
def pool() -> PortPool:
    ports = media_ports(40)
    return PortPool(LOOPBACK, ports[0], ports[-1], rng=random.Random(1))


@pytest.fixture
def open_socket(pool: PortPool, poller: RtpPoller) -> Iterator[Callable[[], RtpSocket]]:
    opened: list[RtpSocket] = []

    def open_one() -> RtpSocket:
        opened.append(pool.open())
        poller.add(opened[-1])
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def poller() -> Iterator[RtpPoller]:
    poller = RtpPoller()
    yield poller
    poller.close()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with phone() as udp:
        yield udp


def test_speech_both_ways(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    ours = open_socket()
    heard: list[tuple[bytes, float]] = []
    ours.on_rtp = lambda data, now: heard.append((data, now))
    ours.remote = peer.getsockname()
    assert poller.poll(0.0) == 0
    for number in range(3):
        peer.sendto(rtp(number), ours.address)
    wait_readable(poller)
    assert poller.poll(1.5) == 3
    assert heard == [(rtp(0), 1.5), (rtp(1), 1.5), (rtp(2), 1.5)]
    ours.send(rtp(9))
    assert peer.recvfrom(2048) == (rtp(9), ours.address)
    assert (ours.stats.received, ours.stats.sent) == (3, 1)


def test_rtcp_both_ways(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    ours = open_socket()
    heard: list[bytes] = []
    ours.on_rtcp = lambda data, now: heard.append(data)
    ours.set_remote((LOOPBACK, 9), peer.getsockname())
    control = (LOOPBACK, ours.address[1] + 1)
    for data in (REPORT, b"", b"\x80", REPORT + bytes(DATAGRAM_SIZE)):
        peer.sendto(data, control)
    poller.poll(0.0)
    assert heard == [REPORT]
    assert (ours.stats.received_rtcp, ours.stats.malformed) == (1, 3)
    ours.send_rtcp(REPORT)
    assert peer.recvfrom(2048) == (REPORT, control)
    assert ours.stats.sent_rtcp == 1


def test_rtcp_of_a_stranger_is_dropped(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    ours = open_socket()
    ours.remote = ("127.0.0.9", 4000)
    peer.sendto(REPORT, (LOOPBACK, ours.address[1] + 1))
    poller.poll(0.0)
    assert (ours.stats.received_rtcp, ours.stats.dropped_source) == (0, 1)


def test_empty_short_and_huge_datagrams_are_ignored(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    ours = open_socket()
    ours.on_rtp = lambda data, now: pytest.fail("heard")
    ours.remote = peer.getsockname()
    for data in (b"", b"\x80", rtp()[:11], REPORT, rtp() + bytes(DATAGRAM_SIZE)):
        peer.sendto(data, ours.address)
    assert poller.poll(0.0) == 5
    assert ours.stats.malformed == 5


def test_a_stranger_is_dropped_and_counted(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    ours = open_socket()
    ours.remote = peer.getsockname()
    with phone() as stranger:
        peer.sendto(rtp(0), ours.address)
        for number in range(20):
            stranger.sendto(rtp(number), ours.address)
        poller.poll(0.0)
        assert (ours.stats.received, ours.stats.dropped_source) == (1, 20)
        ours.send(rtp())
        assert peer.recv(2048) == rtp()
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):
            stranger.recv(2048)


def test_latches_on_to_a_phone_behind_a_nat(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    ours = open_socket()
    ours.remote = ("192.168.1.20", 4000)
    for number in range(5):
        peer.sendto(rtp(number), ours.address)
        poller.poll(number * 0.02)
    assert ours.source == peer.getsockname()
    assert ours.remote == ("192.168.1.20", 4000)
    assert (ours.stats.received, ours.stats.dropped_source) == (1, 4)
    ours.send(rtp(1))
    assert peer.recv(2048) == rtp(1)


def test_strangers_do_not_come_by_the_socket_of_the_peer(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    ours = open_socket()
    heard: list[bytes] = []
    ours.on_rtp = lambda data, _: heard.append(data)
    assert len(poller) == 2
    ours.remote = peer.getsockname()
    assert len(poller) == 3
    with phone() as stranger:
        for number in range(20):
            peer.sendto(rtp(number), ours.address)
            stranger.sendto(rtp(number), ours.address)
        assert poller.poll(0.0) == 40
        assert heard == [rtp(number) for number in range(20)]
        assert (ours.stats.received, ours.stats.dropped_source) == (20, 20)
        assert ours.stats.stranger == stranger.getsockname()
    ours.send(rtp(9))
    data, source = peer.recvfrom(2048)
    assert (data, source) == (rtp(9), ours.address)
    ours.remote = None
    assert len(poller) == 2
    ours.send(rtp(9))
    assert (ours.stats.sent, ours.stats.no_destination) == (1, 1)


def test_the_socket_of_the_peer_moves_to_whom_is_latched_on_to(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    ours = open_socket()
    with phone() as first:
        ours.remote = first.getsockname()
        for number in range(5):
            peer.sendto(rtp(number), ours.address)
            poller.poll(number * 0.02)
        assert ours.source == peer.getsockname()
        # The address of the SDP wins it back, from one that goes on.
        for number in range(5):
            peer.sendto(rtp(5 + number), ours.address)
            first.sendto(rtp(100 + number), ours.address)
            poller.poll(0.1 + number * 0.02)
        assert ours.source == first.getsockname()
        assert len(poller) == 3
        assert ours.stats.received == 1 + 5 + 1
        ours.send(rtp(7))
        assert first.recv(2048) == rtp(7)


def test_a_peer_that_does_not_listen_is_told_of_and_sent_to_all_the_same(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller
) -> None:
    ours = open_socket()
    with phone() as gone:
        address = gone.getsockname()
    ours.remote = address
    for number in range(4):
        ours.send(rtp(number))
        poller.poll(number * 0.02)
    assert ours.stats.refused >= 2
    assert ours.stats.sent == 4
    ours.send(rtp(4))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
        back.bind(address)
        back.settimeout(2.0)
        ours.send(rtp(5))
        assert back.recv(2048) == rtp(5)


def test_nobody_shares_a_port(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    ours = open_socket()
    ours.remote = peer.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            foreign.bind(ours.address)
        ours.close()
        foreign.bind(ours.address)


def test_without_a_way_to_the_peer_there_is_one_socket(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller
) -> None:
    ours = open_socket()
    ours.remote = ("2001:db8::1", 4000)
    assert len(poller) == 2
    ours.send(rtp())
    assert ours.stats.failed == 1


def test_one_flooded_port_does_not_starve_the_others(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    flooded, quiet = open_socket(), open_socket()
    for each in (flooded, quiet):
        each.remote = peer.getsockname()
    for number in range(2 * MAX_PER_POLL):
        peer.sendto(rtp(number), flooded.address)
    peer.sendto(rtp(), quiet.address)
    wait_readable(poller)
    assert poller.poll(0.0) == MAX_PER_POLL + 1
    assert poller.poll(0.02) == MAX_PER_POLL
    assert poller.poll(0.04) == 0


def test_what_waited_out_a_standstill_of_ours_is_read_at_once(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    ours = open_socket()
    ours.remote = peer.getsockname()
    assert poller.poll(1.0) == 0
    for number in range(100):
        peer.sendto(rtp(number), ours.address)
    wait_readable(poller)
    assert poller.poll(3.0) == 100


def test_sending_never_raises(open_socket: Callable[[], RtpSocket]) -> None:
    ours = open_socket()
    ours.send(rtp())
    ours.send_rtcp(REPORT)
    assert ours.stats.no_destination == 2
    ours.remote = ("2001:db8::1", 4000)  # no such family on this socket
    ours.send(rtp())
    ours.send_rtcp(REPORT)
    assert ours.stats.failed == 2
    with phone() as gone:
        ours.remote = gone.getsockname()
    ours.send(rtp())
    ours.send(rtp())
    assert ours.stats.sent == 2
    ours.send(bytes(70_000))
    assert ours.stats.failed == 3
    ours.close()
    ours.send(rtp())
    ours.send_rtcp(REPORT)
    assert ours.stats.no_destination == 4


def test_close_is_idempotent_and_leaves_the_poller(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller
) -> None:
    ours = open_socket()
    assert len(poller) == 2
    ours.close()
    ours.close()
    assert ours.closed
    assert len(poller) == 0
    assert poller.poll(0.0) == 0
    poller.remove(ours)
    assert poller.poll(0.0) == 0


def test_a_callback_may_close_any_socket(
    open_socket: Callable[[], RtpSocket], poller: RtpPoller, peer: socket.socket
) -> None:
    pair = [open_socket(), open_socket()]

    def hang_up(data: bytes, now: float) -> None:
        for each in pair:
            each.close()

    for each in pair:
        each.on_rtp = hang_up
        each.remote = peer.getsockname()
        peer.sendto(rtp(0), each.address)
        peer.sendto(rtp(1), each.address)
    wait_readable(poller)
    assert poller.poll(0.0) == 1


def test_pairs_are_even_and_odd_and_within_the_range() -> None:
    first = media_ports(10)[0]
    pool = PortPool(LOOPBACK, first + 1, first + 8)
    assert pool.capacity == 3
    opened = [pool.open() for _ in range(3)]
    ports = sorted(each.address[1] for each in opened)
    assert ports == [first + 2, first + 4, first + 6]
    assert pool.in_use == 3
    with pytest.raises(OverloadedError):
        pool.open()
    for each in opened:
        each.close()
    assert pool.in_use == 0


def test_a_closed_port_rests_for_thirty_seconds() -> None:
    clock = Clock()
    first = media_ports(2)[0]
    pool = PortPool(LOOPBACK, first, first + 1, clock=clock)
    before = pool.open()
    before.close()
    clock.now += QUARANTINE_S - 0.1
    with pytest.raises(OverloadedError):
        pool.open()
    clock.now += 0.1
    again = pool.open()
    assert again.address == before.address
    again.close()


def test_the_start_is_random() -> None:
    firsts = set()
    ports = media_ports(200)
    for seed in range(5):
        opened = PortPool(LOOPBACK, ports[0], ports[-1], rng=random.Random(seed)).open()
        firsts.add(opened.address[1])
        opened.close()
    assert len(firsts) > 1


@pytest.mark.parametrize("taken", [0, 1])
def test_a_port_in_foreign_use_is_skipped(taken: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        ports = media_ports(4)
        foreign.bind((LOOPBACK, ports[taken]))
        opened = PortPool(LOOPBACK, ports[0], ports[-1]).open()
        assert opened.address == (LOOPBACK, ports[2])
        opened.close()


@pytest.mark.parametrize(
    ("host", "low", "high"),
    [
        (LOOPBACK, 20000, 20000),
        (LOOPBACK, 20001, 20002),
        (LOOPBACK, 30000, 20000),
        (LOOPBACK, 65534, 65536),
        ("rtp.example.com", 20000, 20010),
    ],
)
def test_settings_that_cannot_work(host: str, low: int, high: int) -> None:
    with pytest.raises(ConfigError):
        PortPool(host, low, high)


def test_a_host_that_is_not_ours() -> None:
    with pytest.raises(ConfigError):
        PortPool("192.0.2.1", 31030, 31039).open()


def test_ipv6(poller: RtpPoller) -> None:
    ports = media_ports(10)
    pool = PortPool("::1", ports[0], ports[-1])
    one, two = pool.open(), pool.open()
    heard: list[bytes] = []
    two.on_rtp = lambda data, now: heard.append(data)
    poller.add(two)
    one.remote, two.remote = two.address, one.address
    assert len(poller) == 3
    one.send(rtp())
    wait_readable(poller)
    poller.poll(0.0)
    assert heard == [rtp()]
    one.close()
    two.close()

"""RTP over UDP: port pairs from a range, sockets that never block, one poller for all of them."""

import errno
import random
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from bridge.errors import ConfigError, OverloadedError
from bridge.rtp.latching import Endpoint, Proof, SourceLatch
from bridge.rtp.sockets import connected, unbound

QUARANTINE_S = 30.0
"""A closed port stays out of use until the peer of its last call has surely stopped sending."""

MAX_PER_POLL = 32
"""Datagrams read from one port per poll, so that a flood at one call does not delay the rest. They
are read in turn, one of each port: asking a port whether it has more costs as much as reading."""

PER_S = 200
"""So many more for each second since the poll before: what waited out a standstill of ours is not
lost, and twice what any codec sends."""

MAX_STANDSTILL_S = 4.0

DATAGRAM_SIZE = 4096
MAX_BIND_FAILURES = 64

_BUSY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)

Received = Callable[[bytes, float], None]


@dataclass(slots=True)
class RtpSocketStats:
    """Counts of datagrams. `dropped_source`: not the peer's; `malformed`: from the peer, but short,
    oversized or no RTP; `busy`: the kernel's buffer was full; `no_destination`: before an SDP."""

    received: int = 0
    received_rtcp: int = 0
    sent: int = 0
    sent_rtcp: int = 0
    dropped_source: int = 0
    malformed: int = 0
    busy: int = 0
    refused: int = 0
    failed: int = 0
    no_destination: int = 0
    stranger: Endpoint | None = None
    """Who the last packet dropped for its source came from."""


class RtpSocket:
    """A bound pair of UDP ports. `on_rtp` and `on_rtcp` get what the peer sends, when polled.

    With a poller, RTP is exchanged by a second socket of the same port that is connected to the
    peer: it costs a little less, and hears of it when nobody listens there. All others
    come in by the first.
    """

    def __init__(
        self,
        rtp: socket.socket,
        rtcp: socket.socket,
        release: Callable[[bytes], None] | None = None,
        *,
        stale: bytes = b"",
    ) -> None:
        """`release` gets the SSRC that was heard last; `stale` is such a one of an earlier call."""
        self.on_rtp: Received | None = None
        self.on_rtcp: Received | None = None
        self.stats = RtpSocketStats()
        self._rtp = rtp
        self._rtcp = rtcp
        self._release = release
        self._latch = SourceLatch(stale=stale)
        self._poller: RtpPoller | None = None
        self._closed = False
        self._direct: socket.socket | None = None
        self._direct_to: Endpoint | None = None
        name = rtp.getsockname()
        self.address: Endpoint = (name[0], name[1])

    @property
    def remote(self) -> Endpoint | None:
        """The peer's RTP address by its SDP. Setting it, also to the same value, allows one more
        latch. Raises ValueError if the host is not an IP address."""
        return self._latch.remote

    @remote.setter
    def remote(self, endpoint: Endpoint | None) -> None:
        self.set_remote(endpoint)

    def set_remote(
        self, rtp: Endpoint | None, rtcp: Endpoint | None = None, *, near: str = ""
    ) -> None:
        """As `remote`, with the RTCP address when the SDP names one (RFC 3605), and the host that
        the signalling comes from."""
        self._latch.set_remote(rtp, rtcp, near=near)
        self._connect()

    def demand_proof(self, rtp: Proof, rtcp: Proof) -> None:
        """From now on no other source is believed without a datagram that these find genuine."""
        self._latch.genuine, self._latch.genuine_control = rtp, rtcp

    @property
    def source(self) -> Endpoint | None:
        """Where packets are really exchanged: `remote`, or what was latched on to."""
        return self._latch.source

    @property
    def closed(self) -> bool:
        return self._closed

    def filenos(self) -> tuple[int, int]:
        return self._rtp.fileno(), self._rtcp.fileno()

    def send(self, data: bytes) -> None:
        """Never blocks, never raises: a packet that cannot go is counted."""
        if self._direct is not None:
            try:
                self._direct.send(data)
            except OSError as error:
                # By ICMP it is that of a packet before; this one has not gone, and may by the
                # other.
                self.stats.refused += error.errno == errno.ECONNREFUSED
            else:
                self.stats.sent += 1
                return
        destination = self._latch.source
        if destination is None or self._closed:
            self.stats.no_destination += 1
            return
        try:
            self._rtp.sendto(data, destination)
        except OSError as error:
            self._count(error)
        else:
            self.stats.sent += 1

    def send_rtcp(self, data: bytes) -> None:
        """As `send`."""
        destination = self._latch.control
        if destination is None or self._closed:
            self.stats.no_destination += 1
            return
        try:
            self._rtcp.sendto(data, destination)
        except OSError as error:
            self._count(error)
        else:
            self.stats.sent_rtcp += 1

    def read_rtp(self, now: float) -> bool:
        """One datagram; False if there was none."""
        datagram = self._receive(self._rtp)
        if datagram is None:
            return False
        self._take(*datagram, now)
        return True

    def _read_direct(self, now: float) -> bool:
        direct, peer = self._direct, self._direct_to
        if direct is None or peer is None:
            return False
        try:
            data = direct.recv(DATAGRAM_SIZE + 1)
        except OSError as error:
            if error.errno not in _BUSY:
                self._count(error)
            return False
        if len(data) > DATAGRAM_SIZE or not self._latch.goes_on(data, peer):
            self._take(data, peer, now)
            return True
        self.stats.received += 1
        if self.on_rtp is not None:
            self.on_rtp(data, now)
        return True

    def _take(self, data: bytes, source: Endpoint, now: float) -> None:
        if not self._latch.admits(data, source, now):
            self._count_dropped(source)
        elif len(data) > DATAGRAM_SIZE:
            self.stats.malformed += 1
        else:
            if source is not self._direct_to:
                self._connect()
            self.stats.received += 1
            if self.on_rtp is not None:
                self.on_rtp(data, now)

    def read_rtcp(self, now: float) -> bool:
        """As `read_rtp`."""
        datagram = self._receive(self._rtcp)
        if datagram is None:
            return False
        data, source = datagram
        if not self._latch.admits_control(data, source):
            self.stats.dropped_source += 1
        elif not 4 <= len(data) <= DATAGRAM_SIZE:
            self.stats.malformed += 1
        else:
            self.stats.received_rtcp += 1
            if self.on_rtcp is not None:
                self.on_rtcp(data, now)
        return True

    def _receive(self, port: socket.socket) -> tuple[bytes, Endpoint] | None:
        """None when nothing is left, or when a callback closed the socket."""
        if self._closed:
            return None
        try:
            data, source = port.recvfrom(DATAGRAM_SIZE + 1)
        except OSError as error:
            if error.errno not in _BUSY:
                self._count(error)
            return None
        return data, source if len(source) == 2 else source[:2]

    def _count_dropped(self, source: Endpoint) -> None:
        if source != self._latch.source:
            self.stats.dropped_source += 1
            self.stats.stranger = source
        else:
            self.stats.malformed += 1

    def _count(self, error: OSError) -> None:
        if error.errno in _BUSY:
            self.stats.busy += 1
        elif error.errno == errno.ECONNREFUSED:
            self.stats.refused += 1
        else:
            self.stats.failed += 1

    def _connect(self) -> None:
        """To where packets are exchanged now."""
        peer = self._latch.source
        if peer == self._direct_to:
            return
        self._disconnect()
        if peer is None or self._poller is None:
            return
        self._direct_to = peer
        self._direct = connected(self._rtp, peer)
        if self._direct is not None:
            self._poller.watch(self._direct.fileno(), self._read_direct)

    def _disconnect(self) -> None:
        direct, self._direct, self._direct_to = self._direct, None, None
        if direct is None:
            return
        if self._poller is not None:
            self._poller.unwatch(direct.fileno())
        direct.close()

    def close(self) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._disconnect()
        if self._poller is not None:
            self._poller.remove(self)
        self._closed = True
        self._rtp.close()
        self._rtcp.close()
        self.on_rtp = self.on_rtcp = None
        if self._release is not None:
            self._release(self._latch.ssrc)


class RtpPoller:
    """One epoll over the ports of all calls, asked by the media clock."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._polled_at = 0.0
        self._reads: dict[int, Callable[[float], bool]] = {}

    def add(self, rtp_socket: RtpSocket) -> None:
        """The socket leaves by itself when it is closed."""
        rtp, rtcp = rtp_socket.filenos()
        self.watch(rtp, rtp_socket.read_rtp)
        self.watch(rtcp, rtp_socket.read_rtcp)
        rtp_socket._poller = self
        rtp_socket._connect()

    def remove(self, rtp_socket: RtpSocket) -> None:
        """Idempotent."""
        rtp_socket._disconnect()
        for fileno in rtp_socket.filenos():
            self.unwatch(fileno)
        rtp_socket._poller = None

    def watch(self, fileno: int, read: Callable[[float], bool]) -> None:
        """`read` takes one datagram at most, and says whether there was one."""
        self._reads[fileno] = read
        self._epoll.register(fileno, select.EPOLLIN)

    def unwatch(self, fileno: int) -> None:
        """Before it is closed. Idempotent."""
        if self._reads.pop(fileno, None) is not None:
            self._epoll.unregister(fileno)

    def __len__(self) -> int:
        """Of ports, not pairs."""
        return len(self._reads)

    def fileno(self) -> int:
        """Readable while a datagram waits at any port."""
        return self._epoll.fileno()

    def poll(self, now: float) -> int:
        """Read everything pending, up to MAX_PER_POLL of one port; how many datagrams that were. A
        callback may close any socket."""
        reads, count = self._reads, 0
        stood_still = min(now - self._polled_at, MAX_STANDSTILL_S)
        self._polled_at = now
        for _ in range(MAX_PER_POLL + int(stood_still * PER_S)):
            if not reads:
                break
            ready = self._epoll.poll(0, len(reads))
            for fileno, _ in ready:
                read = reads.get(fileno)
                if read is not None and read(now):
                    count += 1
            if not ready:
                break
        return count

    def close(self) -> None:
        """Does not close the sockets. Idempotent."""
        self._reads.clear()
        self._epoll.close()


class PortPool:
    """Even and odd port pairs (RFC 3550 section 11) between `port_min` and `port_max`.

    `clock` gives seconds that do not jump. Raises ConfigError if the range holds no pair.
    """

    def __init__(
        self,
        host: str,
        port_min: int,
        port_max: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.host = host
        self._clock = clock
        self._pairs = range(port_min + port_min % 2, port_max, 2)
        if not self._pairs or not 0 < port_min <= port_max <= 65535:
            raise ConfigError("the RTP port range holds no even and odd pair", param="rtp.port_min")
        self._next = (rng or random.SystemRandom()).randrange(len(self._pairs))
        self._open: set[int] = set()
        self._quarantine: dict[int, float] = {}
        self._stale: dict[int, bytes] = {}
        try:
            is_v6 = ip_address(host).version == 6
        except ValueError as error:
            raise ConfigError("rtp.host is not an IP address", param="rtp.host") from error
        self._family = socket.AF_INET6 if is_v6 else socket.AF_INET

    @property
    def is_local(self) -> bool:
        """Whether the host is an address of this machine."""
        with socket.socket(self._family, socket.SOCK_DGRAM) as udp:
            try:
                udp.bind((self.host, 0))
            except OSError:
                return False
        return True

    @property
    def capacity(self) -> int:
        return len(self._pairs)

    @property
    def in_use(self) -> int:
        return len(self._open)

    def open(self) -> RtpSocket:
        """Raises OverloadedError when no pair is free, ConfigError when the host is not ours."""
        self._end_quarantine()
        failures = 0
        for _ in range(len(self._pairs)):
            port = self._pairs[self._next]
            self._next = (self._next + 1) % len(self._pairs)
            if port in self._open or port in self._quarantine:
                continue
            try:
                return self._bind(port)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise ConfigError(
                        "rtp.host is not an address of this machine", param="rtp.host"
                    ) from error
                failures += 1
                if failures == MAX_BIND_FAILURES or error.errno in (errno.EMFILE, errno.ENFILE):
                    break
        raise OverloadedError("no RTP port is free", code="no_rtp_port")

    def _bind(self, port: int) -> RtpSocket:
        bound: list[socket.socket] = []
        try:
            for number in (port, port + 1):
                udp = unbound(self._family)
                bound.append(udp)
                udp.bind((self.host, number))
        except OSError:
            for udp in bound:
                udp.close()
            raise
        self._open.add(port)
        rtp, rtcp = bound
        stale = self._stale.pop(port, b"")
        return RtpSocket(rtp, rtcp, lambda ssrc: self._released(port, ssrc), stale=stale)

    def _released(self, port: int, ssrc: bytes) -> None:
        if ssrc:
            self._stale[port] = ssrc
        self._open.discard(port)
        self._quarantine[port] = self._clock() + QUARANTINE_S

    def _end_quarantine(self) -> None:
        now = self._clock()
        while self._quarantine:
            # Ports are closed in the order of time, and a dict keeps it.
            port, until = next(iter(self._quarantine.items()))
            if until > now:
                break
            del self._quarantine[port]


def source_towards(host: str) -> str:
    """Our address that packets to `host` would come from; empty if there is no way to it.
    Nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as udp:
            udp.connect((host, 9))
            return str(udp.getsockname()[0])
    except OSError:
        return ""

"""One UDP socket: datagrams in turns, and what the network says of those we sent (RFC 3261 18.4).

Linux hands over ICMP errors with the beginning of the datagram that caused them. Only errors that
quote something lately sent are believed: anybody can make one up, but not the branch in it.
"""

import asyncio
import errno
import ipaddress
import socket
import struct
from collections import deque
from typing import Protocol, cast

from bridge.sip.events import Flow
from bridge.sip.limits import Address, Limits, TransportStats

_REMEMBERED = 512
_QUOTED = 128
_ERRORS_PER_TURN = 64

_ICMP, _ICMP6 = 2, 3
# Not "fragmentation needed": the kernel has taken note, and the next copy fits.
_IPV4_FINAL = {3: frozenset(range(16)) - {4}, 12: frozenset(range(3))}
_IPV6_FINAL = {1: frozenset(range(8)), 4: frozenset(range(4))}
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH)

# Linux, absent from the module; elsewhere nothing is reported.
_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
_ERRQUEUE: int | None = getattr(socket, "MSG_ERRQUEUE", None)


class Owner(Protocol):
    limits: Limits
    stats: TransportStats

    def deliver(self, data: bytes, flow: Flow) -> None: ...
    def unreachable(self, flow: Flow) -> None: ...


class UdpSocket(asyncio.DatagramProtocol):
    """Open one with `open_udp`."""

    def __init__(self, owner: Owner, sock: socket.socket) -> None:
        self._owner = owner
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, Address]] = deque()
        self._sent: deque[tuple[Flow, bytes]] = deque(maxlen=_REMEMBERED)
        self._turn: asyncio.Handle | None = None
        self._congested = False
        self._sending: Flow | None = None
        self.local = address_of(sock.getsockname())
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._turn is not None:
            self._turn.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def error_received(self, exc: Exception) -> None:
        self._owner.stats.udp_errors += 1
        if self._sending is not None and isinstance(exc, OSError) and exc.errno in _NO_ROUTE:
            self._owner.unreachable(self._sending)
        self._read_errors()

    def pause_writing(self) -> None:
        # Datagrams are dropped, not queued: retransmission is the transaction's business.
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(self._waiting) >= self._owner.limits.waiting_datagrams:
            self._owner.stats.dropped_datagrams += 1
            return
        # Phones keep NAT bindings open with CRLF or a lone NUL; nobody expects an answer.
        if len(data) <= 4 and not data.strip(b"\r\n\0"):
            return
        self._waiting.append((data, address_of(addr)))
        if self._turn is None:
            self._turn = self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        try:
            for _ in range(min(len(self._waiting), self._owner.limits.messages_per_turn)):
                data, remote = self._waiting.popleft()
                self._owner.deliver(data, Flow("udp", self.local, remote))
        finally:
            if self._waiting:
                self._turn = self._loop.call_soon(self._take_turn)

    def send(self, data: bytes, flow: Flow) -> None:
        if self._congested or self.transport.is_closing():
            self._owner.stats.unsendable += 1
            return
        # An error that waits would be raised by this datagram, and cost it.
        self._read_errors()
        self._sending = flow
        try:
            self.transport.sendto(data, _socket_address(flow.remote))
        except (OSError, ValueError):
            self._owner.stats.unsendable += 1
            return
        finally:
            self._sending = None
        self._sent.append((flow, data))
        self._owner.stats.sent += 1

    def _read_errors(self) -> None:
        if _ERRQUEUE is None:
            return
        for _ in range(_ERRORS_PER_TURN):
            try:
                quoted, notes, _, remote = self._socket.recvmsg(2048, 512, _ERRQUEUE)
            except OSError:
                return
            if any(_is_final(data) for _, _, data in notes):
                self._undelivered(quoted, address_of(remote))

    def _undelivered(self, quoted: bytes, remote: Address) -> None:
        for flow, data in reversed(self._sent):
            enough = len(quoted) >= min(len(data), _QUOTED)
            if flow.remote == remote and enough and data.startswith(quoted):
                self._owner.stats.unreachable += 1
                self._owner.unreachable(flow)
                return


async def open_udp(owner: Owner, address: Address) -> UdpSocket:
    """Bind; raises OSError. An IPv6 socket takes IPv6 only, so that both may have one port."""
    loop = asyncio.get_running_loop()
    family, local = await _bindable(address)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if _ERRQUEUE is not None:
            sock.setsockopt(*_RECVERR[socket.AddressFamily(family)], 1)
        sock.bind(local)
        _, opened = await loop.create_datagram_endpoint(lambda: UdpSocket(owner, sock), sock=sock)
    except OSError:
        sock.close()
        raise
    return opened


async def _bindable(
    address: Address,
) -> tuple[socket.AddressFamily, Address | tuple[str, int, int, int]]:
    """Family and socket address. Only a name has to be asked for."""
    try:
        version = ipaddress.ip_address(address[0]).version
    except ValueError:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(*address, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
        family, _, _, _, local = found[0]
        return family, cast(Address, local)
    return socket.AF_INET6 if version == 6 else socket.AF_INET, _socket_address(address)


def address_of(raw: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    return raw[0], raw[1]


def _socket_address(remote: Address) -> Address | tuple[str, int, int, int]:
    host, port = remote
    _, percent, zone = host.partition("%")
    if not percent:
        return remote
    # The socket takes the scope of a link-local address from the fourth value alone.
    return host, port, 0, int(zone) if zone.isdigit() else socket.if_nametoindex(zone)


def _is_final(note: bytes) -> bool:
    """`struct sock_extended_err` of an ICMP message that waiting will not mend."""
    if len(note) < 16:
        return False
    number, origin, kind, code = struct.unpack_from("=IBBB", note)
    if origin == _ICMP:
        return code in _IPV4_FINAL.get(kind, ())
    if origin == _ICMP6:
        return code in _IPV6_FINAL.get(kind, ())
    return number in _NO_ROUTE

"""Opens connections for what is to be sent, and sends large requests by TCP (RFC 3261 18.1.1)."""

import asyncio
import ipaddress
from collections import deque
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Protocol

from bridge.sip.events import Flow
from bridge.sip.framing import is_request, over_tcp
from bridge.sip.limits import Address, Limits, TransportStats
from bridge.sip.stream import StreamConnection
from bridge.sip.tls import TlsError
from bridge.tasks import TaskOwner

_REMEMBERED = 1024


class Owner(Protocol):
    limits: Limits
    stats: TransportStats

    def find(self, flow: Flow) -> StreamConnection | None: ...
    def has_room(self) -> bool: ...
    def outgoing(self, flow: Flow) -> StreamConnection: ...
    def send_datagram(self, flow: Flow, data: bytes) -> None: ...
    def unsendable(self, flow: Flow) -> None: ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    flow: Flow
    data: bytes
    datagram: bytes | None = None
    """What goes by UDP when no connection can be had."""


class Connector:
    """At most one attempt for a peer at a time; what comes meanwhile waits for its end."""

    def __init__(self, owner: Owner, tasks: TaskOwner) -> None:
        self._owner = owner
        self._tasks = tasks
        self._connecting: dict[tuple[str, Address, str], deque[_Waiting]] = {}
        self._without_tcp: dict[Address, float] = {}
        self._sent_large: dict[bytes, StreamConnection] = {}

    def connect_and_send(self, flow: Flow, data: bytes) -> None:
        limits = self._owner.limits
        if not self._enqueue(_Waiting(flow, data), flow, limits.connect_s):
            self._owner.unsendable(flow)

    def send_large(self, flow: Flow, data: bytes) -> bool:
        """False: it is to go by UDP, as its flow says."""
        loop = asyncio.get_running_loop()
        if not is_request(data) or self._without_tcp.get(flow.remote, 0.0) > loop.time():
            return False
        digest = blake2b(data, digest_size=16).digest()
        towards = replace(flow, transport="tcp", key=0)
        connection = self._owner.find(towards)
        earlier = self._sent_large.get(digest)
        if earlier is not None and not earlier.is_closing():
            # The transaction repeats itself as it would over UDP; TCP needs no such help.
            return True
        waiting = _Waiting(flow, over_tcp(data), data)
        if connection is not None:
            self._send(connection, waiting)
            return True
        return self._enqueue(waiting, towards, self._owner.limits.large_connect_s)

    def _enqueue(self, item: _Waiting, towards: Flow, seconds: float) -> bool:
        key = (towards.transport, towards.remote, towards.server_name)
        waiting = self._connecting.get(key)
        limits = self._owner.limits
        if waiting is None:
            if not self._owner.has_room() or len(self._connecting) >= limits.connecting:
                return False
            waiting = self._connecting[key] = deque()
            self._tasks.spawn(self._connect(towards, waiting, seconds), name="connect")
        if item in waiting:
            return True
        if sum(len(other.data) for other in waiting) + len(item.data) > limits.write_buffer:
            return False
        waiting.append(item)
        return True

    async def _connect(self, towards: Flow, waiting: deque[_Waiting], seconds: float) -> None:
        connection: StreamConnection | None = None
        try:
            async with asyncio.timeout(seconds):
                connection = await self._open(towards)
        except (OSError, TlsError):
            pass
        finally:
            del self._connecting[towards.transport, towards.remote, towards.server_name]
        if connection is None:
            self._owner.stats.connections_failed += 1
            self._give_up(towards.remote, waiting)
            return
        for item in waiting:
            self._send(connection, item)

    async def _open(self, towards: Flow) -> StreamConnection | None:
        host = towards.local[0]
        # Peers know their callers by address, so it is the one that they are called from.
        source = None if _is_any(host) else (host, 0)
        connection = self._owner.outgoing(towards)
        await asyncio.get_running_loop().create_connection(
            lambda: connection, *towards.remote, local_addr=source
        )
        try:
            return connection if await connection.ready else None
        except asyncio.CancelledError:
            connection.abort()
            raise

    def _send(self, connection: StreamConnection, item: _Waiting) -> None:
        if item.datagram is not None:
            self._owner.stats.large_requests += 1
            digest = blake2b(item.datagram, digest_size=16).digest()
            if len(self._sent_large) >= _REMEMBERED:
                del self._sent_large[next(iter(self._sent_large))]
            self._sent_large[digest] = connection
        connection.send(item.data, item.flow)

    def _give_up(self, remote: Address, waiting: deque[_Waiting]) -> None:
        now = asyncio.get_running_loop().time()
        for item in waiting:
            if item.datagram is None:
                self._owner.unsendable(item.flow)
                continue
            if len(self._without_tcp) >= _REMEMBERED:
                del self._without_tcp[next(iter(self._without_tcp))]
            self._without_tcp[remote] = now + self._owner.limits.without_tcp_s
            self._owner.send_datagram(item.flow, item.datagram)


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return True

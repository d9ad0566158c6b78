"""The asyncio shell around a user agent: UDP and TCP sockets, one timer, no SIP knowledge.

Everything a stranger can make us keep is capped here: datagrams waiting, connections (all and
per address), the time to a first message, silence, and octets a peer does not read. Received
messages are handled a few at a time per turn of the loop, so that a flood on the signalling port
delays signalling and not the media clock, which runs on the same loop.
"""

import asyncio
import functools
import ipaddress
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

from bridge.errors import SipError
from bridge.sip.connections import Connections
from bridge.sip.events import Flow
from bridge.sip.framing import KeepAlive, StreamFramer
from bridge.tasks import TaskOwner

Address = tuple[str, int]
E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)


class Agent(Protocol[E_co]):
    """What the shell needs of a user agent; all calls come from the loop's thread."""

    def receive(self, data: bytes, flow: Flow, now: float) -> None: ...
    def to_send(self) -> Iterable[tuple[Flow, bytes]]: ...
    def events(self) -> Iterable[E_co]: ...
    def next_timer(self) -> float | None: ...
    def handle_timer(self, now: float) -> None: ...
    def flow_failed(self, flow: Flow, now: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and counts; one Asterisk could be blocked by 60 silent sockets (AST-2016-005)."""

    connections: int = 1000
    connections_per_address: int = 64
    first_message_s: float = 5.0
    idle_s: float = 120.0
    write_buffer: int = 65536
    """Octets a peer may leave unread before its connection is cut."""
    connecting: int = 64
    """Connections being opened at one time."""
    connect_s: float = 5.0
    waiting_datagrams: int = 1024
    messages_per_turn: int = 16


@dataclass(slots=True)
class TransportStats:
    received: int = 0
    sent: int = 0
    refused: int = 0
    """Messages the agent would not read."""
    dropped_datagrams: int = 0
    unsendable: int = 0
    """No socket for the flow, no usable address, or too much waiting already."""
    udp_errors: int = 0
    connections_opened: int = 0
    connections_refused: int = 0
    connections_failed: int = 0
    """Outgoing ones that could not be opened."""
    slow_readers: int = 0
    timed_out: int = 0
    broken_streams: int = 0


def _never_busy(flow: Flow) -> bool:
    return False


class SipTransport(Generic[E]):
    """Listens, feeds `agent`, writes what it wants sent and hands its events to `on_event`.

    `flow_in_use` tells whether a call depends on a connection: such a one is not closed for
    being idle. A None address leaves that transport off; port 0 takes any free port.
    """

    def __init__(
        self,
        agent: Agent[E],
        *,
        udp: Address | None = None,
        tcp: Address | None = None,
        on_event: Callable[[E], None],
        flow_in_use: Callable[[Flow], bool] = _never_busy,
        limits: Limits | None = None,
    ) -> None:
        self.agent = agent
        self.on_event = on_event
        self.flow_in_use = flow_in_use
        self.limits = limits or Limits()
        self.stats = TransportStats()
        self.endpoints: dict[str, Address] = {}
        """`udp` and `tcp` with the addresses really bound; filled by `start`."""
        self._wanted = {"udp": udp, "tcp": tcp}
        self._udp: _UdpSocket | None = None
        self._server: asyncio.Server | None = None
        self._connections = Connections[_Connection](
            most=self.limits.connections, most_per_host=self.limits.connections_per_address
        )
        self._connecting: dict[Address, deque[tuple[Flow, bytes]]] = {}
        self._tasks = TaskOwner("sip-transport")
        self._events: deque[E] = deque()
        self._failed: deque[Flow] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._pump_handle: asyncio.Handle | None = None
        self._pumping = False
        self._closed = False

    async def start(self) -> None:
        """Bind; raises OSError. Nothing stays open when one of the two fails."""
        self._loop = asyncio.get_running_loop()
        try:
            if address := self._wanted["udp"]:
                _, self._udp = await self._loop.create_datagram_endpoint(
                    lambda: _UdpSocket(self), local_addr=address
                )
                self.endpoints["udp"] = self._udp.local
            if address := self._wanted["tcp"]:
                self._server = await self._loop.create_server(
                    lambda: _Connection(self, incoming=True), *address
                )
                self.endpoints["tcp"] = _address(self._server.sockets[0].getsockname())
        except OSError:
            await self.close()
            raise
        self._arm_timer()

    async def close(self, timeout_s: float = 1.0) -> None:
        """Send what is due, then close every socket; idempotent."""
        if self._closed:
            return
        if self.endpoints:
            self.kick()
        self._closed = True
        for handle in (self._timer, self._pump_handle):
            if handle is not None:
                handle.cancel()
        if self._server is not None:
            self._server.close()
        await self._tasks.close()
        connections = self._connections.all()
        for connection in connections:
            connection.close()
        ends = [connection.closed for connection in connections]
        if self._udp is not None:
            self._udp.transport.close()
            ends.append(self._udp.closed)
        if ends:
            await asyncio.wait(ends, timeout=timeout_s)
        for connection in connections:
            connection.abort()

    def kick(self) -> None:
        """Write and report what the agent has ready; call it after every command."""
        if self._pumping or self._closed:
            return
        self._pumping = True
        try:
            while self._pump_once():
                pass
        finally:
            self._pumping = False
            if self._events:
                self.kick_soon()
            self._arm_timer()

    def kick_soon(self) -> None:
        """As `kick`, once, at the end of this turn of the loop."""
        if not self._closed and self._pump_handle is None:
            self._pump_handle = self._loop.call_soon(self._deferred_kick)

    def deliver(self, data: bytes, flow: Flow) -> None:
        self.stats.received += 1
        try:
            self.agent.receive(data, flow, self._loop.time())
        except SipError:
            self.stats.refused += 1
        finally:
            self.kick_soon()

    def _deferred_kick(self) -> None:
        self._pump_handle = None
        for _ in range(len(self._failed)):
            self.agent.flow_failed(self._failed.popleft(), self._loop.time())
        self.kick()

    def _pump_once(self) -> bool:
        """One round; true when an event was reported, as its receiver may have caused more."""
        for flow, data in self.agent.to_send():
            self._send(flow, data)
        self._events.extend(self.agent.events())
        reported = bool(self._events)
        while self._events:
            # Taken out first: an event whose receiver raises is not reported twice.
            self.on_event(self._events.popleft())
        return reported

    def _arm_timer(self) -> None:
        due = None if self._closed else self.agent.next_timer()
        if self._timer is not None:
            if due == self._timer.when() and not self._timer.cancelled():
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_at(due, self._timer_due, due)

    def _timer_due(self, due: float) -> None:
        self._timer = None
        # The loop may be early by its clock's resolution.
        self.agent.handle_timer(max(due, self._loop.time()))
        self.kick()

    def _fail(self, flow: Flow) -> None:
        """Tell the agent, but not from within `kick`: it may try the same flow again."""
        self._failed.append(flow)
        self.kick_soon()

    def _unsendable(self, flow: Flow) -> None:
        self.stats.unsendable += 1
        self._fail(flow)

    def _send(self, flow: Flow, data: bytes) -> None:
        host, port = flow.remote
        if not 0 < port < 65536 or not _is_ip_address(host):
            self._unsendable(flow)
        elif flow.transport == "udp" and self._udp is not None:
            self._udp.send(data, flow.remote)
        elif flow.transport == "tcp":
            connection = self._connections.find(flow)
            if connection is not None:
                connection.send(data)
            else:
                self._connect_and_send(flow, data)
        else:
            self._unsendable(flow)

    def _connect_and_send(self, flow: Flow, data: bytes) -> None:
        remote = flow.remote
        waiting = self._connecting.get(remote)
        if waiting is None:
            room = self.limits.connections + self.limits.connecting - len(self._connections)
            if self._closed or room <= 0 or len(self._connecting) >= self.limits.connecting:
                self._unsendable(flow)
                return
            waiting = self._connecting[remote] = deque()
            _ = self._tasks.spawn(self._connect(remote, waiting), name="connect")
        if sum(len(queued) for _, queued in waiting) + len(data) > self.limits.write_buffer:
            self._unsendable(flow)
            return
        waiting.append((flow, data))

    async def _connect(self, remote: Address, waiting: deque[tuple[Flow, bytes]]) -> None:
        try:
            async with asyncio.timeout(self.limits.connect_s):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self, incoming=False), *remote
                )
        except OSError:
            self.stats.connections_failed += 1
            for flow, _ in waiting:
                self._unsendable(flow)
            return
        finally:
            del self._connecting[remote]
        for _, data in waiting:
            connection.send(data)

    def admit(self, connection: "_Connection") -> bool:
        """Take a new connection into the books, or refuse it."""
        return not self._closed and self._connections.add(connection)

    def forget(self, connection: "_Connection") -> None:
        if self._connections.remove(connection):
            self._fail(connection.flow)


class _UdpSocket(asyncio.DatagramProtocol):
    def __init__(self, owner: SipTransport[E]) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, Address]] = deque()
        self._turn: asyncio.Handle | None = None
        self._congested = False
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.local = _address(transport.get_extra_info("sockname"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._turn is not None:
            self._turn.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False

    def error_received(self, exc: Exception) -> None:
        self._owner.stats.udp_errors += 1

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(self._waiting) >= self._owner.limits.waiting_datagrams:
            self._owner.stats.dropped_datagrams += 1
            return
        # Phones keep NAT bindings open with CRLF or a lone NUL; nobody expects an answer.
        if len(data) <= 4 and not data.strip(b"\r\n\0"):
            return
        self._waiting.append((data, _address(addr)))
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

    def send(self, data: bytes, remote: Address) -> None:
        if self._congested or self.transport.is_closing():
            self._owner.stats.unsendable += 1
            return
        try:
            self.transport.sendto(data, remote)
        except (OSError, ValueError):
            self._owner.stats.unsendable += 1
            return
        self._owner.stats.sent += 1


_connection_keys = itertools.count(1)


class _Connection(asyncio.Protocol):
    def __init__(self, owner: SipTransport[E], *, incoming: bool) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._framer = StreamFramer()
        self._waiting: deque[bytes] = deque()
        self._turn: asyncio.Handle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._last_message: float | None = None
        self.incoming = incoming
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.flow = Flow(
            "tcp",
            _address(transport.get_extra_info("sockname")),
            _address(transport.get_extra_info("peername") or ("", 0)),
            next(_connection_keys),
        )
        if not self._owner.admit(self):
            self._owner.stats.connections_refused += 1
            self._transport.abort()
            return
        self._owner.stats.connections_opened += 1
        limits = self._owner.limits
        if not self.incoming:
            self._last_message = self._loop.time()
        seconds = limits.first_message_s if self.incoming else limits.idle_s
        self._deadline = self._loop.call_later(seconds, self._deadline_due)

    def connection_lost(self, exc: Exception | None) -> None:
        for handle in (self._deadline, self._turn):
            if handle is not None:
                handle.cancel()
        self._owner.forget(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        for frame in self._framer.feed(data):
            if isinstance(frame, bytes):
                self._waiting.append(frame)
                self._last_message = self._loop.time()
            elif self._last_message is not None:
                # Pings alone do not make a peer of somebody who never sent a message.
                self._last_message = self._loop.time()
            if frame is KeepAlive.PING:
                self._write(KeepAlive.PONG.value)
        if self._framer.broken:
            self._owner.stats.broken_streams += 1
        if (self._waiting or self._framer.broken) and self._turn is None:
            self._take_turn()

    def _take_turn(self) -> None:
        self._turn = None
        try:
            for _ in range(min(len(self._waiting), self._owner.limits.messages_per_turn)):
                self._owner.deliver(self._waiting.popleft(), self.flow)
        finally:
            self._after_turn()

    def _after_turn(self) -> None:
        if self._transport.is_closing():
            return
        if self._waiting:
            self._transport.pause_reading()
            self._turn = self._loop.call_soon(self._take_turn)
        elif self._framer.broken:
            # The refusal must be written before the end of the stream.
            self._owner.kick()
            self._transport.close()
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    def _deadline_due(self) -> None:
        now = self._loop.time()
        due = now
        if self._last_message is not None:
            due = self._last_message + self._owner.limits.idle_s
            if due <= now and self._owner.flow_in_use(self.flow):
                due = now + self._owner.limits.idle_s
        if due > now:
            self._deadline = self._loop.call_at(due, self._deadline_due)
        else:
            self._owner.stats.timed_out += 1
            self.abort()

    def send(self, data: bytes) -> None:
        self._owner.stats.sent += 1
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        unread = self._transport.get_write_buffer_size()
        if unread and unread + len(data) > self._owner.limits.write_buffer:
            self._owner.stats.slow_readers += 1
            self.abort()
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        """Flush, then close."""
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


def _address(raw: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    return raw[0], raw[1]


@functools.lru_cache(maxsize=4096)
def _is_ip_address(host: str) -> bool:
    """A name would make the socket resolve it, and block the loop."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

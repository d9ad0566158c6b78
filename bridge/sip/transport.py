"""The asyncio shell around a user agent: its sockets and one timer, no SIP knowledge.

Everything a stranger can make us keep is capped here: datagrams waiting, connections (all and
per address), the time to a first message, silence, and octets a peer does not read. Received
messages are handled a few at a time per turn of the loop, so that a flood on the signalling port
delays signalling and not the media clock, which runs on the same loop.
"""

import asyncio
import functools
import ipaddress
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypedDict, TypeVar, Unpack, cast

from bridge.errors import ConfigError, SipError
from bridge.sip.connections import Connections
from bridge.sip.connector import Connector
from bridge.sip.events import Flow
from bridge.sip.framing import Framing, StreamFraming
from bridge.sip.limits import Address, Limits, TransportStats
from bridge.sip.resolver import Target
from bridge.sip.stream import StreamConnection
from bridge.sip.tls import TlsContexts, TlsFiles, TlsLayer
from bridge.sip.udp import UdpSocket, address_of, open_udp
from bridge.sip.websocket import WebSocketFraming
from bridge.tasks import TaskOwner

Listen = Address | Sequence[Address] | None
E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)

SECURE = frozenset({"tls", "wss"})
WEB = frozenset({"ws", "wss"})


class Listeners(TypedDict, total=False):
    """One address or several for each transport; None leaves it off, port 0 takes any free one."""

    udp: Listen
    tcp: Listen
    tls: Listen
    ws: Listen
    wss: Listen


class Agent(Protocol[E_co]):
    """What the shell needs of a user agent; all calls come from the loop's thread."""

    def receive(self, data: bytes, flow: Flow, now: float) -> None: ...
    def to_send(self) -> Iterable[tuple[Flow, bytes]]: ...
    def events(self) -> Iterable[E_co]: ...
    def next_timer(self) -> float | None: ...
    def handle_timer(self, now: float) -> None: ...
    def flow_failed(self, flow: Flow, now: float) -> None: ...


def _never_busy(flow: Flow) -> bool:
    return False


class SipTransport(Generic[E]):
    """Listens, feeds `agent`, writes what it wants sent and hands its events to `on_event`.

    `flow_in_use` tells whether a call depends on a connection: such a one is not closed for
    being idle. With `tls_files` TLS connections can be opened, and `tls` and `wss` listened on;
    `ws_origins` are the web pages that may connect, None for all.
    """

    def __init__(
        self,
        agent: Agent[E],
        *,
        on_event: Callable[[E], None],
        flow_in_use: Callable[[Flow], bool] = _never_busy,
        limits: Limits | None = None,
        tls_files: TlsFiles | None = None,
        ws_origins: Sequence[str] | None = None,
        **listen: Unpack[Listeners],
    ) -> None:
        self.agent = agent
        self.on_event = on_event
        self.flow_in_use = flow_in_use
        self.limits = limits or Limits()
        self.stats = TransportStats()
        self.endpoints: dict[str, Address] = {}
        """The first address of each transport as it is really bound; filled by `start`."""
        self.listening: list[tuple[str, Address]] = []
        """All of them."""
        self._wanted = listen
        self._tls_files = tls_files
        self._tls: TlsContexts | None = None
        self._ws_origins = ws_origins
        self._udp: list[UdpSocket] = []
        self._servers: list[asyncio.Server] = []
        self._connections = Connections[StreamConnection](
            most=self.limits.connections, most_per_host=self.limits.connections_per_address
        )
        self._tasks = TaskOwner("sip-transport")
        self._connector = Connector(self, self._tasks)
        self._events: deque[E] = deque()
        self._failed: deque[Flow] = deque()
        self._timer: asyncio.Handle | None = None
        self._armed_for: float | None = None
        self._pump_handle: asyncio.Handle | None = None
        self._pumping = False
        self._closed = False

    async def start(self) -> None:
        """Bind; raises OSError, or ConfigError for bad TLS files. Then nothing stays open."""
        self._loop = asyncio.get_running_loop()
        try:
            if self._tls_files is not None:
                self._tls = TlsContexts(self._tls_files)
            for transport, addresses in self._wanted.items():
                for address in _several(cast(Listen, addresses)):
                    await self._listen(transport, address)
        except (OSError, ConfigError):
            await self.close()
            raise
        self._arm_timer()

    async def _listen(self, transport: str, address: Address) -> None:
        if transport == "udp":
            opened = await open_udp(self, address)
            self._udp.append(opened)
            bound = [opened.local]
        else:
            if transport in SECURE and (self._tls is None or self._tls.server is None):
                raise ConfigError(
                    f"SIP over {transport.upper()} needs a certificate",
                    param="sip.tls_certificate",
                )
            server = await self._loop.create_server(
                functools.partial(self._incoming, transport), *address
            )
            self._servers.append(server)
            bound = [address_of(sock.getsockname()) for sock in server.sockets]
        self.endpoints.setdefault(transport, bound[0])
        self.listening += [(transport, local) for local in bound]

    def _incoming(self, transport: str) -> StreamConnection:
        tls = None
        if transport in SECURE:
            assert self._tls is not None
            assert self._tls.server is not None
            tls = TlsLayer(self._tls.server)
        framing: Framing = StreamFraming()
        if transport in WEB:
            framing = WebSocketFraming(self._ws_origins)
        return StreamConnection(self, transport, framing, tls=tls)

    def reload_tls(self) -> None:
        """Read certificates and keys again, for connections to come; those open stay.

        Raises ConfigError when a file is bad: then what was loaded before stays in use.
        """
        if self._tls is not None:
            self._tls.reload()

    def flow(self, transport: str, remote: Address, *, server_name: str = "") -> Flow | None:
        """The way to a numeric address, or None when it cannot be reached from here.

        TLS connections are opened to those only whose certificate bears `server_name`, or the
        address when there is none.
        """
        if not _is_ip_address(remote[0]) or transport in WEB:
            return None
        if transport == "tls" and self._tls is None:
            return None
        same = [local for name, local in self.listening if name == transport]
        local = next((local for local in same if _family(local[0]) == _family(remote[0])), None)
        if local is None and transport == "udp":
            return None
        if local is None:
            local = ("::" if _family(remote[0]) == 6 else "0.0.0.0", 0)
        return Flow(transport, local, remote, server_name=server_name)

    def flows(self, targets: Iterable[Target]) -> tuple[Flow, ...]:
        """The ways to what a resolver found, in its order, without those closed to us."""
        found = (self.flow(t.transport, t.address, server_name=t.server_name) for t in targets)
        return tuple(flow for flow in found if flow is not None)

    @property
    def transports(self) -> frozenset[str]:
        """Those that we can call by and be called back on; TLS needs no listener of its own."""
        listening = self.endpoints.keys() - WEB
        return frozenset(listening if self._tls is None else listening | {"tls"})

    @property
    def families(self) -> tuple[int, ...]:
        """4 and 6, as far as there are listeners, in the order of those."""
        return tuple(dict.fromkeys(_family(local[0]) for _, local in self.listening))

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
        for server in self._servers:
            server.close()
        await self._tasks.close()
        connections = self._connections.all()
        for connection in connections:
            connection.close()
        ends = [connection.closed for connection in connections]
        for opened in self._udp:
            opened.transport.close()
            ends.append(opened.closed)
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
        if due == self._armed_for:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_for = due
        if due is not None:
            # What is due within a millisecond is no TimerHandle on uvloop: it cannot be asked when.
            self._timer = self._loop.call_at(due, self._timer_due, due)

    def _timer_due(self, due: float) -> None:
        self._timer = self._armed_for = None
        # The loop may be early by its clock's resolution.
        self.agent.handle_timer(max(due, self._loop.time()))
        self.kick()

    def fail(self, flow: Flow) -> None:
        """Tell the agent, but not from within `kick`: it may try the same flow again."""
        self._failed.append(flow)
        self.kick_soon()

    def unsendable(self, flow: Flow) -> None:
        self.stats.unsendable += 1
        self.fail(flow)

    def unreachable(self, flow: Flow) -> None:
        """The network says that what was sent by it did not arrive."""
        self.fail(flow)

    def _send(self, flow: Flow, data: bytes) -> None:
        host, port = flow.remote
        if not 0 < port < 65536 or not _is_ip_address(host):
            self.unsendable(flow)
        elif flow.transport == "udp":
            if len(data) <= self.limits.large_request or not self._connector.send_large(flow, data):
                self.send_datagram(flow, data)
        elif connection := self._connections.find(flow):
            connection.send(data, flow)
        elif flow.transport == "tcp" or (flow.transport == "tls" and self._tls is not None):
            self._connector.connect_and_send(flow, data)
        else:
            # Browsers cannot be called: they come back by themselves.
            self.unsendable(flow)

    def send_datagram(self, flow: Flow, data: bytes) -> None:
        family = _family(flow.remote[0])
        fitting = [opened for opened in self._udp if _family(opened.local[0]) == family]
        exact = [opened for opened in fitting if opened.local == flow.local]
        if not fitting:
            self.unsendable(flow)
        else:
            (exact or fitting)[0].send(data, flow)

    # For connections

    def find(self, flow: Flow) -> StreamConnection | None:
        return self._connections.find(flow)

    def has_room(self) -> bool:
        """For a connection of ours: callers cannot take what calls going out need."""
        return not self._closed and len(self._connections) < (
            self.limits.connections + self.limits.connecting
        )

    def outgoing(self, flow: Flow) -> StreamConnection:
        """Raises TlsError for a name that no certificate can bear."""
        tls = None
        if flow.transport == "tls":
            assert self._tls is not None
            tls = TlsLayer(self._tls.client, server_name=flow.server_name or flow.remote[0])
        return StreamConnection(self, flow.transport, StreamFraming(), tls=tls, towards=flow)

    def admit(self, connection: StreamConnection) -> bool:
        """Take a new connection into the books, or refuse it."""
        return not self._closed and self._connections.add(connection)

    def alias(self, connection: StreamConnection, port: int) -> None:
        self._connections.alias(connection, port)

    def forget(self, connection: StreamConnection) -> None:
        # Nothing was sent or received before it was ready: who waits for that is told elsewhere.
        if self._connections.remove(connection) and connection.is_ready:
            for flow in connection.flows:
                self.fail(flow)


def _several(listen: Listen) -> Sequence[Address]:
    if not listen:
        return ()
    return (
        [cast(Address, listen)] if isinstance(listen[0], str) else cast(Sequence[Address], listen)
    )


@functools.lru_cache(maxsize=4096)
def _is_ip_address(host: str) -> bool:
    """A name would make the socket resolve it, and block the loop."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _family(host: str) -> int:
    return 6 if ":" in host else 4

"""The books of open stream connections: found by flow or by peer, counted per host."""

from collections import Counter
from collections.abc import Collection
from typing import Generic, Protocol, TypeVar

from bridge.errors import SipError
from bridge.sip.events import Flow
from bridge.sip.limits import Address
from bridge.sip.message import Request, parse_message
from bridge.sip.uri import DEFAULT_PORT


class Connection(Protocol):
    @property
    def flow(self) -> Flow: ...
    @property
    def incoming(self) -> bool: ...
    @property
    def peer_names(self) -> Collection[str]:
        """What a verified certificate says the peer is, lower case."""

    def is_closing(self) -> bool: ...


C = TypeVar("C", bound=Connection)
Peer = tuple[str, Address]


class Connections(Generic[C]):
    """Refuses incoming connections past `most`, or past `most_per_host` from one address."""

    def __init__(self, *, most: int, most_per_host: int) -> None:
        self.most = most
        self.most_per_host = most_per_host
        self._by_flow: dict[Flow, C] = {}
        self._by_peer: dict[Peer, list[C]] = {}
        self._aliases: dict[Flow, Peer] = {}
        self._per_host: Counter[str] = Counter()

    def add(self, connection: C) -> bool:
        """False when it is refused; those we open ourselves never are."""
        flow = connection.flow
        host = flow.remote[0]
        if connection.incoming and (
            len(self._by_flow) >= self.most or self._per_host[host] >= self.most_per_host
        ):
            return False
        self._by_flow[flow] = connection
        self._by_peer.setdefault((flow.transport, flow.remote), []).append(connection)
        if connection.incoming:
            self._per_host[host] += 1
        return True

    def alias(self, connection: C, port: int) -> None:
        """Use it for requests to that port of the peer as well (RFC 5923 section 5).

        One alias for a connection; it serves only names that the peer has proven to bear.
        """
        flow = connection.flow
        if flow in self._by_flow and flow not in self._aliases:
            peer = flow.transport, (flow.remote[0], port)
            self._aliases[flow] = peer
            self._by_peer.setdefault(peer, []).append(connection)

    def remove(self, connection: C) -> bool:
        """False when it had not been added."""
        flow = connection.flow
        if self._by_flow.pop(flow, None) is None:
            return False
        self._leave((flow.transport, flow.remote), connection)
        if peer := self._aliases.pop(flow, None):
            self._leave(peer, connection)
        if connection.incoming:
            self._per_host[flow.remote[0]] -= 1
            if not self._per_host[flow.remote[0]]:
                del self._per_host[flow.remote[0]]
        return True

    def find(self, flow: Flow) -> C | None:
        """That very connection, or the newest to the same peer that is who the flow says."""
        exact = self._by_flow.get(flow)
        if exact is not None and not exact.is_closing():
            return exact
        name = flow.server_name.lower()
        for found in reversed(self._by_peer.get((flow.transport, flow.remote), ())):
            if not found.is_closing() and (not name or name in found.peer_names):
                return found
        return None

    def all(self) -> list[C]:
        return list(self._by_flow.values())

    def __len__(self) -> int:
        return len(self._by_flow)

    def _leave(self, peer: Peer, connection: C) -> None:
        others = [other for other in self._by_peer[peer] if other is not connection]
        if others:
            self._by_peer[peer] = others
        else:
            del self._by_peer[peer]


def alias_port(data: bytes, transport: str) -> int | None:
    """Where the sender of a request listens, when its top Via offers the connection for reuse."""
    try:
        message = parse_message(data)
        if isinstance(message, Request) and "alias" in message.top_via.params:
            return message.top_via.port or DEFAULT_PORT[transport]
    except SipError:
        pass
    return None

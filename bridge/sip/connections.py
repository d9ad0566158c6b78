"""The books of open stream connections: found by flow or by peer, counted per host."""

from collections import Counter
from typing import Generic, Protocol, TypeVar

from bridge.sip.events import Flow


class Connection(Protocol):
    @property
    def flow(self) -> Flow: ...
    @property
    def incoming(self) -> bool: ...
    def is_closing(self) -> bool: ...


C = TypeVar("C", bound=Connection)


class Connections(Generic[C]):
    """Refuses incoming connections past `most`, or past `most_per_host` from one address."""

    def __init__(self, *, most: int, most_per_host: int) -> None:
        self.most = most
        self.most_per_host = most_per_host
        self._by_flow: dict[Flow, C] = {}
        self._by_remote: dict[tuple[str, int], C] = {}
        self._per_host: Counter[str] = Counter()

    def add(self, connection: C) -> bool:
        """False when it is refused; those we open ourselves never are."""
        host = connection.flow.remote[0]
        if connection.incoming and (
            len(self._by_flow) >= self.most or self._per_host[host] >= self.most_per_host
        ):
            return False
        self._by_flow[connection.flow] = connection
        self._by_remote[connection.flow.remote] = connection
        if connection.incoming:
            self._per_host[host] += 1
        return True

    def remove(self, connection: C) -> bool:
        """False when it had not been added."""
        if self._by_flow.pop(connection.flow, None) is None:
            return False
        remote = connection.flow.remote
        if self._by_remote.get(remote) is connection:
            del self._by_remote[remote]
        if connection.incoming:
            self._per_host[remote[0]] -= 1
            if not self._per_host[remote[0]]:
                del self._per_host[remote[0]]
        return True

    def find(self, flow: Flow) -> C | None:
        """That very connection, or another one to the same peer."""
        for found in (self._by_flow.get(flow), self._by_remote.get(flow.remote)):
            if found is not None and not found.is_closing():
                return found
        return None

    def all(self) -> list[C]:
        return list(self._by_flow.values())

    def __len__(self) -> int:
        return len(self._by_flow)

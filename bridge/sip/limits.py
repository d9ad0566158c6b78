"""What a stranger can make the transport keep, and how long; and what it counts."""

from dataclasses import dataclass

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and counts; one Asterisk could be blocked by 60 silent sockets (AST-2016-005)."""

    connections: int = 1000
    connections_per_address: int = 64
    first_message_s: float = 5.0
    """From accept, TLS and WebSocket handshakes included."""
    idle_s: float = 120.0
    ping_s: float = 25.0
    """Silence on a connection that is ours to keep open, before a ping."""
    pong_s: float = 10.0
    """For a peer that has answered a ping before (RFC 5626 section 4.4.1)."""
    unacknowledged_s: float = 10.0
    """Before TCP gives up a peer that acknowledges nothing."""
    write_buffer: int = 65536
    """Octets a peer may leave unread before its connection is cut."""
    connecting: int = 64
    """Connections being opened at one time."""
    connect_s: float = 5.0
    """For TCP and TLS together."""
    large_request: int = 1300
    """Octets of a request that goes by TCP instead of UDP (RFC 3261 section 18.1.1)."""
    large_connect_s: float = 1.0
    """Before such a request goes by UDP after all."""
    without_tcp_s: float = 300.0
    """How long a peer is remembered as one that takes no TCP."""
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
    unreachable: int = 0
    """Datagrams of ours that the network reported as undeliverable."""
    connections_opened: int = 0
    connections_refused: int = 0
    connections_failed: int = 0
    """Outgoing ones that could not be opened."""
    tls_failures: int = 0
    """Handshakes that failed, either way, and streams that were not TLS any more."""
    large_requests: int = 0
    """Sent by TCP though their flow was UDP."""
    slow_readers: int = 0
    timed_out: int = 0
    broken_streams: int = 0

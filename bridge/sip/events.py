"""What a UserAgent tells its owner, and the flow a message came by."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flow:
    """One way to a peer: a UDP address pair or one connection; answers go back by it."""

    transport: str
    """"udp", "tcp", "tls", "ws" or "wss"."""
    local: tuple[str, int]
    remote: tuple[str, int]
    key: int = 0
    """Tells two connections between the same addresses apart; 0 for UDP."""

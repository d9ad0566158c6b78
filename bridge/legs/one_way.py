"""Why a call is silent in one direction, in words for whoever has to mend it."""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

Endpoint = tuple[str, int]

ONE_WAY = "media.one_way"
AFTER_S = 5.0
"""Since the answer: longer than any phone takes to begin."""

_PRIVATE = tuple(
    map(
        ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    )
)

DEAF = 0.98
"""Of our packets lost, as the far end reports it: none of them arrives."""


@dataclass(frozen=True, slots=True)
class Unheard:
    """What is known of a call on which not one packet was heard. Counts are of packets."""

    waited_s: float
    sent: int
    expected: Endpoint | None
    """Where the far end's SDP says it is."""
    advertised: str
    """Where our SDP says we are."""
    signalling: str
    """Where the far end signals from."""
    strange: int = 0
    stranger: Endpoint | None = None
    undecipherable: int = 0
    unreadable: int = 0
    refused: int = 0
    """Answered by ICMP: nobody listens there."""

    def explain(self) -> str:
        where = _written(self.expected)
        told = (
            f"No packet was heard in {self.waited_s:.0f} s, though {self.sent} were sent to "
            f"{where}, where the SDP of the far end wants them."
        )
        return f"{told} {self._cause()}"

    def _cause(self) -> str:
        if self.undecipherable:
            return (
                f"{self.undecipherable} came from there that the keys of its SDP do not open: it "
                "encrypts under others, or not at all."
            )
        if self.unreadable:
            return (
                f"{self.unreadable} came that are no RTP of a codec that was agreed on: look at "
                "what it sends."
            )
        if self.strange:
            return (
                f"{self.strange} came from {_written(self.stranger)} and were not believed: too "
                "few, not in sequence, or without the keys of the call."
            )
        if self.expected is not None and self._is_behind_nat(self.expected[0]):
            return (
                f"Its SDP names {self.expected[0]}, which is private, but it signals from "
                f"{self.signalling}: it is behind NAT, where ours do not reach it, and must send "
                "first. Have it use STUN, symmetric RTP or a session border controller."
            )
        if self._is_unreachable(self.advertised):
            return (
                f"Our SDP says {self.advertised}, which {self.signalling} cannot reach: set "
                "rtp.advertised_address to the address it sees us at."
            )
        if self.refused:
            return f"Nobody listens there: {self.refused} were answered by port unreachable."
        return (
            f"It sends to {self.advertised}, by our SDP, or does not send: see whether a firewall "
            "lets UDP to rtp.port_min to port_max in, and whether it is muted."
        )

    def _is_behind_nat(self, host: str) -> bool:
        return host != self.signalling and _is_private(host) and not _is_private(self.signalling)

    def _is_unreachable(self, ours: str) -> bool:
        if _is_loopback(ours):
            return not _is_loopback(self.signalling)
        return _is_private(ours) and not _is_private(self.signalling)


def not_heard(destination: Endpoint | None) -> str:
    """The far end reports that nothing of ours arrives."""
    return (
        f"The far end reports by RTCP that none of our packets arrive; they go to "
        f"{_written(destination)}. A firewall or NAT on its side drops them."
    )


NO_MICROPHONE = (
    "The browser is connected and has sent no audio: its microphone was refused, is in use by "
    "something else, or its track was never added."
)


def _written(endpoint: Endpoint | None) -> str:
    if endpoint is None:
        return "nowhere"
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_private(host: str) -> bool:
    """Reaches nobody beyond its own network. (What Python calls private is more than that.)"""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in _PRIVATE if network.version == address.version)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

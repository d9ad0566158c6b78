"""Where the media of a phone call is on our side: ports of the IP version that its far end can be
reached by, and the address to name in SDP."""

from bridge.errors import SdpError
from bridge.rtp.transport import PortPool, RtpSocket, source_towards
from bridge.sdp.description import SessionDescription
from bridge.sdp.reach import ip_version, offered_hosts
from bridge.sip.private import is_private_host

_OTHERS = {4: b"IP6", 6: b"IP4", None: b"IP"}


class Grounds:
    def __init__(self, ports: PortPool, address: str) -> None:
        self._ports = ports
        self._address = address
        self._version = ip_version(address) or ip_version(ports.host)
        self._other: PortPool | None = None
        self._other_address = ""

    def use_other(self, ports: PortPool | None, address: str) -> None:
        """Of the other IP version, if there are such. No address: SDP names the one from which
        the far end is reached."""
        self._other = ports
        self._other_address = address

    def open(self, offer: bytes, signalling: str, seen_at: str = "") -> tuple[RtpSocket, str]:
        """Ports, and their address, for this offer, or for an offer of ours to the host that
        signals, and sees us at another address than we do if there is a NAT. Raises
        OverloadedError when no port is free."""
        # Most offers name one version: no need to read them for that.
        if self._other is not None and (not offer or _OTHERS[self._version] in offer):
            theirs = self._only_elsewhere(offer, signalling)
            address = self._address_towards(theirs) if theirs else ""
            if address:
                return self._other.open(), address
        translated = ip_version(seen_at) == self._version and self._version is not None
        return self._ports.open(), seen_at if translated else self._address

    def _address_towards(self, theirs: str) -> str:
        """Empty if packets would find no way back."""
        if self._other_address:
            return self._other_address
        ours = source_towards(theirs)
        return "" if is_private_host(ours) and not is_private_host(theirs) else ours

    def _only_elsewhere(self, offer: bytes, signalling: str) -> str:
        """Where the far end is by the other IP version, if it is not there by ours."""
        hosts = _hosts(offer, signalling)
        if self._version in hosts:
            return ""
        return next(iter(hosts.values()), "")


def _hosts(offer: bytes, signalling: str) -> dict[int, str]:
    try:
        offered = offered_hosts(SessionDescription.parse(offer)) if offer else {}
    except SdpError:
        return {}
    version = ip_version(signalling)
    return offered or ({} if version is None else {version: signalling})

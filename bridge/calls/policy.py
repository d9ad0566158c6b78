"""Who may call: source addresses against the trusted networks."""

import ipaddress
from collections.abc import Iterable


class SourcePolicy:
    """Sources outside `trusted` are met with silence unless `admits_unknown`."""

    def __init__(self, trusted: Iterable[str], *, admits_unknown: bool) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in trusted)
        self._admits_unknown = admits_unknown

    def admits(self, address: str) -> bool:
        if self._admits_unknown:
            return True
        try:
            source = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(source, "ipv4_mapped", None)
        return any((mapped or source) in network for network in self._networks)

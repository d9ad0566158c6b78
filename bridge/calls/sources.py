"""Where requests come from: networks that may call, and strangers, who are told to nobody twice."""

import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Iterable

from bridge.calls.trunks import is_inside

log = logging.getLogger(__name__)

TOLD_AGAIN_S = 60.0
WINDOW_S = 10.0
LINES_A_WINDOW = 10  # scanners knock all day, and a misconfigured trunk must be seen among them
REMEMBERED = 1000


class SourcePolicy:
    """Sources outside `trusted` are met with silence unless `admits_unknown`."""

    def __init__(self, trusted: Iterable[str], *, admits_unknown: bool) -> None:
        self.trusted = tuple(ipaddress.ip_network(network) for network in trusted)
        self.admits_unknown = admits_unknown

    def admits(self, address: str) -> bool:
        return self.admits_unknown or self.trusts(address)

    def trusts(self, address: str) -> bool:
        return any(is_inside(address, network) for network in self.trusted)


class Strangers:
    """One log line for an address in a minute, and not more than a few for all of them."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, float] = OrderedDict()
        self._window_since = float("-inf")
        self._lines = 0
        self._dropped = 0

    def dropped(self, address: str, now: float) -> int:
        """How many requests to report, this one included; 0: say nothing of it now."""
        self._dropped += 1
        if now - self._window_since >= WINDOW_S:
            self._window_since, self._lines = now, 0
        if self._lines >= LINES_A_WINDOW:
            return 0
        if now - self._told.get(address, float("-inf")) < TOLD_AGAIN_S:
            return 0
        self._told[address] = now
        self._told.move_to_end(address)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self._lines += 1
        reported, self._dropped = self._dropped, 0
        return reported

"""How much work Opus may be in this process: less of it as long as the media clock is late.

A call that sounds a little plainer is better than one that stutters. G.711 has nothing to give.
"""

import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)

LATE_MS = 5.0
"""A slot: whoever is late by more does its work in the time of the next."""
IN_TIME_MS = 2.0
LOOKED_AT = 200
"""Slots, a second of them, of which one in twenty may be late."""
RESTORED_AFTER_S = 15.0
"""In time; it is the sparing that may have made it so."""


class Effort:
    """`judge` it about once a second."""

    def __init__(self) -> None:
        self.sparing = False
        self._in_time_since: float | None = None

    def judge(self, late_ms: Sequence[float], now: float) -> None:
        """`late_ms` of the latest slots, in any order."""
        late = sorted(late_ms)[len(late_ms) * 19 // 20] if late_ms else 0.0
        if late > LATE_MS:
            if not self.sparing:
                self.sparing = True
                log.warning("the media clock is late: Opus spares itself", extra={"ms": late})
            self._in_time_since = None
        elif late > IN_TIME_MS:
            self._in_time_since = None
        elif self._in_time_since is None:
            self._in_time_since = now
        elif self.sparing and now - self._in_time_since >= RESTORED_AFTER_S:
            self.sparing = False
            log.info("the media clock is in time: Opus at its best again")

    def forget(self) -> None:
        """The clock has stopped."""
        self.sparing, self._in_time_since = False, None


EFFORT = Effort()
"""There is one media clock in a process, for all of its calls."""

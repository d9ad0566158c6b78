"""How busy this process is. What may wait a little does, while there is little time left, and new
calls are sent elsewhere before they spoil those that are up.
"""

import logging

log = logging.getLogger(__name__)

HIGH = 0.5
"""Of a core. Calls begin at any time, the work of a second is not spread evenly, and the busier the
core is, the longer each call waits for the others."""
LOW = 0.3
"""What is left out meanwhile was a third of it."""
EASED = 0.9
"""Of the most that media may take: there is room again."""


class Load:
    """`judge` and `judge_media` it about once a second."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing goes on any more."""
        self.high = self.full = False
        self.media = 0.0

    def judge(self, share: float) -> None:
        """`share` of the last second for which this process had a core."""
        self.high = share > (LOW if self.high else HIGH)

    def judge_media(self, share: float, most: float) -> None:
        """`share` of the last second that the media of all calls took.

        Not all work counts: who floods us with messages is not to keep others from calling. One
        long second may be the machine standing still; `most` of 1 is no limit.
        """
        before, self.media = self.media, share
        if self.full:
            self.full = share > EASED * most
            if not self.full:
                log.info("there is time for new calls again", extra={"share": round(share, 2)})
        elif most < 1 and min(before, share) > most:
            self.full = True
            log.warning(
                "media takes more of a core than it may: new calls are refused",
                extra={"share": round(share, 2), "change": "limits.max_load"},
            )


LOAD = Load()
"""There is one loop in a process."""

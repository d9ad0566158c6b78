"""One press is one digit, however many ways it is told: by event, by INFO, by its tones.

Senders exist that use two ways at once. A report by another way than a press was first told by is
taken for that press, if it comes soon enough; a second report by the same way is another press.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

Source = Literal["event", "info", "tone"]

SAME_PRESS_S = 1.5
"""Between two ways of telling, beyond the length of the press: signalling may have to be repeated
by its transport, and tones wait in the jitter buffer."""

MAX_PER_SECOND = 20
"""A thumb makes 10; what is faster is a generator."""

REMEMBERED = 2 * MAX_PER_SECOND


@dataclass(slots=True)
class _Press:
    digit: str
    at: float
    sources: set[Source]


class KeyFilter:
    """Of one call. `dropped` counts presses beyond MAX_PER_SECOND."""

    def __init__(self) -> None:
        self.dropped = 0
        self._presses: deque[_Press] = deque(maxlen=REMEMBERED)
        self._accepted: deque[float] = deque(maxlen=MAX_PER_SECOND)

    def accepts(self, source: Source, digit: str, now: float, *, lasted_s: float = 0.0) -> bool:
        """Whether this report is news. `lasted_s`: INFO comes when the key is let go."""
        for press in self._presses:
            if (
                press.digit == digit
                and source not in press.sources
                and now - press.at <= SAME_PRESS_S + lasted_s
            ):
                press.sources.add(source)
                return False
        if len(self._accepted) == MAX_PER_SECOND and now - self._accepted[0] < 1.0:
            self.dropped += 1
            return False
        self._accepted.append(now)
        self._presses.append(_Press(digit, now, {source}))
        return True

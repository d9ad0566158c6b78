"""Digits that belong together: a PIN, a number with its extension. Until a finish key, a length or
a pause."""

from dataclasses import dataclass, field
from typing import Literal

Ending = Literal["finish", "length", "pause"]


@dataclass(frozen=True, slots=True)
class Collected:
    """`digits` is without the finish key, and never in a repr. With "finish" it may be empty."""

    digits: str = field(repr=False)
    ended_by: Ending


class DigitCollector:
    """Give it each digit, and the time when `due` has come.

    `finish` holds the keys that end the input ("" for none), `length` the number of digits that
    does; `pause_s` without a digit ends it too. Then it starts anew.
    """

    def __init__(
        self, *, finish: str = "#", length: int | None = None, pause_s: float = 3.0
    ) -> None:
        if length is not None and length < 1:
            raise ValueError("length must be at least 1")
        if pause_s <= 0:
            raise ValueError("pause_s must be positive")
        self.finish = finish
        self.length = length
        self.pause_s = pause_s
        self._digits = ""
        self._last_at = 0.0

    @property
    def count(self) -> int:
        """Digits waiting."""
        return len(self._digits)

    @property
    def due(self) -> float | None:
        """When the pause is over; None while nothing waits."""
        return self._last_at + self.pause_s if self._digits else None

    def press(self, digit: str, now: float) -> tuple[Collected, ...]:
        """What this digit completes. Two things if the pause was over and nobody had asked."""
        before = self.expire(now)
        after: Collected | None = None
        if digit in self.finish:
            after = self._end("finish")
        else:
            self._digits += digit
            self._last_at = now
            if len(self._digits) == self.length:
                after = self._end("length")
        return tuple(each for each in (before, after) if each is not None)

    def expire(self, now: float) -> Collected | None:
        """What the pause has completed by now."""
        due = self.due
        return self._end("pause") if due is not None and now >= due else None

    def flush(self) -> str:
        """What waits, at the end of a call."""
        digits, self._digits = self._digits, ""
        return digits

    def _end(self, ended_by: Ending) -> Collected:
        return Collected(self.flush(), ended_by)

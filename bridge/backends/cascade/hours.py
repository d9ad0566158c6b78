"""Opening hours as people write them, and whether a moment lies in them."""

import functools
import re
from datetime import datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from bridge.errors import ConfigError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPAN = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
MIDNIGHT = 24 * 60


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`days`: "mon-fri" or "sat" to "9:00-12:30, 14:00-17:00"; days not named are closed."""

    days: dict[str, str]
    closed: str
    """The state in which calls begin outside of them."""
    timezone: str = "UTC"


class Timetable:
    """Minutes of each weekday, in one time zone."""

    def __init__(self, hours: Hours) -> None:
        """Raises ConfigError."""
        try:
            self._zone = ZoneInfo(hours.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise _wrong(f"timezone {hours.timezone}: {error}") from None
        self._spans: list[list[tuple[int, int]]] = [[] for _ in DAYS]
        for days, spans in hours.days.items():
            for day in _days(days):
                self._spans[day] += _minutes(spans)

    @staticmethod
    def of(hours: Hours) -> "Timetable":
        """Raises ConfigError."""
        return _timetable(hours.timezone, tuple(hours.days.items()))

    def is_open(self, now: datetime) -> bool:
        local = now.astimezone(self._zone)
        minute = local.hour * 60 + local.minute
        return any(begin <= minute < end for begin, end in self._spans[local.weekday()])


@functools.lru_cache(maxsize=8)
def _timetable(timezone: str, days: tuple[tuple[str, str], ...]) -> Timetable:
    return Timetable(Hours(days=dict(days), closed="", timezone=timezone))


def _days(text: str) -> range:
    first, _, last = text.lower().partition("-")
    if first not in DAYS or (last or first) not in DAYS:
        raise _wrong(f"{text} is no day and no mon-fri")
    days = range(DAYS.index(first), DAYS.index(last or first) + 1)
    if not days:
        raise _wrong(f"{text} ends before it begins")
    return days


def _minutes(text: str) -> list[tuple[int, int]]:
    spans = []
    for part in filter(None, map(str.strip, text.split(","))):
        found = SPAN.fullmatch(part)
        if found is None:
            raise _wrong(f"{part} is not as 9:00-17:00")
        begin, end = _minute(found[1], found[2]), _minute(found[3], found[4])
        if begin >= end:
            raise _wrong(f"{part} ends before it begins")
        spans.append((begin, end))
    return spans


def _minute(hour: str, minute: str) -> int:
    total = int(hour) * 60 + int(minute)
    if total != MIDNIGHT and (int(hour) > time.max.hour or int(minute) > time.max.minute):
        raise _wrong(f"{hour}:{minute} is no time of day")
    return total


def _wrong(problem: str) -> ConfigError:
    return ConfigError(f"hours: {problem}", param="cascade.llm.script")

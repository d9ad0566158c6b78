"""Opening hours as people write them, and whether a moment lies in them."""

import functools
import re
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from bridge.errors import ConfigError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPAN = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
HOLIDAY = re.compile(r"(?:(\d{4})-)?(\d{2})-(\d{2})")
LEAP_YEAR = 2000
MIDNIGHT = 24 * 60
CLOSED = "closed"

Spans = list[tuple[int, int]]


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`days`: "mon-fri" or "sat" to "9:00-12:30, 14:00-17:00"; days not named are closed."""

    days: dict[str, str]
    closed: str
    """The state in which calls begin outside of them."""
    timezone: str = "UTC"
    holidays: dict[str, str] = {}
    """"12-25" of every year, "2027-03-26" or "12-24/12-26" to hours in place of the weekday's."""


class WrongHours(ConfigError):
    """`place`: the keys that lead to what is wrong."""

    def __init__(self, problem: str, *place: str) -> None:
        super().__init__(f"hours: {problem}", param="cascade.llm.script")
        self.place = place


class Timetable:
    """Minutes of each weekday and holiday, in one time zone."""

    def __init__(self, hours: Hours) -> None:
        """Raises WrongHours."""
        try:
            self._zone = ZoneInfo(hours.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise WrongHours(f"timezone {hours.timezone}: {error}", "timezone") from None
        self._spans: list[Spans] = [[] for _ in DAYS]
        for days, spans in hours.days.items():
            place = "days", days
            for day in _days(days, *place):
                self._spans[day] += _minutes(spans, *place)
        self._holidays = {
            day: _minutes(spans, "holidays", days)
            for days, spans in hours.holidays.items()
            for day in _dates(days, "holidays", days)
        }

    @staticmethod
    def of(hours: Hours) -> "Timetable":
        """Raises WrongHours."""
        days, holidays = tuple(hours.days.items()), tuple(hours.holidays.items())
        return _timetable(hours.timezone, days, holidays)

    def is_open(self, now: datetime) -> bool:
        local = now.astimezone(self._zone)
        minute = local.hour * 60 + local.minute
        spans = self._spans[local.weekday()]
        for day in (f"{local:%m-%d}", f"{local:%Y-%m-%d}"):
            spans = self._holidays.get(day, spans)
        return any(begin <= minute < end for begin, end in spans)


Pairs = tuple[tuple[str, str], ...]


@functools.lru_cache(maxsize=32)
def _timetable(timezone: str, days: Pairs, holidays: Pairs) -> Timetable:
    return Timetable(Hours(dict(days), "", timezone, dict(holidays)))


def _dates(text: str, *place: str) -> list[str]:
    """Of "12-25", "2027-03-26", or from one to another of them, each as the wall calendar has it:
    with the year if there is one."""
    first, _, last = text.partition("/")
    begin, end = _date(first, *place), _date(last or first, *place)
    if len(first) != len(last or first):
        raise WrongHours(f"{text} is with a year and without one", *place)
    if end < begin:
        raise WrongHours(f"{text} ends before it begins", *place)
    days = (begin + timedelta(days=n) for n in range((end - begin).days + 1))
    return [f"{day:%m-%d}" if len(first) == len("12-25") else f"{day:%Y-%m-%d}" for day in days]


def _date(text: str, *place: str) -> date:
    found = HOLIDAY.fullmatch(text)
    try:
        if found is not None:
            return date(int(found[1] or LEAP_YEAR), int(found[2]), int(found[3]))
    except ValueError:
        pass
    raise WrongHours(f"{text} is no date as 12-25 or 2027-03-26", *place)


def _days(text: str, *place: str) -> range:
    first, _, last = text.lower().partition("-")
    if first not in DAYS or (last or first) not in DAYS:
        raise WrongHours(f"{text} is no day and no mon-fri", *place)
    days = range(DAYS.index(first), DAYS.index(last or first) + 1)
    if not days:
        raise WrongHours(f"{text} ends before it begins", *place)
    return days


def _minutes(text: str, *place: str) -> Spans:
    spans = []
    wanted = "" if text.strip() == CLOSED else text
    for part in filter(None, map(str.strip, wanted.split(","))):
        found = SPAN.fullmatch(part)
        if found is None:
            raise WrongHours(f"{part} is not as 9:00-17:00", *place)
        begin, end = (_minute(found[n], found[n + 1], *place) for n in (1, 3))
        if begin >= end:
            raise WrongHours(f"{part} ends before it begins", *place)
        spans.append((begin, end))
    return spans


def _minute(hour: str, minute: str, *place: str) -> int:
    total = int(hour) * 60 + int(minute)
    if total != MIDNIGHT and (int(hour) > time.max.hour or int(minute) > time.max.minute):
        raise WrongHours(f"{hour}:{minute} is no time of day", *place)
    return total

from datetime import UTC, datetime

import msgspec
import pytest

from bridge.backends.cascade.hours import Hours, Timetable
from bridge.errors import ConfigError

OFFICE = Hours(
    days={"mon-thu": "9:00-12:30, 13:30-18:00", "fri": "9:00-16:00", "sat": "22:00-24:00"},
    closed="closed",
    timezone="Europe/Berlin",
)


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-23 07:59", False),  # a Monday; Berlin is an hour ahead in winter
        ("2026-11-23 08:00", True),
        ("2026-11-23 11:29", True),
        ("2026-11-23 11:30", False),
        ("2026-11-23 12:30", True),
        ("2026-11-26 16:59", True),
        ("2026-11-27 15:00", False),
        ("2026-11-28 22:59", True),
        ("2026-11-28 23:00", False),
        ("2026-11-29 10:00", False),
        ("2026-07-20 07:00", True),  # two hours ahead in summer
    ],
)
def test_open_by_the_clock_on_the_wall(moment: str, is_open: bool) -> None:
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert Timetable.of(OFFICE).is_open(now) is is_open


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-12-25 10:00", False),
        ("2031-12-25 10:00", False),
        ("2026-12-24 10:30", True),
        ("2026-12-24 12:30", False),  # by the hours of that day, not of a Thursday
        ("2027-03-26 10:00", False),
        ("2028-03-27 10:00", True),  # another year's Monday
        ("2026-12-28 10:00", False),
        ("2026-12-31 10:00", False),
        ("2027-01-04 10:00", True),
        ("2026-12-26 23:30", False),  # a Sunday already in Berlin
        ("2026-06-06 09:30", True),  # a Saturday that is open for once
    ],
)
def test_holidays_have_hours_of_their_own(moment: str, is_open: bool) -> None:
    days = {
        "12-25/12-26": "closed",
        "12-24": "9:00-13:00",
        "2027-03-26": "",
        "2026-12-28/2026-12-31": "closed",
        "2026-06-06": "10:00-14:00",
    }
    hours = msgspec.structs.replace(OFFICE, holidays=days)
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert Timetable.of(hours).is_open(now) is is_open


@pytest.mark.parametrize(
    ("hours", "message"),
    [
        (Hours({"mon": "9-17"}, "c"), "hours: 9-17 is not as 9:00-17:00"),
        (Hours({"mon": "17:00-9:00"}, "c"), "17:00-9:00 ends before it begins"),
        (Hours({"mon": "9:00-25:00"}, "c"), "25:00 is no time of day"),
        (Hours({"monday": "9:00-17:00"}, "c"), "monday is no day and no mon-fri"),
        (Hours({"fri-mon": "9:00-17:00"}, "c"), "fri-mon ends before it begins"),
        (Hours({}, "c", "Europe/Atlantis"), "timezone Europe/Atlantis"),
        (Hours({}, "c", holidays={"25.12.": ""}), "25.12. is no date as 12-25"),
        (Hours({}, "c", holidays={"02-30": ""}), "02-30 is no date"),
        (Hours({}, "c", holidays={"12-26/12-25": ""}), "ends before it begins"),
        (Hours({}, "c", holidays={"2026-12-25/12-26": ""}), "with a year and without one"),
        (Hours({}, "c", holidays={"12-25": "noon"}), "noon is not as 9:00-17:00"),
    ],
)
def test_what_is_no_timetable_is_refused(hours: Hours, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Timetable(hours)

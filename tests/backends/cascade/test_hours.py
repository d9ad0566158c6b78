from datetime import UTC, datetime

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
    ("hours", "message"),
    [
        (Hours({"mon": "9-17"}, "c"), "hours: 9-17 is not as 9:00-17:00"),
        (Hours({"mon": "17:00-9:00"}, "c"), "17:00-9:00 ends before it begins"),
        (Hours({"mon": "9:00-25:00"}, "c"), "25:00 is no time of day"),
        (Hours({"monday": "9:00-17:00"}, "c"), "monday is no day and no mon-fri"),
        (Hours({"fri-mon": "9:00-17:00"}, "c"), "fri-mon ends before it begins"),
        (Hours({}, "c", "Europe/Atlantis"), "timezone Europe/Atlantis"),
    ],
)
def test_what_is_no_timetable_is_refused(hours: Hours, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Timetable(hours)

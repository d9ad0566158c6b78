from bridge.media.schedule import FIRST, INTERVAL, PHASES, Schedule


def told(schedule: Schedule[str], numbers: range) -> list[tuple[int, str]]:
    return [(number, stream) for number in numbers for stream in schedule.due(number)]


def test_each_in_its_phase_and_every_interval() -> None:
    schedule = Schedule[str]()
    schedule.add("a", 0)
    schedule.add("b", 3)
    found = told(schedule, range(1, 2 * INTERVAL))
    assert found == [
        (FIRST, "a"),
        (FIRST + 3, "b"),
        (FIRST + INTERVAL, "a"),
        (FIRST + INTERVAL + 3, "b"),
    ]


def test_none_is_lost_in_slots_left_out() -> None:
    schedule = Schedule[str]()
    schedule.add("a", 0)
    assert told(schedule, range(1, FIRST - 10)) == []
    assert schedule.due(FIRST + 10) == ["a"]
    assert schedule.due(FIRST + 11) == []
    assert schedule.due(FIRST + 10 * INTERVAL) == ["a"]


def test_whoever_comes_after_a_rest_reports_half_an_interval_later() -> None:
    schedule = Schedule[str]()
    begin = 7 * INTERVAL + 400
    schedule.add("a", 1)
    ((number, _),) = told(schedule, range(begin, begin + INTERVAL))
    assert begin + FIRST - 1 <= number < begin + FIRST + PHASES


def test_who_left_reports_no_more() -> None:
    schedule = Schedule[str]()
    schedule.add("a", 0)
    schedule.add("b", 0)
    schedule.remove("a")
    assert schedule.due(1) == []
    schedule.add("c", 0)
    assert schedule.due(2) == []
    schedule.remove("b")
    assert {stream for _, stream in told(schedule, range(3, 2 * INTERVAL))} == {"c"}

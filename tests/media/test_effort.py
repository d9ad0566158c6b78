import pytest

from bridge.media.effort import RESTORED_AFTER_S, Effort

IN_TIME = [0.1] * 200
LATE = [0.1] * 180 + [6.0] * 20
BETWEEN = [0.1] * 180 + [3.0] * 20
ONE_STALL = [0.1] * 195 + [40.0] * 5


def judged(*seconds: list[float]) -> list[bool]:
    effort = Effort()
    told = []
    for now, late in enumerate(seconds):
        effort.judge(late, float(now))
        told.append(effort.sparing)
    return told


def test_a_late_clock_spares_at_once_and_a_stall_does_not() -> None:
    assert judged(IN_TIME, LATE, IN_TIME) == [False, True, True]
    assert judged(ONE_STALL, ONE_STALL) == [False, False]


def test_the_best_comes_back_after_a_time_without_lateness() -> None:
    calm = [IN_TIME] * (int(RESTORED_AFTER_S) + 1)
    assert judged(LATE, *calm)[-2:] == [True, False]
    assert judged(LATE, *calm[:-1], BETWEEN, *calm)[-2:] == [True, False]
    assert judged(LATE, *calm[:-1], BETWEEN, *calm[:-1])[-1]


def test_a_clock_without_calls_is_in_time() -> None:
    assert not judged(LATE, *[[]] * (int(RESTORED_AFTER_S) + 1))[-1]


def test_each_change_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    judged(LATE, LATE, *[IN_TIME] * 30)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_without_a_clock_nothing_is_spared() -> None:
    effort = Effort()
    effort.judge(LATE, 0.0)
    effort.forget()
    assert not effort.sparing
    effort.judge(BETWEEN, 1.0)
    assert not effort.sparing

"""How long a model may be silent, by what is due of it."""

import pytest

from bridge.backends.upstream.pulse import TICK_S, Due, Finding, Pulse
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.config import Upstream

SETTINGS = UpstreamSettings(
    **Upstream(stall_timeout_s=8.0, flow_timeout_s=2.0, connect_timeout_s=5.0).model_dump()
)


class Watched:
    """`wait` ticks until something is found, and returns when and what."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pulse = Pulse(SETTINGS, self.now)

    def wait(self, due: Due, seconds: float = 60.0) -> tuple[float, Finding]:
        began = self.now
        while self.now - began < seconds:
            self.now += TICK_S
            found = self.pulse.check(due, self.now)
            if found is not Finding.FINE:
                return round(self.now - began, 1), found
        return seconds, Finding.FINE


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_nothing_due_is_never_late(watched: Watched) -> None:
    assert watched.wait(Due.NOTHING) == (60.0, Finding.FINE)


@pytest.mark.parametrize("due", [Due.SIGN, Due.SESSION, Due.ANSWER, Due.EVENT])
def test_silence_is_looked_into_and_ends_without_a_sign(watched: Watched, due: Due) -> None:
    assert watched.wait(due) == (1.1, Finding.PROBE)
    assert watched.wait(due) == (1.1, Finding.GONE)


@pytest.mark.parametrize(
    ("due", "late_s"), [(Due.SESSION, 5.0), (Due.ANSWER, 4.0), (Due.EVENT, 8.0), (Due.SOUND, 2.0)]
)
def test_one_that_is_there_may_take_its_time(watched: Watched, due: Due, late_s: float) -> None:
    probed_s, found = watched.wait(due)
    assert found is Finding.PROBE
    watched.pulse.sign()
    waited_s, found = watched.wait(due)
    assert found is Finding.LATE
    assert probed_s + waited_s == pytest.approx(late_s, abs=2 * TICK_S)


def test_one_that_does_not_notice_a_caller_is_left_in_peace(watched: Watched) -> None:
    watched.wait(Due.SIGN)
    watched.pulse.sign()
    assert watched.wait(Due.SIGN) == (60.0, Finding.FINE)


def test_an_event_begins_it_anew(watched: Watched) -> None:
    for _ in range(20):
        assert watched.wait(Due.SOUND, 0.9) == (0.9, Finding.FINE)
        watched.pulse.event(watched.now)


def test_what_was_due_before_does_not_count(watched: Watched) -> None:
    watched.wait(Due.EVENT, 0.9)
    watched.wait(Due.NOTHING, 0.5)
    assert watched.wait(Due.EVENT) == (1.1, Finding.PROBE)

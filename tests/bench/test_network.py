"""What the bad network does is what it was asked for, and the same every time."""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.bench.network import Way, Weather, read_trace, write_trace


def sent(weather: Weather, packets: int = 20_000, seed: str = "1") -> tuple[Way, list[list[float]]]:
    way = Way(weather, seed)
    return way, [way.send(0.02 * number) for number in range(packets)]


def test_nothing_asked_for_is_nothing_done() -> None:
    way, times = sent(Weather(), 100)
    assert times == [[0.02 * number] for number in range(100)]
    assert way.tally.lost == 0


@pytest.mark.parametrize("burst", [1.0, 3.0, 8.0])
def test_losses_have_their_share_and_their_length(burst: float) -> None:
    way, _ = sent(Weather(loss=5, burst=burst), 100_000)
    tally = way.tally
    assert 100 * tally.lost / tally.packets == pytest.approx(5, rel=0.12)
    # Independent losses meet now and then: 1 / (1 - 0.05).
    assert tally.lost / tally.runs == pytest.approx(max(burst, 1.05), rel=0.12)


def test_a_seed_loses_the_same_packets_whatever_else_happens() -> None:
    plain, _ = sent(Weather(loss=10, burst=2))
    stormy, _ = sent(Weather(loss=10, burst=2, jitter=30, reorder=5, duplicate=5, skew=100))
    other, _ = sent(Weather(loss=10, burst=2), seed="2")
    assert plain.lost == stormy.lost
    assert plain.lost != other.lost


def test_jitter_delays_on_average_and_keeps_the_order() -> None:
    _, times = sent(Weather(delay=50, jitter=10))
    at = [each[0] for each in times]
    assert at == sorted(at)
    delays = [each - 0.02 * number for number, each in enumerate(at)]
    assert min(delays) >= 0.05
    assert 0.058 < sum(delays) / len(delays) < 0.075


def test_reordered_packets_come_after_their_successors() -> None:
    way, times = sent(Weather(reorder=10, hold=30), 1000)
    at = [each[0] for each in times]
    overtaken = sum(here > after for here, after in pairwise(at))
    assert 70 <= way.tally.reordered <= 130
    assert overtaken >= 0.8 * way.tally.reordered


def test_duplicates_come_twice() -> None:
    way, times = sent(Weather(duplicate=20), 1000)
    assert sum(len(each) == 2 for each in times) == way.tally.duplicated
    assert 150 <= way.tally.duplicated <= 250


@pytest.mark.parametrize(("skew", "delay", "end"), [(200, 0, 0.2), (-200, 300, 0.1)])
def test_a_skewed_clock_drifts(skew: float, delay: float, end: float) -> None:
    """Over 1 000 s, 200 ppm are 200 ms."""
    _, times = sent(Weather(skew=skew, delay=delay), 50_001)
    assert times[0] == [delay / 1000]
    assert times[-1][0] - 1000.0 == pytest.approx(end, abs=0.001)


def test_a_trace_is_kept_and_followed(tmp_path: Path) -> None:
    first, _ = sent(Weather(loss=20), 50)
    write_trace(tmp_path / "trace", first.lost)
    again = Way(Weather(), "9", read_trace(tmp_path / "trace"))
    for number in range(100):
        again.send(0.02 * number)
    assert again.lost == first.lost * 2


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("0102")
    with pytest.raises(ValueError, match="0 and 1"):
        read_trace(tmp_path / "trace")


@pytest.mark.parametrize("wrong", [{"loss": 101}, {"burst": 0.5}, {"jitter": -1}])
def test_weather_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="is"):
        Weather(**wrong)

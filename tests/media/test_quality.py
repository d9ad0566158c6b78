import pytest
from hypothesis import given, strategies as st

from bridge.media.quality import estimated_mos, rating


@pytest.mark.parametrize(
    ("loss", "mos"), [(0.0, 4.41), (0.01, 4.33), (0.05, 3.92), (0.10, 3.41), (0.20, 2.63)]
)
def test_loss_alone_as_the_e_model_has_it(loss: float, mos: float) -> None:
    assert estimated_mos(loss) == pytest.approx(mos, abs=0.005)


def test_delay_counts_little_until_people_talk_at_once() -> None:
    """G.107's curve: flat to 177 ms, then steep."""
    assert estimated_mos(0, 150) > 4.3
    assert estimated_mos(0, 400) < 3.7
    assert rating(0, 177.3) - rating(0, 277.3) == pytest.approx(11 + 2.4)


@given(st.floats(-1, 2), st.floats(0, 10_000))
def test_it_stays_on_the_scale(loss: float, delay_ms: float) -> None:
    assert 1.0 <= estimated_mos(loss, delay_ms) <= 4.5
    assert estimated_mos(loss, delay_ms) >= estimated_mos(loss + 0.1, delay_ms)
    assert estimated_mos(loss, delay_ms) >= estimated_mos(loss, delay_ms + 50)

"""Short runs of what `python -m tests.bench.timeline` does for hours."""

import pytest

from bridge.audio.codecs import G722, OPUS, PCMU, Codec
from tests.bench.timeline import chunks, drift, stall

CODECS = [PCMU, G722, OPUS]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("ppm", [4000, -4000])
def test_a_clock_that_drifts_is_followed_without_a_click(codec: Codec, ppm: int) -> None:
    """Half a minute at twenty times what a bad clock drifts."""
    found = drift(codec, ppm=ppm, seconds=30)
    assert len(found.delays_ms) >= 3
    assert found.growth_ms <= 20
    assert found.roughness <= 1.5
    assert (found.merged > 0) == (ppm > 0)
    assert (found.concealed > 0) == (ppm < 0)


def test_what_merging_leaves_over_does_not_add_up() -> None:
    """Two packets become one and a bit, a bit that the next pause has to take."""
    found = drift(PCMU, ppm=1000, seconds=120)
    assert found.merged >= 5
    assert found.growth_ms <= 20


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("ours", [True, False])
def test_five_seconds_after_a_standstill_its_delay_is_gone(codec: Codec, *, ours: bool) -> None:
    found = stall(codec, seconds=2.0, ours=ours)
    assert found.most_late <= 60
    assert found.most_waiting <= 60


@pytest.mark.parametrize("codec", CODECS)
def test_chunks_of_any_size_sound_like_one_piece(codec: Codec) -> None:
    found = chunks(codec, seconds=2.0, seed=1)
    assert (found.out, found.heard <= 1) == (0, True)

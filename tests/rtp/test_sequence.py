import pytest

from bridge.rtp.sequence import timestamp_delta


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [(160, 0, 160), (0, 0xFFFF_FF60, 160), (0xFFFF_FF60, 0, -160)],
)
def test_timestamp_delta(newer: int, older: int, expected: int) -> None:
    assert timestamp_delta(newer, older) == expected

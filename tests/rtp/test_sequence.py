import pytest
from hypothesis import given, strategies as st

from bridge.rtp.sequence import Unwrapper, sequence_delta, timestamp_delta


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [
        (1, 0, 1),
        (0, 1, -1),
        (0, 0xFFFF, 1),
        (0xFFFF, 0, -1),
        (0x7FFF, 0, 0x7FFF),
        (0x8000, 0, -0x8000),
    ],
)
def test_sequence_delta(newer: int, older: int, expected: int) -> None:
    assert sequence_delta(newer, older) == expected


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [(160, 0, 160), (0, 0xFFFF_FF60, 160), (0xFFFF_FF60, 0, -160)],
)
def test_timestamp_delta(newer: int, older: int, expected: int) -> None:
    assert timestamp_delta(newer, older) == expected


def test_unwraps_over_the_end_and_back() -> None:
    unwrapper = Unwrapper()
    wire = [65534, 65535, 0, 65535, 1, 2]
    assert [unwrapper.unwrap(value) for value in wire] == [65534, 65535, 65536, 65535, 65537, 65538]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(-(2**31) + 1, 2**31 - 1), max_size=50))
def test_unwraps_any_walk_of_timestamps(start: int, steps: list[int]) -> None:
    unwrapper = Unwrapper(bits=32)
    value = unwrapper.unwrap(start)
    for step in steps:
        value += step
        assert unwrapper.unwrap(value & 0xFFFF_FFFF) == value

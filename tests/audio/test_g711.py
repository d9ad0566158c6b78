from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bridge.audio.g711 import (
    ALAW_SILENCE,
    ALAW_VALUES,
    ULAW_SILENCE,
    ULAW_VALUES,
    Octets,
    Samples,
    alaw_decode,
    alaw_encode,
    ulaw_decode,
    ulaw_encode,
)

LAWS = pytest.mark.parametrize(
    ("encode", "values"), [(ulaw_encode, ULAW_VALUES), (alaw_encode, ALAW_VALUES)]
)
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)
EVERY_OCTET = np.arange(256, dtype=np.uint8)


def octets(*values: int) -> Octets:
    return np.array(values, np.uint8)


def test_ulaw_has_the_values_of_g711_table_2() -> None:
    # The last value of each positive segment, from the outside in, in the table's 14-bit units.
    ends = octets(0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0, 0xFE, 0xFF)
    assert (ulaw_decode(ends) // 4).tolist() == [8031, 3999, 1983, 975, 471, 219, 93, 30, 2, 0]
    assert (ulaw_decode(ends & np.uint8(0x7F)) == -ulaw_decode(ends)).all()


def test_alaw_has_the_values_of_g711_table_1() -> None:
    # The table's character signals; on the wire their even bits are inverted.
    ends = octets(0xAA, 0xBA, 0x8A, 0x9A, 0xEA, 0xFA, 0xCA, 0xDA)
    assert (alaw_decode(ends) // 8).tolist() == [4032, 2016, 1008, 504, 252, 126, 63, 31]
    assert alaw_decode(octets(0xD5, 0x55)).tolist() == [8, -8]
    assert (alaw_decode(ends & np.uint8(0x7F)) == -alaw_decode(ends)).all()


@LAWS
def test_encoding_takes_the_nearest_value(
    encode: Callable[[Samples], Octets], values: Samples
) -> None:
    error = np.abs(values[encode(EVERY_SAMPLE)].astype(int) - EVERY_SAMPLE)
    wide = np.sort(values).astype(int)
    place = np.clip(np.searchsorted(wide, EVERY_SAMPLE), 1, 255)
    nearest = np.minimum(np.abs(wide[place] - EVERY_SAMPLE), np.abs(wide[place - 1] - EVERY_SAMPLE))
    assert (error == nearest).all()


@LAWS
def test_encoding_is_monotonic_and_odd(
    encode: Callable[[Samples], Octets], values: Samples
) -> None:
    decoded = values[encode(EVERY_SAMPLE)].astype(int)
    assert (np.diff(decoded) >= 0).all()
    positive = decoded[32769:]
    assert (positive == -decoded[1:32768][::-1]).all()


@LAWS
def test_every_octet_survives_a_round_trip(
    encode: Callable[[Samples], Octets], values: Samples
) -> None:
    again = encode(values[EVERY_OCTET])
    # µ-law has a negative zero; both zeros become the positive one.
    assert (values[again] == values).all()
    assert (again != EVERY_OCTET).sum() == (1 if values is ULAW_VALUES else 0)


def test_silence_is_what_zero_encodes_to() -> None:
    zero = np.zeros(1, np.int16)
    assert ulaw_encode(zero)[0] == ULAW_SILENCE
    assert alaw_encode(zero)[0] == ALAW_SILENCE


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 200))
def test_any_shape(rows: int, columns: int) -> None:
    block = np.full((rows, columns), 0x21, np.uint8)
    assert ulaw_encode(ulaw_decode(block)).shape == (rows, columns)
    assert (alaw_encode(alaw_decode(block)) == block).all()

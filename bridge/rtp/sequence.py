"""Arithmetic of numbers that wrap: RTP sequence numbers (16 bits) and timestamps (32 bits)."""


def sequence_delta(newer: int, older: int) -> int:
    """How far `newer` is after `older`, -32768 to 32767."""
    return ((newer - older + 0x8000) & 0xFFFF) - 0x8000


def timestamp_delta(newer: int, older: int) -> int:
    """How far `newer` is after `older`, -2**31 to 2**31 - 1."""
    return ((newer - older + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


class Unwrapper:
    """Turns wrapping numbers into ones that do not wrap: each is taken as the nearest to the last.

    The first value is kept as it is, so that numbers just before it come out negative.
    """

    __slots__ = ("_half", "_last", "_mask")

    def __init__(self, bits: int = 16) -> None:
        self._half = 1 << (bits - 1)
        self._mask = (1 << bits) - 1
        self._last: int | None = None

    def unwrap(self, value: int) -> int:
        if self._last is None:
            self._last = value
        else:
            step = ((value - self._last + self._half) & self._mask) - self._half
            self._last += step
        return self._last

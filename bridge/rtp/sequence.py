"""Arithmetic of RTP timestamps, which wrap at 32 bits."""


def timestamp_delta(newer: int, older: int) -> int:
    """How far `newer` is after `older`, -2**31 to 2**31 - 1."""
    return ((newer - older + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000

import pytest
from hypothesis import given, strategies as st

from bridge.sip.info_dtmf import InfoDigit, parse_info

RELAY = "application/dtmf-relay"


@pytest.mark.parametrize(
    ("content_type", "body", "found"),
    [
        (RELAY, b"Signal=5\r\nDuration=160\r\n", InfoDigit("5", 160)),
        (RELAY, b"Signal= 5\r\nDuration= 160", InfoDigit("5", 160)),
        (RELAY, b"signal = #\nduration = 250\n", InfoDigit("#", 250)),
        (RELAY, b"Duration=80\r\nSignal=*\r\n", InfoDigit("*", 80)),
        (RELAY, b"Signal=d", InfoDigit("D", 100)),
        (RELAY, b"Signal=11\r\nDuration=100", InfoDigit("#", 100)),
        (RELAY, b"Signal=10\r\nDuration=x", InfoDigit("*", 100)),
        (RELAY, b"Signal=1\r\nDuration=99999999", InfoDigit("1", 10_000)),
        (RELAY, b"Signal=1\r\nSignal=2\r\n", InfoDigit("1", 100)),
        ("Application/DTMF-Relay ; charset=utf-8", b"Signal=7", InfoDigit("7", 100)),
        ("application/dtmf", b"5", InfoDigit("5")),
        ("application/dtmf", b" 0\r\n", InfoDigit("0")),
        ("application/dtmf", b"*", InfoDigit("*")),
        ("application/dtmf", b"15", InfoDigit("D")),
        (RELAY, b"Signal=hf\r\nDuration=160", None),
        (RELAY, b"Signal=16", None),
        (RELAY, b"Signal=55", None),
        (RELAY, b"Duration=160", None),
        (RELAY, b"", None),
        (RELAY, b"Signal=5" + b" " * 1000, None),
        ("application/dtmf", b"!", None),
        ("application/dtmf", b"", None),
        ("text/plain", b"5", None),
        ("", b"Signal=5", None),
    ],
)
def test_bodies(content_type: str, body: bytes, found: InfoDigit | None) -> None:
    assert parse_info(content_type, body) == found


@given(st.sampled_from([RELAY, "application/dtmf", "a/b"]), st.binary(max_size=600))
def test_never_raises(content_type: str, body: bytes) -> None:
    found = parse_info(content_type, body)
    assert found is None or len(found.digit) == 1

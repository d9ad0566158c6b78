import pytest

from bridge.sip.body import session_description
from bridge.sip.message import Headers, Request

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"
MIXED = (
    b"preamble\r\n--b/1\r\nContent-Type: application/isup;version=x\r\n\r\n\x01\x10\r\n\0"
    b"\r\n--b/1\r\nc : Application/SDP ;x=1\r\nContent-Disposition: session\r\n\r\n" + SDP +
    b"\r\n--b/1--\r\nafter"
)  # fmt: skip


def described(content_type: str | None, body: bytes) -> bytes | None:
    lines = [] if content_type is None else [("Content-Type", content_type)]
    return session_description(Request("INVITE", "sip:a", Headers(lines), body))


@pytest.mark.parametrize(
    ("content_type", "body", "found"),
    [
        ("application/sdp", SDP, SDP),
        ("Application / SDP;charset=utf-8", SDP, SDP),
        (None, SDP, SDP),
        ("application/sdp", b"", None),
        ("text/plain", SDP, None),
        ('multipart/mixed; Boundary="b/1"', MIXED, SDP),
        ("multipart/related;boundary=b/1", MIXED, SDP),
        ("multipart/mixed;boundary=other", MIXED, None),
        ("multipart/mixed", MIXED, None),
        ("multipart/mixed;boundary=b/1", MIXED.replace(b"SDP", b"XML"), None),
        ("multipart/mixed;boundary=b/1", MIXED[:80], None),
        ("multipart/mixed;boundary=x", b"--x\r\nc:application/sdp\r\n\r\nv=0\r\n--x", b"v=0\r\n"),
        ("multipart/mixed;boundary=x", b"--x\r\nnothing\r\n--x--", None),
        ("multipart/mixed;boundary=x", b"--x\r\n\r\n" * 100, None),
        ("multipart/mixed;boundary=b/1" + ";a" * 100, MIXED, None),
    ],
)  # fmt: skip
def test_session_description(content_type: str | None, body: bytes, found: bytes | None) -> None:
    assert described(content_type, body) == found

import pytest

from bridge.sip.message import Request, parse_message
from bridge.sip.validation import validate

INVITE = (
    "INVITE sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:b@h>;tag=1\r\n"
    "To: <sip:a@h>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n"
    "Contact: <sip:b@h>\r\nContent-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0"
)


def read(text: str) -> Request:
    message = parse_message(text.encode())
    assert isinstance(message, Request)
    return message


def status(old: str, new: str) -> int | None:
    assert old in INVITE
    rejection = validate(read(INVITE.replace(old, new)))
    return None if rejection is None else rejection.status


def test_a_sound_invite_passes() -> None:
    assert validate(read(INVITE)) is None
    assert validate(read(INVITE), allow=["INVITE"], supported=["timer"]) is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("From: <sip:b@h>;tag=1\r\n", "", 400),
        ("To: <sip:a@h>\r\n", "", 400),
        ("Call-ID: x", "Call-ID:", 400),
        ("CSeq: 1 INVITE\r\n", "", 400),
        ("CSeq: 1 INVITE", "CSeq: 1 BYE", 400),
        ("CSeq: 1 INVITE", "CSeq: 2147483648 INVITE", 400),
        ("Call-ID: x", "Call-ID: x\r\ni: y", 400),
        ("Max-Forwards: 70", "Max-Forwards: 256", 400),
        ("Max-Forwards: 70", "Max-Forwards: 0", None),
        ("Max-Forwards: 70", "Expires: 4294967296", 400),
        ("Max-Forwards: 70", "Expires: soon", None),
        ("Max-Forwards: 70", "Date: yesterday, perhaps", None),
        ("branch=z9hG4bK1", "branch=z9hG4bK1, nonsense", 400),
        ("branch=z9hG4bK1", "branch=z9hG4bK1,", 400),
        ("UDP h;", "UDP h:65536;", 400),
        ("UDP h;", "UDP h:0;", 400),
        ("Contact: <sip:b@h>", "Contact: <sip:b@h", 400),
        ("Contact: <sip:b@h>\r\n", "", None),
        ("sip:a@h SIP", "sip:a@h:65536 SIP", 400),
        ("sip:a@h SIP", "sip:a@h?X=1 SIP", 400),
        ("sip:a@h SIP", "a@h SIP", 400),
        ("sip:a@h SIP", "tel:+49 SIP", None),
        ("sip:a@h SIP", "urn:service:sos SIP", 416),
        ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia", 505),
        ("SIP/2.0\r\nVia", "sip/2.0\r\nVia", None),
        ("Content-Length: 3", "Content-Length: 4", 400),
        ("application/sdp", "text/plain", 415),
        ("Content-Type: application/sdp\r\n", "", None),
        ("application/sdp", "text/plain\r\nContent-Disposition: x; handling=optional", None),
        ("application/sdp", "application/sdp\r\nContent-Encoding: gzip", 415),
        ("application/sdp", "multipart/mixed;boundary=x", None),
        ("Max-Forwards: 70", "Accept: text/plain", 406),
        ("Max-Forwards: 70", "Accept: text/plain, application/*;q=0.1", None),
        ("Max-Forwards: 70", "Accept:", None),
        ("Max-Forwards: 70", "X: " + "y" * 8190, 513),
        ("Max-Forwards: 70", "X: y\r\n" * 256 + "X: y", 513),
        ("branch=z9hG4bK1", "branch=z9hG4bK1" + ", SIP/2.0/UDP h" * 70, 513),
        ("branch=z9hG4bK1", "branch=z9hG4bK1" + ", SIP/2.0/UDP h" * 69, None),
    ],
)
def test_statuses(old: str, new: str, expected: int | None) -> None:
    assert status(old, new) == expected


def test_method_not_allowed_lists_what_is() -> None:
    rejection = validate(read(INVITE.replace("INVITE", "PUBLISH")), allow=["INVITE", "BYE"])
    assert rejection is not None
    assert (rejection.status, rejection.headers) == (405, (("Allow", "INVITE, BYE"),))


def test_required_extensions() -> None:
    text = INVITE.replace("Max-Forwards: 70", "Require: 100rel, Foo\r\nRequire: bar")
    rejection = validate(read(text), supported=["100REL"])
    assert rejection is not None
    assert (rejection.status, rejection.headers) == (420, (("Unsupported", "Foo, bar"),))
    assert validate(read(text), supported=["100rel", "foo", "bar"]) is None
    assert validate(read(text.replace("INVITE", "CANCEL"))) is None


def test_media_type_refusal_says_what_is_read() -> None:
    rejection = validate(read(INVITE.replace("application/sdp", "text/plain")))
    assert rejection is not None
    assert rejection.headers == (("Accept", "application/sdp, multipart/mixed"),)


def test_other_methods_may_carry_any_body() -> None:
    text = INVITE.replace("INVITE", "INFO").replace("application/sdp", "application/dtmf-relay")
    assert validate(read(text)) is None

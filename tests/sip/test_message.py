import contextlib
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from bridge.errors import SipError
from bridge.sip.message import (
    MAX_ADDRESSES,
    MAX_VIAS,
    Headers,
    Request,
    Response,
    make_response,
    parse_message,
    stamp_source,
)
from bridge.sip.validation import validate

TORTURE = [
    path.read_bytes()
    for path in sorted((Path(__file__).parents[1] / "data" / "sip" / "rfc4475").glob("*.dat"))
]

INVITE = (
    b"INVITE sip:+4930555@192.0.2.1:5060;transport=udp SIP/2.0\r\n"
    b"Record-Route: <sip:198.51.100.1;lr;ftag=as7;r2=on>, <sip:10.0.0.1;lr;r2=on>\r\n"
    b"Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK+x!y*z;rport,"
    b" SIP/2.0/UDP 10.9.8.7;branch=1\r\n"
    b"Via: SIP/2.0/UDP 10.0.0.9:5080;branch=z9hG4bK3\r\n"
    b"Max-Forwards: 68\r\n"
    b'From: "J\xc3\xb6rg" <sip:+49171@198.51.100.1;user=phone>;tag=as%2B7\r\n'
    b"To: <sip:+4930555@192.0.2.1>\r\n"
    b'Contact: <sip:+49171@10.0.0.9:5080>;+sip.instance="<urn:uuid:1>"\r\n'
    b"Call-ID: 7b2a@10.0.0.9\r\n"
    b"CSeq: 102 INVITE\r\n"
    b"Session-Expires: 1800;refresher=uac\r\n"
    b"Supported: timer, 100rel\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length: 5\r\n"
    b"\r\n"
    b"v=0\r\n"
)


def request(data: bytes = INVITE) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


def response(data: bytes) -> Response:
    message = parse_message(data)
    assert isinstance(message, Response)
    return message


def with_line(line: bytes) -> Request:
    """The INVITE with one more header line."""
    return request(INVITE.replace(b"Max-Forwards: 68\r\n", line + b"\r\n"))


def test_request_round_trip() -> None:
    assert bytes(request()) == INVITE


def test_response_round_trip() -> None:
    data = bytes(make_response(request(), 200, to_tag="ours", body=b"v=0\r\n"))
    assert bytes(response(data)) == data


def test_accessors() -> None:
    invite = request()
    assert invite.method == "INVITE"
    assert invite.request_uri.port == 5060
    assert invite.top_via.branch == "z9hG4bK+x!y*z"
    assert [via.host for via in invite.vias] == ["198.51.100.1", "10.9.8.7", "10.0.0.9"]
    assert invite.from_.display_name == "Jörg"
    assert invite.from_tag == "as%2B7"
    assert invite.to_tag is None
    assert invite.sip_call_id == "7b2a@10.0.0.9"
    assert (invite.cseq.number, invite.cseq.method) == (102, "INVITE")
    assert invite.contact is not None
    assert invite.contact.uri.port == 5080
    assert [route.uri.host for route in invite.record_routes] == ["198.51.100.1", "10.0.0.1"]
    assert invite.routes == []
    assert invite.max_forwards == 68
    assert invite.session_expires == (1800, "uac")
    assert invite.supported == ["timer", "100rel"]
    assert invite.require == []
    assert invite.allow == []
    assert invite.content_type == "application/sdp"
    assert invite.body == b"v=0\r\n"
    assert invite.fault is None


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [
        (b"Expires: 60", "expires", 60),
        (b"Expires: soon", "expires", None),
        (b"Min-SE: 90;x=1", "min_se", 90),
        (b"Retry-After: 18 (busy);duration=3", "retry_after", 18),
        (b"RSeq: 988789", "rseq", 988789),
        (b"RAck: 776656 1 INVITE", "rack", (776656, 1, "INVITE")),
        (b"RAck: 776656 1", "rack", None),
        (b"RAck: 776656 -1 INVITE", "rack", None),
        (b"Refer-To: <sip:a@", "refer_to", None),
        (b"Max-Forwards: 256", "max_forwards", None),
        (b"Require: 100rel,\r\nRequire: Timer", "require", ["100rel", "timer"]),
        (b"Allow: INVITE, ACK", "allow", ["INVITE", "ACK"]),
        (b"c: Application / SDP ; charset=x", "content_type", "application/sdp"),
    ],
)
def test_optional_values(line: bytes, attribute: str, value: object) -> None:
    data = INVITE.replace(b"Content-Type: application/sdp\r\n", b"")
    message = request(data.replace(b"Max-Forwards: 68\r\n", line + b"\r\n"))
    assert getattr(message, attribute) == value


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (b"90", (90, None)),
        (b"90 ; x ; Refresher = UAS", (90, "uas")),
        (b"90;refresher=me", (90, None)),
        (b"x;refresher=uac", None),
    ],
)
def test_session_expires(value: bytes, parsed: object) -> None:
    data = INVITE.replace(b"1800;refresher=uac", value)
    assert request(data).session_expires == parsed


def test_refer_to_with_replaces() -> None:
    line = b"Refer-To: <sip:b@h;self=1?Replaces=c%40h%3Bto-tag%3D1%3Bfrom-tag%3D2>;p=1"
    refer_to = with_line(line).refer_to
    assert refer_to is not None
    assert refer_to.uri.header("Replaces") == "c@h;to-tag=1;from-tag=2"
    assert refer_to.params.get("p") == "1"


def test_contact_star_is_no_contact() -> None:
    data = INVITE.replace(b'<sip:+49171@10.0.0.9:5080>;+sip.instance="<urn:uuid:1>"', b"*")
    assert request(data).contact is None


def test_folded_compact_and_spaced_headers() -> None:
    data = (
        b"OPTIONS sip:a SIP/2.0\r\nv:\r\n SIP/2.0/UDP\r\n\t h;branch=1\r\nt :<sip:a>\r\n"
        b"f\t: <sip:b>;\r\n  tag=2\r\nI:x\r\ncSeQ: 1\r\n OPTIONS\r\n\r\n"
    )
    message = request(data)
    assert message.top_via.branch == "1"
    assert message.from_tag == "2"
    assert message.cseq.number == 1
    assert validate(message) is None


def test_octets_that_are_no_utf8_come_back() -> None:
    data = INVITE.replace(b"J\xc3\xb6rg", b"J\xf6rg")
    assert bytes(request(data)) == data


def test_bare_line_feeds_and_leading_line_breaks_are_read() -> None:
    data = b"\r\n\r\n" + INVITE.replace(b"\r\n", b"\n")
    assert request(data).headers == request().headers


def test_missing_empty_line_is_read() -> None:
    assert request(INVITE.partition(b"Content-Type")[0]).body == b""


def test_lines_that_are_no_headers_are_left_out() -> None:
    message = with_line(b"no colon here\r\nbad name: 1\r\n: 2\r\nX-Good: 3")
    assert message.headers.get("x-good") == "3"
    assert len(message.headers) == len(request().headers)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"INVITE\r\n\r\n",
        b"INVITE sip:a\r\n\r\n",
        b"SIP/2.0\r\n\r\n",
        INVITE.replace(b"Via", b"X"),
        INVITE.replace(b"SIP/2.0/UDP 198", b"SIP/2.0/U@P 198"),
        INVITE.replace(b"Max-Forwards: 68", b"X: a\rVia: b"),
        INVITE.replace(b"Max-Forwards: 68", b"X: a\0b"),
        INVITE + b"x" * 65536,
    ],
)
def test_what_cannot_be_answered_is_dropped(data: bytes) -> None:
    with pytest.raises(SipError) as caught:
        parse_message(data)
    assert caught.value.status is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"SIP/2.0 200", b"SIP/2.0 99"),
        (b"SIP/2.0 200", b"SIP/2.0 700"),
        (b"SIP/2.0 200", b"SIP/2.0 4294967301"),
        (b"SIP/2.0 200", b"SIP/3.0 200"),
        (b"SIP/2.0 200", b"SIP/2.0  200"),
        (b"CSeq: 102", b"CSeq: 4294967296"),
        (b"Call-ID: ", b"X: "),
        (b"Content-Length: 0", b"Content-Length: 1"),
        (b"From: ", b"From: <"),
    ],
)
def test_bad_responses_are_dropped(old: bytes, new: bytes) -> None:
    data = bytes(make_response(request(), 200))
    assert old in data
    with pytest.raises(SipError) as caught:
        parse_message(data.replace(old, new))
    assert caught.value.status is None


def test_status_line_without_reason() -> None:
    data = bytes(make_response(request(), 200)).replace(b" OK\r\n", b"\r\n")
    assert response(data).reason == ""


LONG_LINES = b"\r\n".join([b"X: " + b"y" * 8000] * 5)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (LONG_LINES, "Header Section Too Long"),
        (b"X: " + b"y" * 8190, "Header Too Long"),
        (b"Subject: a" + b"\r\n b" * 512, "Too Many Lines"),
        (b"\r\n".join([b"X: y"] * 256), "Too Many Headers"),
        (b"Supported: a" + b",b" * 512, "Too Many Values"),
        (b"Supported: " + b'"",' * 200, "Too Many Values"),
    ],
)
def test_beyond_a_cap_only_what_an_answer_says_again_is_kept(line: bytes, reason: str) -> None:
    message = request()
    capped = request(INVITE.replace(b"CSeq: 102 INVITE", b"CSeq: 102 INVITE\r\n" + line))
    assert capped.fault is not None
    assert (capped.fault.status, capped.fault.reason) == (513, reason)
    assert validate(capped) == capped.fault
    assert bytes(make_response(capped, 513)) == bytes(make_response(message, 513))
    assert {name.lower() for name, _ in capped.headers} == {"via", "from", "to", "call-id", "cseq"}


def test_what_an_answer_cannot_say_again() -> None:
    start, _, rest = INVITE.partition(b"\r\n")
    with pytest.raises(SipError) as caught:
        parse_message(start + b"\r\n" + LONG_LINES + b"\r\n" + rest)
    assert caught.value.status is None
    via = "SIP/2.0/UDP h;x=" + "y" * 9000
    behind = request(start + b"\r\nVia: " + via.encode() + b"\r\n" + rest)
    assert make_response(behind, 513).headers.get("via") == via
    with pytest.raises(SipError):
        parse_message(start + b"\r\nVia: SIP/2.0/UDP h;x=" + b"y" * 17000 + b"\r\n" + rest)
    long = request(INVITE.replace(b"<sip:+4930555@192.0.2.1>", b"<sip:a>;x=" + b"y" * 9000))
    assert "to" not in make_response(long, 513).headers


@pytest.mark.parametrize("name", ["Contact", "Route", "Record-Route", "Via"])
def test_more_addresses_than_any_peer_needs(name: str) -> None:
    accessor = {"Contact": "contacts", "Route": "routes", "Via": "vias"}.get(name, "record_routes")
    value, most = ("SIP/2.0/UDP h", MAX_VIAS) if name == "Via" else ("<sip:a>", MAX_ADDRESSES)
    for between in (",", f"\r\n{name}: "):
        for count in (most, most + 1):
            lines = f"\r\n{name}: " + between.join([value] * count)
            data = INVITE.replace(b"Contact: ", b"X: ").replace(b"Record-Route: ", b"X: ")
            data = re.sub(rb"Via: .*\n", b"", data) if name == "Via" else data
            message = request(data.replace(b"\r\nMax-Forwards: 68", lines.encode()))
            if count == most:
                assert len(getattr(message, accessor)) == most
            else:
                with pytest.raises(SipError):
                    getattr(message, accessor)


def test_body_is_cut_at_content_length() -> None:
    assert request(INVITE + b"trailing").body == b"v=0\r\n"
    assert request(INVITE.replace(b"Content-Length: 5\r\n", b"") + b"more").body == b"v=0\r\nmore"


def test_response_echoes_byte_for_byte() -> None:
    invite = request()
    answer = make_response(
        invite, 183, to_tag="ours", headers=[("Contact", "<sip:us>")], body=b"v=0\r\n"
    )
    assert bytes(answer) == (
        b"SIP/2.0 183 Session Progress\r\n"
        b"Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK+x!y*z;rport,"
        b" SIP/2.0/UDP 10.9.8.7;branch=1\r\n"
        b"Via: SIP/2.0/UDP 10.0.0.9:5080;branch=z9hG4bK3\r\n"
        b"Record-Route: <sip:198.51.100.1;lr;ftag=as7;r2=on>, <sip:10.0.0.1;lr;r2=on>\r\n"
        b'From: "J\xc3\xb6rg" <sip:+49171@198.51.100.1;user=phone>;tag=as%2B7\r\n'
        b"To: <sip:+4930555@192.0.2.1>;tag=ours\r\n"
        b"Call-ID: 7b2a@10.0.0.9\r\n"
        b"CSeq: 102 INVITE\r\n"
        b"Contact: <sip:us>\r\n"
        b"Content-Length: 5\r\n"
        b"\r\n"
        b"v=0\r\n"
    )


@pytest.mark.parametrize(
    ("to", "echoed"),
    [
        (b"<sip:a;tag=no>", "<sip:a;tag=no>;tag=ours"),
        (b"sip:a", "sip:a;tag=ours"),
        (b"<sip:a>;TAG=theirs", "<sip:a>;TAG=theirs"),
        (b'"broken', '"broken;tag=ours'),
    ],
)
def test_to_tag_is_added_once(to: bytes, echoed: str) -> None:
    message = request(INVITE.replace(b"<sip:+4930555@192.0.2.1>", to))
    assert make_response(message, 200, to_tag="ours").headers.get("to") == echoed


def test_record_route_only_where_a_dialog_may_start() -> None:
    assert "record-route" not in make_response(request(), 100).headers
    assert "record-route" not in make_response(request(), 486).headers
    bye = request(INVITE.replace(b"INVITE", b"BYE"))
    assert "record-route" not in make_response(bye, 200).headers


def test_trying_copies_the_timestamp() -> None:
    message = with_line(b"Timestamp: 54")
    assert make_response(message, 100).headers.get("timestamp") == "54"
    assert make_response(message, 180).headers.get("timestamp") is None


def test_reason_phrases() -> None:
    assert make_response(request(), 299).reason == "Unknown"
    assert make_response(request(), 486, reason="Busy").reason == "Busy"


def test_stamp_source() -> None:
    stamped = stamp_source(request(), ("203.0.113.5", 4000))
    assert stamped.headers.get_all("via") == [
        "SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK+x!y*z;rport=4000;received=203.0.113.5,"
        " SIP/2.0/UDP 10.9.8.7;branch=1",
        "SIP/2.0/UDP 10.0.0.9:5080;branch=z9hG4bK3",
    ]
    assert stamped.top_via.rport == 4000
    plain = request(INVITE.replace(b";rport,", b","))
    assert stamp_source(plain, ("198.51.100.1", 5060)) is plain


def test_content_length_is_ours() -> None:
    headers = Headers([("l", "99"), ("Content-Length", "1"), ("Via", "SIP/2.0/UDP h")])
    written = bytes(Request("OPTIONS", "sip:a", headers, b"body"))
    assert written == b"OPTIONS sip:a SIP/2.0\r\nl: 4\r\nVia: SIP/2.0/UDP h\r\n\r\nbody"


@pytest.mark.parametrize(
    "message",
    [
        Request("INVITE", "sip:a\r\nX: y", Headers()),
        Request("INVITE", "sip:a b", Headers()),
        Request("INVITE", "", Headers()),
        Request("IN VITE", "sip:a", Headers()),
        Request("INVITE", "sip:a", Headers([("X", "a\r\nY: b")])),
        Request("INVITE", "sip:a", Headers([("X", "a\nb")])),
        Request("INVITE", "sip:a", Headers([("X", "a\0")])),
        Request("INVITE", "sip:a", Headers([("X:", "a")])),
        Response(200, "OK\r\nX: y", Headers()),
        Response(99, "OK", Headers()),
    ],
)
def test_nothing_breaks_out_of_its_line(message: Request | Response) -> None:
    with pytest.raises(SipError):
        bytes(message)


def exercise(data: bytes) -> None:
    """Everything that reads a message; lets only SipError through."""
    message = parse_message(data)
    if isinstance(message, Request):
        bytes(make_response(message, 400, to_tag="t"))
        stamp_source(message, ("192.0.2.7", 5060))
        if validate(message, allow=["INVITE", "OPTIONS", "REGISTER"]) is None:
            _ = message.vias, message.from_tag, message.to_tag, message.sip_call_id, message.cseq
            _ = message.request_uri.username, message.request_uri.transport
    _ = message.max_forwards, message.expires, message.min_se, message.session_expires
    _ = message.retry_after, message.rseq, message.rack, message.refer_to, message.content_type
    for attribute in ("contact", "contacts", "routes", "record_routes"):
        with contextlib.suppress(SipError):
            getattr(message, attribute)
    again = parse_message(bytes(message))
    assert again.headers.get_all("via") == message.headers.get_all("via")


PIECES = [
    *(bytes([octet]) for octet in b'\r\n\0 \t,;:"<>@\\%=\xff[?*'),
    b"\r\n",
    b"\xc2\xa0",
    b"-1",
    b"9" * 30,
    b"Via: ",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from([INVITE, *TORTURE])))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        data[start:end] = draw(st.sampled_from(PIECES) | st.binary(max_size=6))
    return bytes(data)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(mutated())
def test_mutated_messages_raise_only_sip_errors(data: bytes) -> None:
    with contextlib.suppress(SipError):
        exercise(data)


@given(st.binary(max_size=200))
def test_noise_raises_only_sip_errors(data: bytes) -> None:
    with contextlib.suppress(SipError):
        exercise(data)


@pytest.mark.parametrize(
    "piece",
    [b"\r\n ", b"\r\nX: y", b"\r\nVia: a", b",", b";", b'"', b"<", b" ", b"\\", b":", b"(", b"\t"],
)
def test_large_messages_take_linear_time(piece: bytes) -> None:
    filler = piece * (60000 // len(piece))
    started = time.process_time()
    for line in (b"Via: SIP/2.0/UDP h", b"To: <sip:a>", b"From: ", b"X", b"CSeq: 1"):
        with contextlib.suppress(SipError):
            exercise(INVITE.replace(b"Max-Forwards: 68", line + filler))
    assert time.process_time() - started < 1

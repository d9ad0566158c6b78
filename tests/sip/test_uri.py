import contextlib
import time

import pytest
from hypothesis import example, given, strategies as st

from bridge.errors import SipError
from bridge.sip.grammar import Params
from bridge.sip.uri import MAX_URI, CSeq, NameAddr, SipUri, Via, format_host_port, parse_host_port

URIS = [
    ("sip:alice@example.com", "sip", "alice", "example.com", None),
    ("SIP:alice@Example.COM:5070", "sip", "alice", "Example.COM", 5070),
    ("sips:example.com", "sips", "", "example.com", None),
    ("sip:**99#@10.0.0.1", "sip", "**99#", "10.0.0.1", None),
    (
        "sip:+4930123;npdi;rn=+49@gw_1.local;user=phone",
        "sip",
        "+4930123;npdi;rn=+49",
        "gw_1.local",
        None,
    ),
    ("sip:a@[2001:db8::1]:5060;transport=tcp", "sip", "a", "2001:db8::1", 5060),
    ("sip:a@[fe80::1%eth0]", "sip", "a", "fe80::1%eth0", None),
    ("sip:3f2a9c@3f2a9c1b77", "sip", "3f2a9c", "3f2a9c1b77", None),
    ("sip:me@mail.com@host", "sip", "me@mail.com", "host", None),
    ("sip:jörg@example.com", "sip", "jörg", "example.com", None),
    ("sip:%75ser@host.", "sip", "%75ser", "host.", None),
    ("tel:+1-201-555-0123;phone-context=x", "tel", "+1-201-555-0123", "", None),
    ("urn:service:sos", "urn", "service:sos", "", None),
]


@pytest.mark.parametrize(("text", "scheme", "user", "host", "port"), URIS)
def test_uri(text: str, scheme: str, user: str, host: str, port: int | None) -> None:
    uri = SipUri.parse(text)
    assert (uri.scheme, uri.user, uri.host, uri.port) == (scheme, user, host, port)
    assert str(uri) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "sip", "sip:", "sip:@host", "sip:a@", "sip:a@host:", "sip:a@host:x", "sip:a@host:65536",
        "sip:a@ho st", "<sip:a@b>", "sip:a@[::1", "sip:a@[zz]", "sip:a@[::1]x", ":a@b", "1sip:a@b",
        "sip:a@b\r\nX: y", "tel:", "sip:a@h,b", "sip:a@::1",
    ],
)  # fmt: skip
def test_bad_uri(text: str) -> None:
    with pytest.raises(SipError):
        SipUri.parse(text)


def test_uri_details() -> None:
    uri = SipUri.parse(
        "sip:b%6Fb:secret@h;lr;self=1;transport=TCP?Replaces=a%40b%3Bto-tag%3D1&X=%zz"
    )
    assert uri.username == "bob"
    assert uri.password == "secret"
    assert uri.loose_routing
    assert uri.params.get("self") == "1"
    assert uri.transport == "tcp"
    assert uri.header("replaces") == "a@b;to-tag=1"
    assert uri.header("x") == "%zz"
    assert uri.header("y") is None
    assert str(uri.without_headers) == "sip:b%6Fb:secret@h;lr;self=1;transport=TCP"
    assert SipUri.parse("sip:h").without_headers == SipUri.parse("sip:h")


@pytest.mark.parametrize(
    ("text", "transport"),
    [
        ("sip:h", "udp"), ("sip:h;transport=UDP", "udp"), ("sips:h", "tls"),
        ("sips:h;transport=tcp", "tls"), ("sips:h;transport=ws", "wss"),
        ("sip:h;transport=tls", "tls"),
    ],
)  # fmt: skip
def test_uri_transport(text: str, transport: str) -> None:
    assert SipUri.parse(text).transport == transport


def test_uri_written_from_fields() -> None:
    uri = SipUri(user="a", host="::1", port=5060, params=Params([("lr", None)]), headers="X=1")
    assert str(uri) == "sip:a@[::1]:5060;lr?X=1"
    assert SipUri.parse(str(uri)) == uri
    assert str(SipUri("tel", "+49")) == "tel:+49"
    assert str(SipUri(host="h")) == "sip:h"


def test_host_port() -> None:
    assert parse_host_port(" h : 5060 ") == ("h", 5060)
    assert parse_host_port("[::1] :5060") == ("::1", 5060)
    assert format_host_port("::1", None) == "[::1]"


@pytest.mark.parametrize(
    ("text", "display", "uri", "tag"),
    [
        ("<sip:a@b>", "", "sip:a@b", None),
        ("sip:a@b;tag=1", "", "sip:a@b", "1"),
        ("Jane Doe <sip:a@b> ; tag = x;y", "Jane Doe", "sip:a@b", "x"),
        ('"Doe, Jane \\"J\\"" <sip:a@b;lr>;tag="q;r"', 'Doe, Jane "J"', "sip:a@b;lr", '"q;r"'),
        ("caller<sip:a@b>;tag=9", "caller", "sip:a@b", "9"),
        ("Jörg (Büro) <sip:a@b>", "Jörg (Büro)", "sip:a@b", None),
        ("\udcff <sip:a@b>", "\udcff", "sip:a@b", None),
        ("< sip:a@b >", "", "sip:a@b", None),
        (
            "<sip:a@b?Replaces=x%3Bfrom-tag%3D1>;refused",
            "",
            "sip:a@b?Replaces=x%3Bfrom-tag%3D1",
            None,
        ),
        ("<tel:+49;ext=1>;tag=", "", "tel:+49;ext=1", None),
    ],
)
def test_name_addr(text: str, display: str, uri: str, tag: str | None) -> None:
    value = NameAddr.parse(text)
    assert (value.display_name, str(value.uri), value.tag) == (display, uri, tag)
    assert str(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "*", '"open <sip:a@b>', '"name"', "<sip:a@b", "<sip:a@b>tag=1", "a, b <sip:c@d>",
        "sip:a@b?X=1", 'x "y" <sip:a@b>', "<>", "name",
    ],
)  # fmt: skip
def test_bad_name_addr(text: str) -> None:
    with pytest.raises(SipError):
        NameAddr.parse(text)


def test_name_addr_written_from_fields() -> None:
    value = NameAddr(SipUri.parse("sip:a@b"), 'The "A"', Params([("tag", "1")]))
    assert str(value) == '"The \\"A\\"" <sip:a@b>;tag=1'
    assert NameAddr.parse(str(value)) == value


def test_via() -> None:
    text = "SIP/2.0/udp pc_1.local:5070;branch=z9hG4bKx;rport;received=2001:db8::1"
    via = Via.parse(text)
    assert (via.transport, via.host, via.port, via.branch) == (
        "UDP",
        "pc_1.local",
        5070,
        "z9hG4bKx",
    )
    assert via.has_magic_cookie
    assert via.wants_rport
    assert via.rport is None
    assert via.received == "2001:db8::1"
    assert via.sent_by == "pc_1.local:5070"
    assert str(via) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0 host",
        "SIP/2.0/U@P host",
        "SIP//UDP h",
        "SIP/2.0/UDP h:x",
        "UDP h",
        ";;",
    ],
)
def test_bad_via(text: str) -> None:
    with pytest.raises(SipError):
        Via.parse(text)


@pytest.mark.parametrize("port", ["0", "00", "65536", "70000"])
def test_via_with_a_port_that_does_not_exist(port: str) -> None:
    text = f"SIP/2.0/UDP h:{port};branch=z"
    via = Via.parse(text)
    assert via.port == int(port)
    assert not Via.is_plain(text)
    with pytest.raises(SipError, match="Bad Via Port"):
        via.check_port()


@pytest.mark.parametrize(
    "text",
    [
        "SIP/2.0/UDP pc1.example.com:5060;branch=z9hG4bK-1;rport",
        "sip / 2.0 / udp  [2001:db8::1] :65535;branch=z;received=2001:db8::9",
        f"SIP/2.0/TCP h{';a=b' * 60}",
    ],
)
def test_via_that_may_stay_as_it_is(text: str) -> None:
    Via.parse(text).check_port()


def test_what_is_plain() -> None:
    assert Via.is_plain("SIP/2.0/UDP pc1.example.com:5060;branch=z9hG4bK-1;rport")
    assert not Via.is_plain("sip / 2.0 / udp  [2001:db8::1] :65535;branch=z")


SIP_LIKE = st.text(
    alphabet=st.sampled_from(list('aZ09.-_:;=,[]<"/ \t\x7f\x85\u0661\udcff')), max_size=9
)


LIKELY = st.sampled_from([";branch=z9hG4bK-1", ";rport", ";a=b", " ;rport", ":9", ":0", ";", "=z9"])


@given(
    st.sampled_from(["h", "a-9.b", "h:5060", "192.0.2.1:65535", ""]),
    st.lists(st.one_of(LIKELY, LIKELY, SIP_LIKE), max_size=6),
)
@example("", ["\x85"])
def test_what_is_plain_can_be_taken_apart(host: str, pieces: list[str]) -> None:
    text = f"SIP/2.0/UDP {host}{''.join(pieces)}"
    if Via.is_plain(text):
        via = Via.parse(text)
        via.check_port()
        assert str(via) == text


@pytest.mark.parametrize(
    ("text", "stamped"),
    [
        ("SIP/2.0/UDP 10.0.0.1;branch=z", "SIP/2.0/UDP 10.0.0.1;branch=z"),
        ("SIP/2.0/UDP 10.0.0.1;rport", "SIP/2.0/UDP 10.0.0.1;rport=9;received=10.0.0.1"),
        ("SIP/2.0/UDP pc;branch=z", "SIP/2.0/UDP pc;branch=z;received=10.0.0.1"),
        ("SIP/2.0/UDP pc;received=1.1.1.1;a", "SIP/2.0/UDP pc;received=10.0.0.1;a"),
        (
            "SIP / 2.0 / UDP  10.0.0.1 :5;rport=1",
            "SIP / 2.0 / UDP  10.0.0.1 :5;rport=9;received=10.0.0.1",
        ),
    ],
)
def test_via_stamped_with_its_source(text: str, stamped: str) -> None:
    assert str(Via.parse(text).with_source("10.0.0.1", 9)) == stamped


def test_via_written_from_fields() -> None:
    via = Via("TCP", "::1", 5060, Params([("branch", "z9hG4bK1"), ("rport", "x")]))
    assert str(via) == "SIP/2.0/TCP [::1]:5060;branch=z9hG4bK1;rport=x"
    assert via.rport is None
    assert str(via.with_source("::1", 7)).endswith(";rport=7;received=::1")
    assert via.with_source("::1", 7).rport == 7
    assert Via.parse(str(via)) == via


@pytest.mark.parametrize(
    "branch", ["", ";branch", ";branch=z9hG4bK", ";branch=z9hg4bkX", ";branch=1"]
)
def test_old_branches(branch: str) -> None:
    assert not Via.parse(f"SIP/2.0/UDP h{branch}").has_magic_cookie


def test_cseq() -> None:
    assert CSeq.parse("0009\t INVITE") == CSeq(9, "INVITE")
    assert str(CSeq(9, "INVITE")) == "9 INVITE"
    assert CSeq.parse(f"{2**31 - 1} BYE").number == 2**31 - 1


@pytest.mark.parametrize("text", ["", "1", "INVITE", "x INVITE", f"{2**31} BYE", "-1 BYE", "1 A B"])
def test_bad_cseq(text: str) -> None:
    with pytest.raises(SipError):
        CSeq.parse(text)


def test_longest_uri() -> None:
    text = "sip:a@".ljust(MAX_URI, "h")
    assert SipUri.parse(text).host == text[6:]
    with pytest.raises(SipError):
        SipUri.parse(text + "h")


@given(st.text(alphabet=st.sampled_from(list('sip:;@<>"\\,?=&%[]0 a\t.\udcff')), max_size=80))
def test_only_sip_errors(text: str) -> None:
    for parse in (SipUri.parse, NameAddr.parse, Via.parse, CSeq.parse):
        with contextlib.suppress(SipError):
            assert isinstance(str(parse(text)), str)


@pytest.mark.parametrize("piece", ["@", ";", "<", '"', "?", "%", "[", ":", "a=", "&", " ", "\\"])
def test_long_values_take_linear_time(piece: str) -> None:
    started = time.process_time()
    for text in (
        f"sip:a@h{piece * 60000}",
        f"<sip:a@h>{piece * 60000}",
        f"{piece * 60000}<sip:a@h>",
    ):
        for parse in (SipUri.parse, NameAddr.parse, Via.parse):
            with contextlib.suppress(SipError):
                parse(text)
    assert time.process_time() - started < 1

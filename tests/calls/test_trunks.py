from dataclasses import replace

import pytest

from bridge.calls.trunks import (
    REMEMBERED,
    Trunk,
    Trunks,
    check_headers,
    check_target,
    destination_allowed,
)
from bridge.errors import ConfigError, OverloadedError, RequestError
from bridge.sip.auth import Credentials
from bridge.sip.message import Headers, Request
from bridge.sip.private import is_private_host

TWILIO = Trunk(
    "twilio",
    ("54.172.60.0/23", "2001:db8:1::/48"),
    "sip:acme.pstn.example.com;transport=tls",
    prefixes=("+49", "+1212"),
)
PBX = Trunk(
    "pbx",
    ("10.0.0.5",),
    "sip:10.0.0.5:5080",
    credentials=Credentials("agent", "secret", "pbx"),
    register=True,
    prefixes=("1", "alice"),
)


def invite(uri: str, *headers: tuple[str, str]) -> Request:
    return Request("INVITE", uri, Headers(headers))


def test_matches_by_network_and_says_why() -> None:
    trunks = Trunks([TWILIO, PBX])
    match = trunks.match("54.172.61.9")
    assert match.trunk is TWILIO
    assert match.reasons[0] == "compared 54.172.61.9 with twilio 54.172.60.0/23: yes"
    stranger = trunks.match("203.0.113.9")
    assert stranger.trunk is None
    assert str(stranger) == (
        "compared 203.0.113.9 with twilio 54.172.60.0/23: no; "
        "compared 203.0.113.9 with twilio 2001:db8:1::/48: no; "
        "compared 203.0.113.9 with pbx 10.0.0.5/32: no"
    )


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("2001:db8:1::77", "twilio"),
        ("::ffff:10.0.0.5", "pbx"),
        ("fe80::1%eth0", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_sources(source: str, name: str | None) -> None:
    match = Trunks([TWILIO, PBX]).match(source)
    assert (match.trunk.name if match.trunk else None) == name
    assert match.reasons


def test_no_trunk_at_all() -> None:
    assert str(Trunks().match("192.0.2.1")) == "no trunk has addresses"


def test_trunks_that_share_a_network() -> None:
    wide = Trunk("wide", ("192.0.2.0/24",))
    narrow = Trunk("narrow", ("192.0.2.0/28",))
    sales = Trunk("sales", ("192.0.2.0/24",), caller_ids=("+4930123",))
    agent = Trunk("agent", ("192.0.2.0/24",), credentials=Credentials("agent", "x"))
    trunks = Trunks([wide, narrow, sales, agent])
    assert trunks.match("192.0.2.1").trunk is narrow
    assert trunks.match("192.0.2.1", invite("sip:+4930123@us")).trunk is sales
    match = trunks.match("192.0.2.1", invite("sip:agent@us"))
    assert match.trunk is agent
    assert "compared the Request-URI with wide: no" in match.reasons
    assert match.reasons[-1] == "took agent"
    assert trunks.match("192.0.2.1", invite("sip:us")).trunk is narrow
    assert trunks.match("192.0.2.1", invite("garbage")).trunk is narrow


def test_calls_at_once() -> None:
    trunk = replace(TWILIO, max_calls=2)
    trunks = Trunks([trunk, PBX])
    for _ in range(2):
        trunks.admit(trunk, 0.0)
    with pytest.raises(OverloadedError) as caught:
        trunks.admit(trunk, 0.0)
    assert caught.value.code == "trunk_calls"
    trunks.admit(PBX, 0.0)
    trunks.release(trunk)
    trunks.admit(trunk, 0.0)
    for _ in range(5):
        trunks.release(trunk)
    assert trunks.calls(trunk) == 0


def test_calls_a_second() -> None:
    trunk = replace(TWILIO, max_cps=2.0)
    trunks = Trunks([trunk])
    admitted = 0
    for tick in range(100):
        try:
            trunks.admit(trunk, tick / 10)
        except OverloadedError:
            continue
        admitted += 1
    assert 19 <= admitted <= 22
    assert trunks.calls(trunk) == admitted
    slow = replace(TWILIO, max_cps=0.5)
    trunks = Trunks([slow])
    trunks.admit(slow, 0.0)
    with pytest.raises(OverloadedError) as caught:
        trunks.admit(slow, 1.0)
    assert caught.value.code == "trunk_cps"
    trunks.admit(slow, 2.5)


@pytest.mark.parametrize(
    ("number", "allowed"),
    [
        ("+4930123456", True),
        ("+49 30", False),
        ("+49-(30)-12.34", True),
        ("+12125550100", True),
        ("+19005550100", False),
        ("004930", False),
        ("", False),
        ("+49\r\n", False),
        ("+49;x", False),
        ("+49" + "1" * 80, False),
    ],
)
def test_number_policy(number: str, allowed: bool) -> None:
    assert destination_allowed(TWILIO, number) is allowed
    assert not destination_allowed(replace(TWILIO, prefixes=()), number)


def test_tel_goes_through_the_trunk() -> None:
    uri = check_target(TWILIO, "tel:+49-30-123")
    assert str(uri) == "sip:+4930123@acme.pstn.example.com;transport=tls"
    with pytest.raises(RequestError) as caught:
        check_target(replace(TWILIO, uri=""), "tel:+4930")
    assert "no uri" in caught.value.message


@pytest.mark.parametrize(
    ("trunk", "target"),
    [
        (TWILIO, "sip:+4930@acme.pstn.example.com"),
        (TWILIO, "sips:%2B4930@edge.example.net:5061;transport=tcp"),
        (PBX, "sip:alice@10.0.0.5"),
        (PBX, "sip:1001@10.0.0.5:5090;user=phone"),
        (replace(PBX, private_hosts=True), "sip:1001@192.168.7.7"),
        (replace(TWILIO, prefixes=("*",)), "sip:anyone@example.net"),
    ],
)
def test_targets(trunk: Trunk, target: str) -> None:
    assert str(check_target(trunk, target)) == target


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("tel:+4930\r\nX-Evil: 1", "line break"),
        ("tel:+4930\n", "line break"),
        ("sip:+4930\0@example.com", "NUL"),
        ("sip:+4930@example.com?Replaces=a", "headers"),
        ("sip:+4930@example.com?", "headers"),
        ("sip:+4930:pw@example.com", "password"),
        ("sip:+4930@example.com;maddr=10.0.0.1", "parameters"),
        ("sip:+4930@example.com;lr", "parameters"),
        ("sip:+4930;npdi@example.com", "user part"),
        ("sip:+1900555@example.com", "prefixes"),
        ("sip:%2B1900555@acme.pstn.example.com", "prefixes"),
        ("sip:0900555@example.com", "prefixes"),
        ("sip:bob@example.com", "prefixes"),
        ("sip:example.com", "prefixes"),
        ("tel:+1900", "prefixes"),
        ("tel:+49;phone-context=+1900", "parameters"),
        ("tel:", "not a tel: or sip: URI"),
        ("+4930", "not a tel: or sip: URI"),
        ("https://example.com", "begin with"),
        ("sip:+4930@10.0.0.1", "private"),
        ("sip:+4930@127.0.0.1", "private"),
        ("sip:+4930@[::1]", "private"),
        ("sip:+4930@localhost", "private"),
        ("sip:+4930@2130706433", "private"),
        ("sip:+4930@" + "a" * 300, "too long"),
    ],
)
def test_refused_targets(target: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_target(TWILIO, target, param="to")
    assert words in caught.value.message
    assert caught.value.param == "to"


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
        ("sip.example.com", False),
        ("sip.example.com.", False),
        ("1and1.example", False),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("224.0.0.1", True),
        ("::ffff:192.168.0.1", True),
        ("64:ff9b::a00:1", True),
        ("2002:a00:1::", True),
        ("fd00::1", True),
        ("127.1", True),
        ("0x7f.0.0.1", True),
        ("0x7f000001", True),
        ("pbx", True),
        ("pbx.local", True),
        ("Metadata.Internal.", True),
        ("", True),
    ],
)
def test_private_hosts(host: str, private: bool) -> None:
    assert is_private_host(host) is private


def test_outgoing_headers() -> None:
    check_headers({"X-Ticket": "42", "User-to-User": "abc;encoding=hex"})
    for name, value, param in (
        ("X-Ticket", "a\r\nVia: b", "headers.X-Ticket"),
        ("X-Ticket", "a\0", "headers.X-Ticket"),
        ("Via", "x", "headers.Via"),
        ("v", "x", "headers.v"),
        ("X Ticket", "x", "headers"),
        ("X\r\nY", "x", "headers"),
        ("", "x", "headers"),
    ):
        with pytest.raises(RequestError) as caught:
            check_headers({name: value})
        assert caught.value.param == param


@pytest.mark.parametrize(
    ("trunk", "param"),
    [
        (Trunk("t", ("300.0.0.1",)), "sip.trunks.t.addresses"),
        (Trunk("t", uri="pstn.example.com"), "sip.trunks.t.uri"),
        (Trunk("t", uri="tel:+49"), "sip.trunks.t.uri"),
        (Trunk("t", uri="sip:a", register=True), "sip.trunks.t.register"),
        (Trunk("t", prefixes=("+49 30",)), "sip.trunks.t.prefixes"),
        (Trunk("t", max_cps=-1.0), "sip.trunks.t.max_calls"),
        (Trunk("t", header_out={"Via": "x"}), "sip.trunks.t.header_out.Via"),
        (Trunk("t", caller_ids=("+49\n",)), "sip.trunks.t.caller_ids"),
    ],
)
def test_tables_that_cannot_be_meant(trunk: Trunk, param: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Trunks([trunk])
    assert caught.value.param == param


def test_table() -> None:
    trunks = Trunks([TWILIO, PBX])
    assert (len(trunks), list(trunks)) == (2, [TWILIO, PBX])
    assert trunks.get("pbx") is PBX
    assert trunks.get("other") is None
    with pytest.raises(ConfigError):
        Trunks([TWILIO, TWILIO])
    assert "secret" not in repr(PBX)


def test_what_is_remembered_of_addresses_has_an_end() -> None:
    trunks = Trunks([TWILIO, PBX])
    for n in range(3 * REMEMBERED):
        assert trunks.match(f"2001:db8:1::{n:x}").trunk is TWILIO
    assert len(trunks._compared) <= REMEMBERED
    again = trunks.match("10.0.0.5")
    assert (again.trunk, again) == (PBX, trunks.match("10.0.0.5"))

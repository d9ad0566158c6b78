import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from bridge.sip.resolver import (
    MAX_TARGETS,
    Naptr,
    Record,
    ResolveError,
    Srv,
    Target,
    in_order,
    resolve,
)
from bridge.sip.uri import SipUri

ALL = ("udp", "tcp", "tls")
Zone = Mapping[tuple[str, str], Sequence[Record]]


def find(
    uri: str,
    zone: Zone,
    *,
    transports: Sequence[str] = ALL,
    families: Sequence[int] = (4,),
    asked: list[str] | None = None,
) -> list[Target]:
    """What comes out when `zone` (by kind and name) answers."""
    steps = resolve(
        SipUri.parse(uri), transports=transports, families=families, rng=random.Random(1)
    )
    try:
        questions = next(steps)
        while True:
            if asked is not None:
                asked += [f"{question.kind} {question.name}" for question in questions]
            answers = [zone.get((question.kind, question.name), ()) for question in questions]
            questions = steps.send(answers)
    except StopIteration as stop:
        found: list[Target] = stop.value
        return found


def flat(targets: Sequence[Target]) -> list[str]:
    return [f"{t.transport} {t.address[0]} {t.address[1]}" for t in targets]


CARRIER: Zone = {
    ("NAPTR", "example.com"): [
        Naptr(50, 50, "s", "SIP+D2U", "_sip._udp.example.com"),
        Naptr(10, 60, "S", "sip+d2t", "_sip._tcp.example.com"),
        Naptr(10, 50, "s", "SIPS+D2T", "_sips._tcp.example.com"),
        Naptr(5, 1, "u", "E2U+sip", "elsewhere.example.com"),
        Naptr(6, 1, "s", "SIP+D2S", "_sip._sctp.example.com"),
    ],
    ("SRV", "_sips._tcp.example.com"): [Srv(1, 0, 5061, "a.example.com")],
    ("SRV", "_sip._tcp.example.com"): [Srv(2, 0, 5070, "b.example.com")],
    ("SRV", "_sip._udp.example.com"): [
        Srv(2, 0, 5060, "b.example.com"),
        Srv(1, 0, 5060, "a.example.com"),
    ],
    ("A", "a.example.com"): ["192.0.2.1"],
    ("A", "b.example.com"): ["192.0.2.2"],
    ("AAAA", "a.example.com"): ["2001:db8::1"],
    ("A", "example.com"): ["192.0.2.9"],
}


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("sip:192.0.2.7", ["udp 192.0.2.7 5060"]),
        ("sip:[2001:db8::7]:5070", ["udp 2001:db8::7 5070"]),
        ("sip:192.0.2.7;transport=TCP", ["tcp 192.0.2.7 5060"]),
        ("sips:192.0.2.7", ["tls 192.0.2.7 5061"]),
        ("sip:example.com;maddr=192.0.2.8", ["udp 192.0.2.8 5060"]),
        ("sip:example.com:5080", ["udp 192.0.2.9 5080"]),
        ("sips:example.com:5081", ["tls 192.0.2.9 5081"]),
        ("sip:example.com;transport=tcp", ["tcp 192.0.2.2 5070"]),
        ("sip:example.com;transport=udp", ["udp 192.0.2.1 5060", "udp 192.0.2.2 5060"]),
        ("sip:a.example.com;transport=tls", ["tls 192.0.2.1 5061"]),
        ("sip:a.example.com", ["udp 192.0.2.1 5060"]),
        ("sips:example.com", ["tls 192.0.2.1 5061"]),
        (
            "sip:example.com",
            [
                "tls 192.0.2.1 5061",
                "tcp 192.0.2.2 5070",
                "udp 192.0.2.1 5060",
                "udp 192.0.2.2 5060",
            ],
        ),
    ],
)
def test_rfc_3263(uri: str, wanted: list[str]) -> None:
    assert flat(find(uri, CARRIER)) == wanted


def test_only_transports_that_we_have() -> None:
    assert flat(find("sip:example.com", CARRIER, transports=["tcp"])) == ["tcp 192.0.2.2 5070"]
    for uri in ("sip:example.com;transport=tls", "sips:example.com", "sip:example.com:5060"):
        with pytest.raises(ResolveError):
            find(uri, CARRIER, transports=["tcp"])
    for uri in ("tel:+15550100", "sip:example.com;transport=sctp", "sip:example.com;transport=ws"):
        with pytest.raises(ResolveError):
            find(uri, CARRIER)


def test_without_naptr_srv_names_of_our_transports_are_tried() -> None:
    zone = {key: records for key, records in CARRIER.items() if key[0] != "NAPTR"}
    asked: list[str] = []
    found = find("sip:example.com", zone, asked=asked)
    assert flat(found) == ["udp 192.0.2.1 5060", "udp 192.0.2.2 5060", "tcp 192.0.2.2 5070"]
    assert asked[:3] == [
        "NAPTR example.com",
        "SRV _sip._udp.example.com",
        "SRV _sip._tcp.example.com",
    ]


def test_the_certificate_must_show_the_name_that_was_dialled() -> None:
    assert {target.server_name for target in find("sips:Example.com", CARRIER)} == {"example.com"}
    assert {target.server_name for target in find("sips:192.0.2.1", CARRIER)} == {""}


def test_families_in_the_order_asked_for() -> None:
    found = find("sip:a.example.com:5060", CARRIER, families=(6, 4))
    assert flat(found) == ["udp 2001:db8::1 5060", "udp 192.0.2.1 5060"]


def test_a_service_that_is_not_offered() -> None:
    zone: Zone = {
        ("SRV", "_sip._udp.example.com"): [Srv(0, 0, 0, ".")],
        ("SRV", "_sip._tcp.example.com"): [Srv(0, 0, 5060, "a.example.com")],
        ("A", "a.example.com"): ["192.0.2.1"],
    }
    assert flat(find("sip:example.com", zone)) == ["tcp 192.0.2.1 5060"]


def test_a_server_without_address_is_left_out() -> None:
    zone: Zone = {
        ("SRV", "_sip._udp.x"): [Srv(0, 0, 5060, "dead.x"), Srv(1, 0, 5061, "live.x")],
        ("A", "live.x"): ["192.0.2.1"],
    }
    assert flat(find("sip:x", zone)) == ["udp 192.0.2.1 5061"]
    with pytest.raises(ResolveError, match="nowhere"):
        find("sip:nowhere", zone)


def test_there_is_an_end_to_the_targets() -> None:
    zone: Zone = {("A", "x"): [f"10.0.0.{number}" for number in range(200)]}
    assert len(find("sip:x:5060", zone)) == MAX_TARGETS


def test_weights_are_shares() -> None:
    servers = [Srv(1, 30, 1, "c"), Srv(1, 10, 1, "b"), Srv(1, 0, 1, "a"), Srv(0, 0, 1, "first")]
    rng = random.Random(7)
    seconds: Counter[str] = Counter()
    for _ in range(4000):
        ordered = [server.target for server in in_order(servers, rng)]
        assert sorted(ordered) == ["a", "b", "c", "first"]
        assert ordered[0] == "first"
        seconds[ordered[1]] += 1
    assert 2700 < seconds["c"] < 3200
    assert 0 < seconds["a"] < 200

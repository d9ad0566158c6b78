import random

import pytest

from bridge.calls.extensions import Extensions, ExtensionSettings, extensions_of
from bridge.calls.policy import CallPolicy, Dial, SourcePolicy
from bridge.calls.trunks import Trunk, Trunks
from bridge.config import Registrar, Sip
from bridge.errors import RequestError
from bridge.sip.events import Flow
from bridge.sip.message import Request, parse_message
from tests.sip.playbook import caller_request

OFFICE = ExtensionSettings({"alice": "wonderland"}, ("office",), addresses=("192.0.2.0/24",))


def policy(*trunks: Trunk, trusted: tuple[str, ...] = (), unknown: bool = False) -> CallPolicy:
    return CallPolicy(
        SourcePolicy(trusted, admits_unknown=unknown),
        Trunks(trunks),
        now=lambda: 0.0,
        extensions=Extensions(OFFICE, random.Random(1)),
    )


def invite(source: str) -> tuple[Request, Flow]:
    request = parse_message(bytes(caller_request("INVITE")))
    assert isinstance(request, Request)
    return request, Flow("udp", ("192.0.2.1", 5060), (source, 5060))


@pytest.mark.parametrize("unknown", [False, True])
def test_phones_must_bring_a_password(*, unknown: bool) -> None:
    found = policy(unknown=unknown)
    assert found.admits("192.0.2.9")
    rejection = found.authenticate(*invite("192.0.2.9"), 0.0)
    assert rejection is not None
    assert rejection.status == 401
    assert 'realm="office"' in rejection.headers[0][1]


def test_elsewhere_nothing_has_changed() -> None:
    assert not policy().admits("198.51.100.1")
    assert policy(unknown=True).authenticate(*invite("198.51.100.1"), 0.0) is None


def test_trunks_and_trusted_sources_are_no_phones() -> None:
    carrier = Trunk("carrier", addresses=("192.0.2.9",))
    assert policy(carrier).authenticate(*invite("192.0.2.9"), 0.0) is None
    assert policy(trusted=("192.0.2.9/32",)).authenticate(*invite("192.0.2.9"), 0.0) is None


def test_a_phone_is_called_without_a_trunk() -> None:
    order = policy().order(Dial("", "sip:alice@OFFICE", caller="desk"))
    assert (str(order.target), order.caller, order.registered) == ("sip:alice@OFFICE", "desk", True)


@pytest.mark.parametrize(
    ("destination", "param"),
    [
        ("sip:alice@elsewhere.example", "transport.trunk"),
        ("+49301234", "transport.destination"),
        ("sip:alice@office\r\nVia: x", "transport.destination"),
    ],
)
def test_everybody_else_needs_one(destination: str, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        policy().order(Dial("", destination))
    assert caught.value.param == param


def test_settings() -> None:
    assert extensions_of(Sip()) is None
    users = Registrar(users={"alice": "x"}, realm="office.example")
    found = extensions_of(Sip(host="0.0.0.0", advertised_address="192.0.2.1", registrar=users))
    assert found is not None
    assert found.gate.realm == "office.example"
    order = CallPolicy(
        SourcePolicy((), admits_unknown=False), Trunks(), now=lambda: 0.0, extensions=found
    ).order(Dial("", "sip:alice@192.0.2.1"))
    assert order.registered

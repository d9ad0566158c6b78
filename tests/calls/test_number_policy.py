"""Who may be called is one question, whoever asks it: calls, transfers both ways, redirects."""

from collections.abc import Callable

import pytest

from bridge.calls.policy import CallPolicy, Dial, SourcePolicy
from bridge.calls.trunks import Trunk, Trunks
from bridge.errors import RequestError
from bridge.legs.sip_leg import LegTerms

HOME = "pstn.example.com"
TERMS = LegTerms("carrier")


def policy(*prefixes: str) -> CallPolicy:
    carrier = Trunk("carrier", uri=f"sip:{HOME}", prefixes=prefixes, redirects="any")
    # Not even development opens what a trunk has closed.
    sources = SourcePolicy((), admits_unknown=True)
    return CallPolicy(sources, Trunks([carrier]), now=lambda: 0.0)


WAYS: dict[str, Callable[[CallPolicy, str], object]] = {
    "a call": lambda rules, target: rules.order(Dial("carrier", target)),
    "a transfer by us": lambda rules, target: rules.transfer_target(TERMS, target),
    "a transfer by the caller": lambda rules, target: rules.transfer_order(TERMS, target, "", ""),
    "a redirect": lambda rules, target: rules.redirected(TERMS, target),
}


def allowed(way: str, rules: CallPolicy, target: str) -> bool:
    try:
        WAYS[way](rules, target)
    except RequestError:
        return False
    return True


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("target", "may"),
    [
        ("tel:+4930123", True),
        ("tel:+49-30-123", True),
        (f"sip:+4930123@{HOME}", True),
        ("sip:+4930123@elsewhere.example", True),
        (f"sip:%2B4930123@{HOME}", True),
        ("tel:+1900555", False),
        (f"sip:+1900555@{HOME}", False),
        (f"sip:%2B1900555@{HOME}", False),
        (f"sip:+49-30;phone-context=+1@{HOME}", False),
        ("tel:+4930;phone-context=+1900", False),
        ("tel:0049301", False),
        (f"sip:{HOME}", False),
        (f"sip:alice@{HOME}", False),
        (f"sip:+4930123@{HOME}?Replaces=x", False),
        (f"sip:+4930123@{HOME};maddr=10.0.0.1", False),
        ("sip:+4930123@10.0.0.1", False),
        ("sip:+4930123@2130706433", False),
        ("sip:+4930123@[::ffff:127.0.0.1]", False),
        ("sip:+4930123@pbx.internal", False),
        ("mailto:a@example.com", False),
        ("tel:", False),
        ("", False),
        ("tel:+4930123\r\nX: y", False),
    ],
)
def test_one_verdict(way: str, target: str, *, may: bool) -> None:
    assert allowed(way, policy("+49"), target) is may


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", ["tel:+4930123", f"sip:+4930123@{HOME}", f"sip:bob@{HOME}"])
def test_without_prefixes_nobody_may_be_called(way: str, target: str) -> None:
    assert not allowed(way, policy(), target)
    assert allowed(way, policy("*"), target)

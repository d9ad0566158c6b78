import pytest

from bridge.calls.policy import CallPolicy, Dial, SourcePolicy
from bridge.calls.trunks import Trunk, Trunks
from bridge.errors import RequestError
from bridge.legs.sip_leg import LegTerms


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("198.51.100.7", True),
        ("198.51.101.7", False),
        ("::ffff:198.51.100.7", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("not an address", False),
    ],
)
def test_trusted_networks(address: str, *, admitted: bool) -> None:
    policy = SourcePolicy(["198.51.100.0/24", "2001:db8::/32"], admits_unknown=False)
    assert policy.admits(address) is admitted


def test_development_admits_everybody() -> None:
    assert SourcePolicy([], admits_unknown=True).admits("192.0.2.1")


@pytest.mark.parametrize("unknown", [True, False])
def test_who_may_speak_in_calls_of_others(unknown: bool) -> None:
    trunks = Trunks([Trunk("carrier", addresses=("203.0.113.0/28",))])
    sources = SourcePolicy(["198.51.100.7"], admits_unknown=unknown)
    policy = CallPolicy(sources, trunks, now=lambda: 0.0)
    assert policy.trusts("203.0.113.9")
    assert policy.trusts("198.51.100.7")
    assert not policy.trusts("192.0.2.1")
    assert policy.admits("192.0.2.1") is unknown


@pytest.mark.parametrize("destination", ["+49301234567", "tel:+49301234567"])
def test_numbers_go_to_the_trunk(destination: str) -> None:
    carrier = Trunk("carrier", uri="sip:sip.carrier.example", prefixes=("+49",))
    sources = SourcePolicy((), admits_unknown=True)
    policy = CallPolicy(sources, Trunks([carrier]), now=lambda: 0.0)
    order = policy.order(Dial("carrier", destination))
    assert str(order.target) == "sip:+49301234567@sip.carrier.example"


@pytest.mark.parametrize("target", ["tel:+49301234567", "sip:bob@example.com"])
def test_calls_of_no_trunk_are_transferred_in_development_only(target: str) -> None:
    def policy(*, admits_unknown: bool) -> CallPolicy:
        sources = SourcePolicy(["198.51.100.0/24"], admits_unknown=admits_unknown)
        return CallPolicy(sources, Trunks(), now=lambda: 0.0)

    assert policy(admits_unknown=True).transfer_target(LegTerms(), target) == target
    with pytest.raises(RequestError) as caught:
        policy(admits_unknown=False).transfer_target(LegTerms(), target)
    assert (caught.value.code, caught.value.param) == ("destination_not_allowed", "target_uri")

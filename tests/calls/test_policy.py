import pytest

from bridge.calls.policy import SourcePolicy


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

import pytest

from bridge.legs.sip_headers import extras, shown

INVITE = (
    ("Via", "SIP/2.0/UDP a"),
    ("f", "<sip:alice@a>;tag=1"),
    ("X-One", "1"),
    ("Diversion", "<sip:d>"),
    ("P-Asserted-Identity", "<sip:+4930@a>"),
    ("Authorization", "Digest x"),
    ("x-two", "2"),
    ("X-One", "again"),
    ("User-to-User", "00ff;encoding=hex"),
)


def names(headers: tuple[tuple[str, str], ...]) -> list[str]:
    return [name for name, _ in headers]


@pytest.mark.parametrize(
    ("allowed", "seen"),
    [
        ((), []),
        (("X-*", "diversion"), ["X-One", "Diversion", "x-two", "X-One"]),
        (("User-To-User",), ["User-to-User"]),
        (
            ("*",),
            ["X-One", "Diversion", "P-Asserted-Identity", "x-two", "X-One", "User-to-User"],
        ),
    ],
)
def test_a_list_lets_extras_through(allowed: tuple[str, ...], seen: list[str]) -> None:
    through = shown(INVITE, allowed, trusted=True)
    assert names(through) == ["Via", "f", *seen]
    assert names(extras(through)) == seen


@pytest.mark.parametrize("allowed", ["*", "P-Asserted-Identity"])
def test_strangers_assert_nothing(allowed: str) -> None:
    assert "P-Asserted-Identity" not in names(shown(INVITE, [allowed], trusted=False))


def test_nobody_sees_credentials() -> None:
    for trusted in (True, False):
        through = shown(INVITE, ("*", "Authorization"), trusted=trusted)
        assert "Authorization" not in names(through)

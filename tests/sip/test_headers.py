import pytest

from bridge.errors import SipError
from bridge.sip.headers import Headers, canonical_name

VIAS = Headers([("Via", "a, b"), ("v", "c"), ("X-One", "1"), ("VIA", "d,,")])


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("v", "via"),
        ("V", "via"),
        ("VIA", "via"),
        ("X-One", "x-one"),
        ("q", "q"),
        ("x", "session-expires"),
    ],
)
def test_canonical_name(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical


def test_look_ups() -> None:
    assert VIAS.get("via") == "a, b"
    assert VIAS.get("V") == "a, b"
    assert VIAS.get("to") is None
    assert VIAS.get_all("via") == ["a, b", "c", "d,,"]
    assert VIAS.values("v") == ["a", "b", "c", "d"]
    assert VIAS.values("to") == []
    assert "x-one" in VIAS
    assert "y" not in VIAS
    assert len(VIAS) == 4
    assert list(VIAS) == list(VIAS.items())


def test_no_more_values_than_wanted() -> None:
    assert len(VIAS.values("via", 4)) == 4
    for most in (3, 2):
        with pytest.raises(SipError):
            VIAS.values("via", most)
    assert VIAS.values("x", 0) == []


def test_edits_make_new_headers() -> None:
    assert Headers().added("A", "1").items() == (("A", "1"),)
    assert VIAS.without("via").items() == (("X-One", "1"),)
    assert VIAS.replaced("v", "new").get_all("via") == ["new", "c", "d,,"]
    assert VIAS.replaced("To", "x").get("t") == "x"
    assert VIAS.get("via") == "a, b"


def test_headers_are_values() -> None:
    same = Headers(VIAS.items())
    assert same == VIAS
    assert hash(same) == hash(VIAS)
    assert Headers() != ()
    assert repr(Headers([("A", "1")])) == "Headers([('A', '1')])"

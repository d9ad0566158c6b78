import time

import pytest

from bridge.errors import SipError
from bridge.sip.grammar import (
    MAX_PARAMS,
    MAX_PIECES,
    NO_PARAMS,
    Params,
    closing_quote,
    first_outside,
    has_bare_nul,
    is_token,
    parse_number,
    quote,
    split_outside,
    unquote,
)


@pytest.mark.parametrize(
    ("text", "separator", "parts"),
    [
        ("a,b , c", ",", ["a", "b", "c"]),
        ("", ",", [""]),
        ("a,,b", ",", ["a", "", "b"]),
        ('"a, b" <sip:x>, <sip:y,z>', ",", ['"a, b" <sip:x>', "<sip:y,z>"]),
        (r'"a\", b", c', ",", [r'"a\", b"', "c"]),
        ('"open, b', ",", ['"open, b']),
        ("<open, b", ",", ["<open, b"]),
        ('a="x;y";b', ";", ['a="x;y"', "b"]),
        ("<sip:a;b>;c", ";", ["<sip:a;b>", "c"]),
    ],
)
def test_split_outside(text: str, separator: str, parts: list[str]) -> None:
    assert split_outside(text, separator) == parts
    assert first_outside(text, separator) == parts[0]
    assert split_outside(text, separator, len(parts)) == parts
    with pytest.raises(SipError):
        split_outside(text, separator, len(parts) - 1)


def test_more_parameters_than_any_peer_needs() -> None:
    assert len(Params.parse(";a" * (MAX_PARAMS - 1))) == MAX_PARAMS - 1
    for flood in (";a" * MAX_PARAMS, ";" * 8000, ';a="b"' * MAX_PARAMS):
        with pytest.raises(SipError):
            Params.parse(flood)


@pytest.mark.parametrize("pair", ['""', "<>", '"a"b'])
def test_quotes_and_brackets_without_end(pair: str) -> None:
    pieces = MAX_PIECES // (2 if pair[-1] == "b" else 1)
    assert split_outside(pair * pieces + ",x", ",") == [pair * pieces, "x"]
    assert first_outside(pair * pieces + ",x", ",") == pair * pieces
    more = pair * (pieces + 1) + ",x"
    assert split_outside(more, ",") == [more]
    assert first_outside(more, ",") == more


@pytest.mark.parametrize(
    ("text", "found"), [("", False), ("\\\0", False), ("\0", True), ("\\\0\0", True)]
)
def test_bare_nul(text: str, found: bool) -> None:
    assert has_bare_nul(text) is found


@pytest.mark.parametrize("text", ["plain", 'with "quotes"', r"back\slash", ""])
def test_quote_round_trip(text: str) -> None:
    assert unquote(quote(text)) == text
    assert closing_quote(quote(text), 0) == len(quote(text)) - 1


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r'"\a\\\\b\"\\"', r'a\\b"' + "\\"),
        (r'"\\\""', r"\"" + ""),
        (r'"\\\\\""', r"\\" + '"'),
    ],
)
def test_unquote_takes_escapes_from_the_left(text: str, content: str) -> None:
    assert unquote(text) == content


def test_unquote_leaves_other_text_alone() -> None:
    assert unquote("token") == "token"
    assert unquote('"') == '"'


@pytest.mark.parametrize(
    ("text", "is_one"), [("a-b.c!%*_+`'~9", True), ("", False), ("a b", False)]
)
def test_is_token(text: str, is_one: bool) -> None:
    assert is_token(text) is is_one


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "0x1", "²", "\u0661", "256", "9" * 5000])
def test_parse_number_refuses(text: str) -> None:
    with pytest.raises(SipError):
        parse_number(text, 256)


def test_parse_number() -> None:
    assert parse_number(" 0068 ", 256) == 68


def test_params_keep_what_they_read() -> None:
    params = Params.parse(';Tag = as+x!y*z;lr;self=1; +sip.instance="<urn:uuid:1;2>";empty=;;')
    assert params.get("tag") == "as+x!y*z"
    assert params.get("lr") == ""
    assert params.get("SELF") == "1"
    assert params.get("+sip.instance") == '"<urn:uuid:1;2>"'
    assert params.get("gone") is None
    assert "LR" in params
    assert len(params) == 5
    assert [name for name, _ in params] == ["Tag", "lr", "self", "+sip.instance", "empty"]
    assert str(params) == ';Tag=as+x!y*z;lr;self=1;+sip.instance="<urn:uuid:1;2>";empty='
    assert repr(Params.parse("a=1")) == "Params(';a=1')"


def test_params_are_values() -> None:
    params = Params.parse("a=1;b")
    assert params == Params([("a", "1"), ("b", None)])
    assert hash(params) == hash(Params.parse(";a=1;b"))
    assert params != "a=1;b"
    assert str(params.replaced("A", "2")) == ";a=2;b"
    assert str(params.replaced("c", None)) == ";a=1;b;c"
    assert str(params.without("B")) == ";a=1"
    assert Params.parse("") is NO_PARAMS


@pytest.mark.parametrize(
    "hostile", ['"' * 60000, "<" * 60000, '"\\' * 30000, '""' * 30000, "<>" * 30000, " " * 60000]
)
def test_scanning_is_linear(hostile: str) -> None:
    started = time.process_time()
    split_outside(hostile, ",")
    split_outside(hostile + ",", ";")
    unquote(hostile)
    Params.parse(hostile)
    # Quadratic work on 60,000 characters takes seconds.
    assert time.process_time() - started < 0.5

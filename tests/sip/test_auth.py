import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from bridge.errors import SipError
from bridge.sip.auth import (
    Authorization,
    Challenge,
    Credentials,
    answer,
    authorise,
    choose,
    is_stale,
    next_nonce,
)
from bridge.sip.message import Headers, Response

MUFASA = Credentials("Mufasa", "Circle of Life", "http-auth@example.org")
BOB = Credentials("bob", "zanzibar", "biloxi.com")
URI = "sip:bob@biloxi.com"

SHA_256_SESS = "0b4a1efc19e1b701ec5775b6b16dde0fc416102e34a6c5bd6f957b20b5d79170"
# RFC 7616 section 3.9.1, and RFC 2617 section 3.5 with the name it uses in RFC 3261's domain.
RFC_7616 = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html",'
    ' algorithm={}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001,'
    ' cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="{}",'
    ' opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
RFC_2617 = (
    'Digest username="Mufasa", realm="testrealm@host.com",'
    ' nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html", qop=auth, nc=00000001,'
    ' cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1",'
    ' opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)


def challenged(*values: str, status: int = 401, header: str = "WWW-Authenticate") -> Response:
    return Response(status, "Unauthorized", Headers((header, value) for value in values))


def digest(realm: str = "biloxi.com", rest: str = 'nonce="n1", qop="auth"') -> str:
    return f'Digest realm="{realm}", {rest}'


def answered(*values: str, credentials: Credentials = BOB, body: bytes = b"") -> Authorization:
    found = authorise(challenged(*values), "REGISTER", URI, body, credentials, random.Random(7))
    assert found is not None
    assert found[0] == "Authorization"
    return Authorization.parse(found[1])


@pytest.mark.parametrize(
    ("text", "password"),
    [
        (RFC_7616.format("MD5", "8ca523f5e9506fed4657c9700eebdbec"), "Circle of Life"),
        (
            RFC_7616.format(
                "SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
            ),
            "Circle of Life",
        ),
        (RFC_2617, "Circle Of Life"),
    ],
)
def test_the_examples_of_the_rfcs(text: str, password: str) -> None:
    authorization = Authorization.parse(text)
    assert authorization.expected(password, "GET", b"") == authorization.response
    assert authorization.expected(password + "x", "GET", b"") != authorization.response
    assert Authorization.parse(str(authorization)) == authorization


def test_without_qop_as_rfc_2069() -> None:
    # The example of RFC 2069 section 2.4 with the response corrected by its errata.
    authorization = Authorization(
        "Mufasa",
        "testrealm@host.com",
        "dcd98b7102dd2f0e8b11d0f600bfb0c093",
        "/dir/index.html",
    )
    assert authorization.expected("CircleOfLife", "GET", b"") == "1949323746fe6a43ef61f9606e7febea"


@pytest.mark.parametrize(
    ("algorithm", "qop", "response"),
    [
        # draft-smith-sipping-auth-examples sections 3.1 to 3.3.
        (None, None, "bf57e4e0d0bffc0fbaedce64d59add5e"),
        (None, "auth", "89eb0059246c02b2f6ee02c7961d5ea3"),
        ("MD5-sess", "auth", "e4e4ea61d186d07a92c9e1f6919902e9"),
        # Computed apart, by the formulas of RFC 7616 section 3.4.
        ("MD5-sess", "auth-int", "8527c9ab1b4eed3fd75491f811944e26"),
        ("SHA-256-sess", "auth-int", SHA_256_SESS),
    ],
)
def test_qop_and_session_keys(algorithm: str | None, qop: str | None, response: str) -> None:
    authorization = Authorization(
        "bob", "biloxi.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", URI, "", algorithm, "0a4f113b"
    )
    authorization = replace(authorization, qop=qop, nc=1)
    assert authorization.expected("zanzibar", "INVITE", b"v=0\r\n") == response
    tampered = authorization.expected("zanzibar", "INVITE", b"v=1\r\n")
    assert (tampered == response) is (qop != "auth-int")


def test_answers_a_challenge() -> None:
    answer = answered(digest(rest='nonce="n1", qop="auth,auth-int", opaque="", algorithm=md5'))
    assert (answer.username, answer.realm, answer.uri) == ("bob", "biloxi.com", URI)
    assert (answer.qop, answer.nc, answer.opaque, answer.algorithm) == ("auth", 1, "", "md5")
    assert answer.cnonce
    assert answer.response == answer.expected("zanzibar", "REGISTER", b"")


def test_answers_the_proxy_in_its_own_header() -> None:
    response = challenged(digest(), status=407, header="Proxy-Authenticate")
    found = authorise(response, "INVITE", URI, b"", BOB, random.Random(7), 12)
    assert found is not None
    assert found[0] == "Proxy-Authorization"
    assert "nc=0000000c" in found[1]
    assert (
        authorise(replace(response, status=401), "INVITE", URI, b"", BOB, random.Random()) is None
    )


def test_body_integrity_when_nothing_else_is_offered() -> None:
    answer = answered(digest(rest='nonce="n1", qop="auth-int"'), body=b"v=0")
    assert answer.qop == "auth-int"
    assert answer.response == answer.expected("zanzibar", "REGISTER", b"v=0")


@pytest.mark.parametrize("first", ["MD5", "SHA-256", "SHA-256-sess", "SHA-512-256"])
def test_never_takes_md5_when_sha_256_is_offered(first: str) -> None:
    lines = [
        digest(rest=f'nonce="{a}", qop="auth", algorithm={a}') for a in (first, "SHA-256", "MD5")
    ]
    expected = first if first.startswith("SHA-256") else "SHA-256"
    assert answered(*lines).nonce == expected
    assert answered(", ".join(lines)).nonce == expected


@pytest.mark.parametrize(
    "line",
    [
        digest("elsewhere.com"),
        digest("Biloxi.com"),
        digest(rest='nonce="n", algorithm=SHA-512-256, qop="auth"'),
        digest(rest='nonce="n", qop="token"'),
        digest(rest='nonce="n", algorithm=MD5-sess'),
        digest(rest='nonce="", qop="auth"'),
        digest(rest="qop=auth"),
        'Digest nonce="n", qop="auth"',
        'Basic realm="biloxi.com"',
        'Digest realm="biloxi.com", realm="biloxi.com", nonce="n"',
        'Digest realm="biloxi.com, nonce="n"',
        'Digest realm="biloxi.com", nonce=a"b',
        'Digest realm="biloxi.com", no nce=n',
        "",
        ",",
        "Digest",
    ],
)
def test_gives_nothing_away(line: str) -> None:
    assert authorise(challenged(line), "BYE", URI, b"", BOB, random.Random()) is None
    assert answered(line, digest()).nonce == "n1"


def test_whichever_realm_asks() -> None:
    anyone = replace(BOB, realm=None)
    assert answered(digest("elsewhere.com"), credentials=anyone).realm == "elsewhere.com"


def test_quotes_and_commas_in_values() -> None:
    line = 'Digest realm="a \\"b\\", c", nonce="x,y=\\\\", opaque="<,", stale=TRUE, qop=auth'
    challenge = Challenge.parse(line)
    assert challenge.realm == 'a \\"b\\", c'
    assert challenge.nonce == "x,y=\\\\"
    assert challenge.stale
    assert Challenge.parse(str(challenge)) == challenge
    assert choose([line], Credentials("bob", "zanzibar", 'a "b", c')) == challenge
    quoted = answered(line, credentials=Credentials('b"ob', "zanzibar"))
    assert quoted.username == 'b\\"ob'


def test_stale_is_told() -> None:
    stale = challenged(digest(rest='nonce="n2", stale=true, qop="auth"'))
    assert is_stale(stale, BOB)
    assert not is_stale(challenged(digest()), BOB)
    assert not is_stale(stale, replace(BOB, realm="other"))
    assert not is_stale(Response(403, "Forbidden", stale.headers), BOB)


def test_next_nonce() -> None:
    def with_info(value: str) -> Response:
        return Response(200, "OK", Headers([("Authentication-Info", value)]))

    assert next_nonce(with_info('qop=auth, nextnonce="n,2", nc=00000001')) == "n,2"
    assert next_nonce(with_info('nextnonce=""')) is None
    assert next_nonce(with_info("what")) is None
    assert next_nonce(Response(200, "OK", Headers())) is None


def test_secrets_stay_out_of_representations() -> None:
    assert "zanzibar" not in repr(BOB)
    answer = answered(digest())
    assert answer.response not in repr(answer)


@pytest.mark.parametrize(
    "text",
    [
        'Digest username="u", realm="r", nonce="n", uri="sip:x"',
        'Digest username="u", realm="r", nonce="n", uri="sip:x", response="0", qop=auth, nc=1',
        'Digest username="u", realm="r", nonce="n", uri="u", response="0", qop=auth, nc=00000001',
        'Digest username="u", realm="r", nonce="n", uri="u", response="0", qop=auth, cnonce="c",'
        " nc=0000000g",
        "Basic dXNlcjpwYXNz",
    ],
)
def test_bad_authorization(text: str) -> None:
    with pytest.raises(SipError):
        Authorization.parse(text)


def test_unknown_qop_and_algorithm_cannot_be_computed() -> None:
    authorization = Authorization("u", "r", "n", "sip:x")
    for changed in (
        replace(authorization, algorithm="SHA-1"),
        replace(authorization, algorithm="MD5-sess"),
        replace(authorization, qop="conf"),
    ):
        with pytest.raises(SipError):
            changed.expected("p", "INVITE", b"")
    with pytest.raises(SipError):
        answer(Challenge("r", "n", "SHA-1"), "INVITE", URI, b"", BOB, random.Random())


PIECES = st.sampled_from(
    [*'"\\,=<>; \té', "Digest ", "realm", "nonce=", "qop", "auth", 'realm="r", nonce="n"']
)
JUNK = st.lists(PIECES | st.characters(exclude_categories=()), max_size=60).map("".join)


@given(JUNK)
def test_only_sip_errors(text: str) -> None:
    for parse in (Challenge.parse, Authorization.parse):
        try:
            parse(text)
        except SipError:
            continue
    choose([text, f"Digest {text}"], replace(BOB, realm=None))


@pytest.mark.parametrize(
    "piece", [*'"\\,=a<', "a ", "a=", "a\t", "Digest a=", '\\"', 'a="', ' a="b",']
)
def test_long_input_takes_linear_time(piece: str) -> None:
    def seconds(size: int) -> float:
        text = "Digest " + piece * (size // len(piece))
        best = 1.0
        for _ in range(3):
            start = time.perf_counter()
            choose([text], BOB)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(64_000) < 40 * seconds(8_000) + 0.01

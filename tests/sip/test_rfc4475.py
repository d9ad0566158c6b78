"""The 49 messages of RFC 4475, what it asks for and what we do with each.

Where the RFC leaves a choice ("should reject, may be lenient"), the third column says why ours
was made.
"""

from functools import partial

import pytest

from bridge.sip.message import Response, make_response, parse_message
from bridge.sip.validation import validate
from tests.sip import torture
from tests.sip.torture import DROP, VALID, Case

RFC = "rfc4475"
read = partial(torture.read, RFC)
request = partial(torture.request, RFC)

CASES = [
    # 3.1.1 valid messages
    Case("wsinv", "accept", VALID),
    Case("intmeth", "accept, or refuse the method", 405),
    Case("esc01", "accept", VALID),
    Case("escnull", "accept", VALID),
    Case("esc02", "not a REGISTER: refuse the method", 405),
    Case("lwsdisp", "accept", VALID),
    Case("longreq", "accept", VALID),
    Case("dblreq", "accept, ignore the trailing octets", VALID),
    Case("semiuri", "accept", VALID),
    Case("transports", "accept", VALID),
    Case("mpart01", "accept", VALID),
    Case("unreason", "accept", VALID),
    Case("noreason", "accept", VALID),
    # 3.1.2 invalid messages
    Case("badinv01", "400", 400),
    Case("clerr", "400 over UDP", 400),
    Case("ncl", "400", 400),
    Case("scalar02", "400", 400),
    Case("scalarlg", "discard", DROP),
    Case("quotbal", "400", 400),
    Case("ltgtruri", "400, or be lenient", 400),
    Case("lwsruri", "400", 400),
    Case("lwsstart", "400, or be lenient", 400),
    Case("trws", "400, or be lenient", 400),
    Case("escruri", "400, or be lenient", 400),
    Case("baddate", "400, or ignore the header", VALID, "Date is not used"),
    Case("regbadct", "400", 400),
    Case("badaspec", "400, or be lenient", VALID, "the blanks change nothing; phones send them"),
    Case("baddn", "400, or be lenient", 400),
    Case("badvers", "505", 505),
    Case("mismatch01", "400", 400),
    Case("mismatch02", "501 or 400", 400),
    Case("bigcode", "discard", DROP),
    # 3.2 transaction layer
    Case("badbranch", "match as RFC 2543 does, or 400", VALID, "Via.has_magic_cookie is false"),
    # 3.3 application layer
    Case("insuf", "400", 400),
    Case("unkscm", "416", 416),
    Case("novelsc", "416", 416),
    Case("unksm2", "accept, the registrar decides", VALID),
    Case("bext01", "420 with Unsupported", 420),
    Case("invut", "415 with Accept", 415),
    Case("regaut01", "as if without credentials", VALID, "the agent challenges or refuses"),
    Case("multi01", "400", 400),
    Case("mcl01", "400", 400),
    Case("bcast", "discard", VALID, "no transaction has its branch: the agent discards it"),
    Case("zeromf", "accept as a UAS", VALID),
    Case("cparam01", "accept, the registrar decides", VALID),
    Case("cparam02", "accept, the registrar decides", VALID),
    Case("regescrt", "accept, the registrar decides", VALID),
    Case("sdp01", "406", 406),
    # 3.4 backward compatibility
    Case("inv2543", "accept", VALID),
]


def test_the_table_is_complete() -> None:
    assert sorted(case.name for case in CASES) == torture.names(RFC)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(case: Case) -> None:
    assert torture.verdict(read(case.name)) == case.ours


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_accepted_messages_survive_writing(case: Case) -> None:
    torture.check_rewriting(read(case.name))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_request_can_be_answered(case: Case) -> None:
    torture.check_answer(read(case.name))


def test_wsinv() -> None:
    """Folding, compact names, odd case, blanks everywhere."""
    invite = request("wsinv")
    assert invite.method == "INVITE"
    assert invite.uri == "sip:vivekg@chair-dnrc.example.com;unknownparam"
    assert invite.to.uri.user == "vivekg"
    assert invite.to_tag == "1918181833n"
    assert invite.from_.display_name == 'J Rosenberg \\"'
    assert invite.from_tag == "98asjd8"
    assert invite.max_forwards == 68
    assert invite.sip_call_id == "wsinv.ndaksdj@192.0.2.1"
    assert (invite.cseq.number, invite.cseq.method) == (9, "INVITE")
    assert [(via.transport, via.host, via.branch) for via in invite.vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert [str(route.uri) for route in invite.routes] == [
        "sip:services.example.com;lr;unknownwith=value;unknown-no-value"
    ]
    assert invite.contact is not None
    assert invite.contact.params.get("q") == "0.33"
    assert len(invite.body) == 150


def test_intmeth() -> None:
    message = request("intmeth")
    assert message.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert message.request_uri.user == ("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*")
    assert message.to.display_name == "BEL:\x07 NUL:\0 DEL:\x7f"
    assert message.from_.display_name == "token1~` token2'+_ token3*%!.-"
    assert b"NUL:\\\0" in bytes(make_response(message, 405))


def test_esc01_and_escnull() -> None:
    assert request("esc01").request_uri.username == "sips:user@example.com"
    assert [contact.uri.username for contact in request("escnull").contacts] == ["\0", "\0\0"]


def test_lwsdisp() -> None:
    assert request("lwsdisp").from_.display_name == "caller"


def test_longreq() -> None:
    message = request("longreq")
    assert len(message.vias) == 34
    assert message.from_.tag is not None
    assert len(message.headers.values("contact")) == 1


def test_dblreq() -> None:
    assert request("dblreq").body == b""


def test_semiuri() -> None:
    uri = request("semiuri").request_uri
    assert (uri.user, uri.username, uri.host) == (
        "user;par=u%40example.net",
        "user;par=u@example.net",
        "example.com",
    )
    assert len(uri.params) == 0


def test_transports() -> None:
    assert [via.transport for via in request("transports").vias] == [
        "UDP",
        "SCTP",
        "TLS",
        "UNKNOWN",
        "TCP",
    ]


def test_unreason_and_noreason() -> None:
    unreason, noreason = parse_message(read("unreason")), parse_message(read("noreason"))
    assert isinstance(unreason, Response)
    assert unreason.reason == "= 2**3 * 5**2 но сто девяносто девять - простое"
    assert isinstance(noreason, Response)
    assert noreason.reason == ""
    assert bytes(noreason).startswith(b"SIP/2.0 100 \r\n")


def test_bext01_names_what_is_unsupported() -> None:
    rejection = validate(request("bext01"))
    assert rejection is not None
    assert rejection.headers == (("Unsupported", "nothingSupportsThis, nothingSupportsThisEither"),)


def test_badbranch_has_no_usable_branch() -> None:
    assert not request("badbranch").top_via.has_magic_cookie


def test_inv2543() -> None:
    message = request("inv2543")
    assert message.max_forwards is None
    assert message.top_via.branch is None
    assert message.from_tag is None

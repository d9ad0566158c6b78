import random
from dataclasses import replace

import pytest

from bridge.sip.auth import Challenge, Credentials, answer
from bridge.sip.digest_gate import DigestGate
from bridge.sip.events import Flow
from bridge.sip.message import Headers, Request, Response, parse_message
from bridge.sip.register import Registered, Registration, RegistrationConfig, SendRegister
from bridge.sip.registrar import Registrar, RegistrarLimits
from bridge.sip.uri import SipUri

UDP = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.7", 5070))
TCP = Flow("tcp", ("192.0.2.1", 5060), ("192.0.2.7", 49152), 3)
ALICE = SipUri.parse("sip:alice@Phones.example;transport=tcp")
PHONE = "<sip:alice@192.0.2.7:5070>"
DESK = "<sip:alice@192.0.2.7:5080>"


class Office:
    """A registrar, and a phone that knows its password."""

    def __init__(self, limits: RegistrarLimits | None = None) -> None:
        passwords = {"alice": "wonderland", "bob": "zanzibar"}
        self.gate = DigestGate("phones.example", passwords.get, random.Random(1))
        self.registrar = Registrar(["phones.example"], self.gate, limits=limits)
        self.cseq = 0

    def send(
        self,
        *contacts: str,
        user: str = "alice",
        to: str = "sip:alice@phones.example",
        headers: tuple[tuple[str, str], ...] = (),
        flow: Flow = UDP,
        now: float = 0.0,
        call_id: str = "c1",
    ) -> Response:
        self.cseq += 1
        request = Request(
            "REGISTER",
            "sip:phones.example",
            Headers(
                [
                    ("Via", "SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bK1"),
                    ("From", f"<{to}>;tag=f"),
                    ("To", f"<{to}>"),
                    ("Call-ID", call_id),
                    ("CSeq", f"{self.cseq} REGISTER"),
                    *(("Contact", contact) for contact in contacts),
                    *headers,
                ]
            ),
        )
        asked = self.answer(request, flow, now)
        assert asked.status == 401
        challenge = Challenge.parse(asked.headers.get("www-authenticate") or "")
        credentials = Credentials(user, {"alice": "wonderland", "bob": "zanzibar"}[user])
        proof = answer(challenge, "REGISTER", request.uri, b"", credentials, random.Random())
        signed = replace(request, headers=request.headers.added("Authorization", str(proof)))
        return self.answer(signed, flow, now)

    def answer(self, request: Request, flow: Flow, now: float) -> Response:
        read = parse_message(bytes(request))
        assert isinstance(read, Request)
        written = parse_message(bytes(self.registrar.register(read, flow, now)))
        assert isinstance(written, Response)
        return written

    def reached(self, now: float = 0.0) -> list[str]:
        return [f"<{b.contact.uri}>" for b in self.registrar.lookup(ALICE, now)]


def test_registers_and_lapses() -> None:
    office = Office()
    response = office.send(f"{PHONE};expires=120;q=0.5")
    assert response.status == 200
    assert response.headers.get("contact") == f"{PHONE};q=0.5;expires=120"
    assert response.to_tag
    (binding,) = office.registrar.lookup(ALICE, 119.0)
    assert binding.flow == UDP
    assert office.registrar.lookup(ALICE, 120.0) == ()
    assert len(office.registrar) == 0


def test_a_query_changes_nothing() -> None:
    office = Office()
    office.send(PHONE, DESK)
    response = office.send(now=100.0)
    assert response.headers.values("contact") == [f"{PHONE};expires=500", f"{DESK};expires=500"]


def test_refresh_removal_and_everything() -> None:
    office = Office()
    office.send(PHONE)
    office.send(DESK, headers=(("Expires", "3000"),))
    assert office.reached() == [DESK, PHONE]
    office.send("<sip:alice@192.0.2.7:5070;transport=UDP>;expires=3600", now=10.0)
    assert len(office.registrar) == 2
    office.send(f"{DESK};expires=0")
    assert len(office.reached()) == 1
    office.send(DESK)
    assert office.send("*").status == 400
    assert office.send("*", PHONE, headers=(("Expires", "0"),)).status == 400
    assert len(office.registrar) == 2
    cleared = office.send("*", headers=(("Expires", "0"),))
    assert (cleared.status, cleared.headers.values("contact")) == (200, [])
    assert len(office.registrar) == 0


@pytest.mark.parametrize(
    ("asked", "granted"), [("99999999", 3600), ("x", 600), ("-1", 600), ("60", 60)]
)
def test_how_long(asked: str, granted: int) -> None:
    response = Office().send(PHONE, headers=(("Expires", asked),))
    assert response.headers.get("contact") == f"{PHONE};expires={granted}"


def test_too_brief_is_refused_whole() -> None:
    office = Office()
    response = office.send(DESK, f"{PHONE};expires=59")
    assert response.status == 423
    assert response.headers.get("min-expires") == "60"
    assert office.reached() == []


@pytest.mark.parametrize(
    ("to", "user", "status"),
    [
        ("sip:bob@phones.example", "alice", 403),
        ("sip:alice@elsewhere.example", "alice", 404),
        ("sip:phones.example", "alice", 404),
        ("sip:%61lice@PHONES.example", "alice", 200),
        ("sips:bob@phones.example", "bob", 200),
    ],
)
def test_only_in_ones_own_name(to: str, user: str, status: int) -> None:
    assert Office().send(PHONE, to=to, user=user).status == status


@pytest.mark.parametrize("contact", ["<tel:+4930>", "<mailto:a@b>", "<nonsense", "sip:a@b:99999"])
def test_contacts_that_cannot_be_called(contact: str) -> None:
    office = Office()
    assert office.send(DESK, contact).status == 400
    assert office.reached() == []


def test_out_of_order() -> None:
    office = Office()
    office.send(PHONE)
    office.cseq -= 1
    assert office.send(f"{PHONE};expires=0").status == 500
    assert office.reached() == [PHONE]
    assert office.send(PHONE, call_id="c2").status == 200
    office.cseq = 0
    assert office.send(PHONE, call_id="c3").status == 200


def test_caps() -> None:
    office = Office(RegistrarLimits(max_bindings=2, max_total=3))
    office.send(PHONE, DESK)
    assert office.send("<sip:alice@192.0.2.9>").status == 403
    assert len(office.registrar) == 2
    bob = "sip:bob@phones.example"
    assert office.send("<sip:b@192.0.2.9>", to=bob, user="bob").status == 200
    full = office.send("<sip:c@192.0.2.9>", to=bob, user="bob")
    assert (full.status, full.headers.get("retry-after")) == (503, "60")
    assert office.send(*[f"<sip:a{n}@h>" for n in range(5)]).status == 403
    office.registrar.expire(601.0)
    assert len(office.registrar) == 0


def test_an_instance_has_one_binding_per_registration() -> None:
    office = Office()
    instance = '+sip.instance="<urn:uuid:1>"'
    office.send(f"{PHONE};{instance};reg-id=1")
    office.send(f"{DESK};{instance};reg-id=1", call_id="after-restart")
    assert office.reached() == [DESK]
    office.send(f"{PHONE};{instance};reg-id=2")
    assert len(office.reached()) == 2


def test_connections_take_their_bindings_along() -> None:
    office = Office()
    office.send(PHONE, flow=TCP)
    office.send(DESK)
    office.registrar.flow_closed(UDP)
    office.registrar.flow_closed(TCP)
    assert office.reached() == [DESK]
    assert len(office.registrar) == 1


def test_path_is_kept_and_copied() -> None:
    office = Office()
    response = office.send(PHONE, headers=(("Path", "<sip:a;lr>, <sip:b;lr>"),))
    assert response.headers.get("path") == "<sip:a;lr>, <sip:b;lr>"
    (binding,) = office.registrar.lookup(ALICE, 0.0)
    assert binding.path == ("<sip:a;lr>", "<sip:b;lr>")


def test_nobody_elsewhere() -> None:
    registrar = Office().registrar
    for uri in ("sip:alice@elsewhere", "tel:+4930", "sip:phones.example", "sip:x@phones.example"):
        assert registrar.lookup(SipUri.parse(uri), 0.0) == ()


def test_with_our_own_registration() -> None:
    office = Office(RegistrarLimits(min_expires_s=300))
    config = RegistrationConfig(
        "sip:alice@phones.example",
        "sip:alice@192.0.2.7:5070",
        credentials=Credentials("alice", "wonderland", "phones.example"),
        expires_s=100,
    )
    registration = Registration(config, random.Random(3))
    registration.start(0.0)
    now, granted = 0.0, 0
    for _ in range(12):
        for output in registration.take():
            if isinstance(output, SendRegister):
                via = "SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bK1"
                headers = Headers([("Via", via), *output.request.headers])
                request = replace(output.request, headers=headers)
                registration.receive(office.answer(request, UDP, now), now)
            elif isinstance(output, Registered):
                granted += 1
                assert office.reached(now) == [PHONE]
                now = registration.bound_until or 0.0
                registration.handle_timer(now)
    assert granted >= 2
    registration.close(now)

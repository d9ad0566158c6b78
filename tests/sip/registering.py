"""A registrar's side of a Registration, answer by answer."""

import random
from dataclasses import replace

from bridge.sip.auth import Authorization, Challenge, Credentials
from bridge.sip.message import Headers, Request, Response, make_response, parse_message
from bridge.sip.register import (
    Output,
    Registered,
    Registration,
    RegistrationConfig,
    SendRegister,
    State,
)

CREDENTIALS = Credentials("1000", "secret", "pbx.example")
CONFIG = RegistrationConfig(
    "sip:1000@pbx.example", "sip:1000@192.0.2.1:5060", credentials=CREDENTIALS, keepalive=False
)
Lines = tuple[tuple[str, str], ...]


def make(config: RegistrationConfig = CONFIG) -> Registration:
    return Registration(config, random.Random(5))


def reply(sent: Request, status: int, *headers: tuple[str, str]) -> Response:
    """Through the wire format, as an owner's transport would give it a Via."""
    via = "Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx"
    with_via = replace(sent, headers=Headers([via, *sent.headers]))
    response = parse_message(bytes(make_response(with_via, status, to_tag="t", headers=headers)))
    assert isinstance(response, Response)
    return response


def challenge(nonce: str = "n1", *, stale: bool = False, status: int = 401) -> tuple[str, str]:
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    return name, str(Challenge("pbx.example", nonce, "SHA-256", ("auth",), None, stale))


def sent_by(registration: Registration) -> Request:
    (output,) = registration.take()
    assert isinstance(output, SendRegister)
    return output.request


def only(registration: Registration) -> Output:
    (output,) = registration.take()
    return output


def authorization(request: Request, name: str = "authorization") -> Authorization:
    return Authorization.parse(request.headers.get(name) or "")


def registered(
    config: RegistrationConfig = CONFIG, now: float = 0.0, expires: int = 3600
) -> Registration:
    registration = make(config)
    registration.start(now)
    request = sent_by(registration)
    registration.receive(reply(request, 200, ("Expires", str(expires))), now)
    assert isinstance(only(registration), Registered)
    assert registration.state is State.REGISTERED
    return registration


def due(registration: Registration) -> float:
    when = registration.next_timer()
    assert when is not None
    return when

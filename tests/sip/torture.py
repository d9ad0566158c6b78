"""What the tables of torture messages share: how a message is read, judged and answered."""

from dataclasses import dataclass
from pathlib import Path

from bridge.errors import SipError
from bridge.sip.message import Request, Response, make_response, parse_message
from bridge.sip.validation import validate

DATA = Path(__file__).parents[1] / "data" / "sip"
RFCS = ("rfc4475", "rfc5118")
METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "UPDATE", "REGISTER", "MESSAGE")
"""REGISTER and MESSAGE are among them so that their messages are judged by what they carry."""
VALID = "valid"
DROP = "drop"


@dataclass(frozen=True)
class Case:
    name: str
    mandated: str
    ours: str | int
    """`valid`, `drop`, or the status of the refusal."""
    why: str = ""


def names(rfc: str) -> list[str]:
    return sorted(path.stem for path in (DATA / rfc).glob("*.dat"))


def read(rfc: str, name: str) -> bytes:
    return (DATA / rfc / f"{name}.dat").read_bytes()


def request(rfc: str, name: str) -> Request:
    message = parse_message(read(rfc, name))
    assert isinstance(message, Request)
    return message


def verdict(data: bytes) -> str | int:
    try:
        message = parse_message(data)
    except SipError as error:
        return DROP if error.status is None else "unanswerable with a status"
    if isinstance(message, Response):
        return VALID
    rejection = validate(message, allow=METHODS)
    return VALID if rejection is None else rejection.status


def check_rewriting(data: bytes) -> None:
    """What is accepted comes back with its Vias and its body when it is written."""
    if verdict(data) == VALID:
        message = parse_message(data)
        again = parse_message(bytes(message))
        assert again.headers.get_all("via") == message.headers.get_all("via")
        assert again.body == message.body


def check_answer(data: bytes) -> None:
    """A request that is not dropped can be refused, whatever is wrong with it."""
    if verdict(data) == DROP:
        return
    message = parse_message(data)
    if isinstance(message, Request):
        answer = make_response(message, 400, to_tag="ours")
        assert bytes(answer).startswith(b"SIP/2.0 400 Bad Request\r\n")
        for name in ("call-id", "cseq"):
            assert answer.headers.get(name) == message.headers.get(name)
        assert answer.headers.get_all("via") == message.headers.get_all("via")

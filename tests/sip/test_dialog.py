from dataclasses import replace

import pytest

from bridge.errors import SipError
from bridge.sip.dialog import Dialog
from bridge.sip.events import Flow
from bridge.sip.message import Request, make_response, parse_message
from tests.sip.playbook import TCP, UDP, caller_request

ROUTES = [
    ("Record-Route", "<sip:203.0.113.1;lr;r2=on>, <sip:203.0.113.2:5080;lr=on;ftag=a>"),
    ("Record-Route", "<sip:proxy.example;lr>"),
]


def callee(request: Request, flow: Flow = UDP) -> Dialog:
    return Dialog.from_request(request, flow, local_tag="bot", cseq=100)


def bye(dialog: Dialog) -> Request:
    request = dialog.request("BYE", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1")
    parsed = parse_message(bytes(request))
    assert isinstance(parsed, Request)
    return parsed


def test_callee() -> None:
    dialog = callee(caller_request())
    assert dialog.id == ("call-1", "bot", "alice")
    request = bye(dialog)
    assert request.uri == "sip:alice@198.51.100.7:5062"
    assert request.from_tag == "bot"
    assert str(request.to) == '"Alice" <sip:alice@example.com>;tag=alice'
    assert str(request.cseq) == "101 BYE"
    assert request.routes == []
    assert str(dialog.request("INFO", "x").cseq) == "102 INFO"
    assert str(dialog.request("ACK", "x", cseq=7).cseq) == "7 ACK"


def test_caller() -> None:
    request = caller_request()
    response = make_response(
        request, 200, to_tag="bot", headers=[("Contact", "<sip:bot@192.0.2.1>"), *ROUTES]
    )
    dialog = Dialog.from_response(request, response, UDP)
    assert dialog.id == ("call-1", "alice", "bot")
    assert str(bye(dialog).cseq) == "2 BYE"
    assert [str(route) for route in bye(dialog).routes] == [
        "<sip:proxy.example;lr>",
        "<sip:203.0.113.2:5080;lr=on;ftag=a>",
        "<sip:203.0.113.1;lr;r2=on>",
    ]


def test_routes_of_the_callee_are_in_order_and_lead_the_way() -> None:
    dialog = callee(caller_request(headers=ROUTES))
    request = bye(dialog)
    assert request.uri == "sip:alice@198.51.100.7:5062"
    assert [str(route) for route in request.routes] == [
        "<sip:203.0.113.1;lr;r2=on>",
        "<sip:203.0.113.2:5080;lr=on;ftag=a>",
        "<sip:proxy.example;lr>",
    ]
    assert dialog.next_hop() == replace(UDP, remote=("203.0.113.1", 5060))


def test_strict_router() -> None:
    headers = [("Record-Route", "<sip:203.0.113.1:5090>, <sip:203.0.113.2;lr>")]
    dialog = callee(caller_request(headers=headers))
    request = bye(dialog)
    assert request.uri == "sip:203.0.113.1:5090"
    assert [str(route) for route in request.routes] == [
        "<sip:203.0.113.2;lr>",
        "<sip:alice@198.51.100.7:5062>",
    ]
    assert dialog.next_hop().remote == ("203.0.113.1", 5090)


@pytest.mark.parametrize(
    ("contact", "via", "remote"),
    [
        ("<sip:a@198.51.100.7:5070>", "198.51.100.7", ("198.51.100.7", 5070)),
        ("<sip:a@203.0.113.9>", "198.51.100.7", ("203.0.113.9", 5060)),
        # A private Contact and a private Via: the peer is behind a NAT.
        ("<sip:a@10.0.0.5:5060>", "10.0.0.5", UDP.remote),
        ("<sip:a@phone.example>", "phone.example", UDP.remote),
        ("<sip:a@phone.example>", "198.51.100.7", UDP.remote),
        ("<sip:a@[2001:db8::1]>", "198.51.100.7", UDP.remote),
        ("<sip:a@phone.example;maddr=203.0.113.4>", "198.51.100.7", ("203.0.113.4", 5060)),
    ],
)
def test_next_hop(contact: str, via: str, remote: tuple[str, int]) -> None:
    request = caller_request(contact=contact, via=f"SIP/2.0/UDP {via};branch={{branch}};rport")
    assert callee(request).next_hop().remote == remote


@pytest.mark.parametrize(
    ("contact", "transport", "port"),
    [
        ("<sip:a@198.51.100.7;transport=TCP>", "tcp", 5060),
        ("<sip:a@198.51.100.7:5070;transport=tcp>", "tcp", 5070),
        ("<sip:a@198.51.100.7;transport=tls>", "tls", 5061),
        ("<sips:a@198.51.100.7;transport=tcp>", "tls", 5061),
        ("<sip:a@198.51.100.7;transport=udp>", "udp", 5060),
        ("<sip:a@198.51.100.7;transport=ws>", "udp", 5060),
        ("<sip:a@198.51.100.7;transport=sctp>", "udp", 5060),
    ],
)
def test_next_hop_is_called_by_the_transport_it_asks_for(
    contact: str, transport: str, port: int
) -> None:
    dialog = callee(caller_request(contact=contact))
    assert dialog.next_hop() == Flow(transport, UDP.local, ("198.51.100.7", port))


def test_peers() -> None:
    routes = [("Record-Route", "<sip:[2001:DB8::1];lr>, <sip:proxy.example;lr;maddr=203.0.113.2>")]
    dialog = callee(caller_request(headers=routes, contact="<sip:a@203.0.113.9>"))
    for host in (UDP.remote[0], "2001:db8:0::1", "203.0.113.2", "203.0.113.9"):
        assert dialog.has_peer(host)
    for host in ("203.0.113.3", "198.51.100.8", "proxy.example"):
        assert not dialog.has_peer(host)


def test_connection_is_used_until_it_is_lost() -> None:
    dialog = callee(caller_request(), TCP)
    assert dialog.next_hop() == TCP
    dialog.flow_lost = True
    assert dialog.next_hop() == Flow("tcp", TCP.local, ("198.51.100.7", 5062))
    dialog.reached_by(TCP)
    assert dialog.next_hop() == TCP


def test_sequence_numbers() -> None:
    dialog = callee(caller_request(cseq=10))
    assert dialog.accept(caller_request("INFO", cseq=20))
    assert not dialog.accept(caller_request("INFO", cseq=19))
    assert not dialog.accept(caller_request("INFO", cseq=20))
    assert dialog.accept(caller_request("BYE", cseq=20))
    assert dialog.remote_cseq == 20


def test_target_refresh() -> None:
    dialog = callee(caller_request(headers=ROUTES))
    dialog.refresh_target(caller_request(contact="<sip:new@203.0.113.7?Subject=x>"))
    assert bye(dialog).uri == "sip:new@203.0.113.7"
    dialog.refresh_target(caller_request(contact=None))
    dialog.refresh_target(caller_request(contact="<tel:+1555>"))
    assert bye(dialog).uri == "sip:new@203.0.113.7"
    assert len(dialog.route_set) == 3


@pytest.mark.parametrize("contact", [None, "<tel:+1555>", "nonsense"])
def test_invite_that_makes_no_dialog(contact: str | None) -> None:
    with pytest.raises(SipError):
        callee(caller_request(contact=contact))


def test_peer_without_a_tag() -> None:
    request = caller_request()
    headers = request.headers.replaced("from", "sip:alice@example.com")
    dialog = callee(replace(request, headers=headers))
    assert dialog.id == ("call-1", "bot", "")
    assert bye(dialog).to_tag is None


def test_peer_of_rfc_2543_without_a_contact() -> None:
    dialog = callee(caller_request(contact=None, branch="1"))
    assert bye(dialog).uri == "sip:alice@example.com"


def test_to_that_has_a_tag_keeps_it() -> None:
    dialog = callee(caller_request(to_tag="theirs"))
    assert bye(dialog).from_tag == "theirs"

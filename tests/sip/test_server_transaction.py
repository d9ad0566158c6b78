from dataclasses import replace

import pytest

from bridge.errors import SipError
from bridge.sip.message import Headers, make_response
from bridge.sip.server_transaction import (
    INVITE_SERVER,
    NON_INVITE_SERVER,
    InviteServerTransaction,
    NonInviteServerTransaction,
    ServerTransaction,
    merge_key,
    reply_flow,
    server_key,
)
from bridge.sip.transaction import State, Transaction
from tests.sip.playbook import TCP, UDP, caller_request
from tests.sip.test_client_transaction import Layer, arrows, drawn

FIGURE_INVITE = """
Proceeding  request         resend                            Proceeding
Proceeding  1xx             send                              Proceeding
Proceeding  2xx             send                              Accepted
Proceeding  300-699         send                              Completed
Completed   request         resend                            Completed
Completed   G               resend                            Completed
Completed   H               -                                 Terminated
Completed   ACK             -                                 Confirmed
Confirmed   I               -                                 Terminated
Accepted    request         -                                 Accepted
Accepted    ACK             to the user                       Accepted
Accepted    2xx             send                              Accepted
Accepted    L               -                                 Terminated
"""

FIGURE_NON_INVITE = """
Trying      1xx             send                              Proceeding
Trying      2xx             send                              Completed
Trying      300-699         send                              Completed
Proceeding  request         resend                            Proceeding
Proceeding  1xx             send                              Proceeding
Proceeding  2xx             send                              Completed
Proceeding  300-699         send                              Completed
Proceeding  transport error -                                 Terminated
Completed   request         resend                            Completed
Completed   transport error -                                 Terminated
Completed   J               -                                 Terminated
"""

INVITE = caller_request()
ACK = caller_request("ACK", branch="z9hG4bK-INVITE-1")


def respond(transaction: ServerTransaction, status: int, layer: Layer) -> None:
    transaction.respond(make_response(transaction.request, status, to_tag="t"), layer.now)


def test_tables_are_the_figures() -> None:
    assert drawn(INVITE_SERVER) == arrows(FIGURE_INVITE)
    assert drawn(NON_INVITE_SERVER) == arrows(FIGURE_NON_INVITE)


def test_copies_of_an_invite_get_the_last_provisional() -> None:
    layer = Layer()
    transaction = InviteServerTransaction(INVITE, UDP, layer, 0.0)
    assert not transaction.receive(INVITE, 0.0)
    respond(transaction, 100, layer)
    respond(transaction, 180, layer)
    transaction.receive(INVITE, 0.0)
    assert [name for _, name in layer.sent] == ["100", "180", "180"]


def test_failure_is_repeated_until_h() -> None:
    layer = Layer()
    transaction = InviteServerTransaction(INVITE, UDP, layer, 0.0)
    respond(transaction, 486, layer)
    respond(transaction, 200, layer)
    layer.run(40)
    assert layer.times() == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert layer.over == [transaction]
    assert len(layer.timers) == 0


def test_ack_stops_the_repeats() -> None:
    layer = Layer()
    transaction = InviteServerTransaction(INVITE, UDP, layer, 0.0)
    respond(transaction, 486, layer)
    layer.run(1)
    assert not transaction.receive(ACK, 1.0)
    transaction.receive(ACK, 1.0)
    transaction.receive(INVITE, 1.0)
    layer.run(5.9)
    assert layer.times() == [0, 0.5]
    assert layer.over == []
    layer.run(6)
    assert layer.over == [transaction]


def test_failure_on_a_connection() -> None:
    layer = Layer()
    transaction = InviteServerTransaction(INVITE, TCP, layer, 0.0)
    respond(transaction, 486, layer)
    layer.run(10)
    assert layer.times() == [0]
    transaction.receive(ACK, 10.0)
    layer.run(10)
    assert layer.over == [transaction]


def test_accepted_swallows_copies_and_passes_ack() -> None:
    layer = Layer()
    transaction = InviteServerTransaction(INVITE, TCP, layer, 0.0)
    respond(transaction, 200, layer)
    transaction.receive(INVITE, 0.0)
    respond(transaction, 200, layer)
    assert transaction.receive(ACK, 0.0)
    assert [name for _, name in layer.sent] == ["200", "200"]
    layer.run(32)
    assert layer.over == [transaction]


@pytest.mark.parametrize(("flow", "lingers"), [(UDP, 32.0), (TCP, 0.0)])
def test_non_invite(flow: object, lingers: float) -> None:
    layer = Layer()
    request = caller_request("BYE")
    transaction = NonInviteServerTransaction(request, TCP if flow == TCP else UDP, layer, 0.0)
    transaction.receive(request, 0.0)
    assert layer.sent == []
    respond(transaction, 100, layer)
    transaction.receive(request, 0.0)
    respond(transaction, 200, layer)
    respond(transaction, 500, layer)
    transaction.receive(request, 0.0)
    assert [name for _, name in layer.sent] == ["100", "100", "200", "200"]
    layer.run(lingers)
    assert layer.over == [transaction]


def test_transport_error() -> None:
    layer = Layer()
    transaction: Transaction = NonInviteServerTransaction(INVITE, UDP, layer, 0.0)
    transaction.transport_failed(0.0)
    assert layer.over == []
    assert isinstance(transaction, ServerTransaction)
    respond(transaction, 200, layer)
    transaction.transport_failed(0.0)
    assert layer.over == [transaction]


def test_response_that_cannot_be_written_changes_nothing() -> None:
    layer = Layer()
    transaction = InviteServerTransaction(INVITE, UDP, layer, 0.0)
    bad = make_response(INVITE, 486, reason="a\r\nb")
    with pytest.raises(SipError):
        transaction.respond(bad, 0.0)
    assert transaction.state is State.PROCEEDING
    assert layer.sent == []


def test_key() -> None:
    assert server_key(INVITE) == server_key(ACK)
    cancel = caller_request("CANCEL", branch="z9hG4bK-INVITE-1")
    assert server_key(cancel) != server_key(INVITE)
    assert server_key(cancel, "INVITE") == server_key(INVITE)
    other = caller_request(via="SIP/2.0/UDP 198.51.100.8:5062;branch={branch}")
    assert server_key(other) != server_key(INVITE)


@pytest.mark.parametrize("branch", ["1", "z9hG4bK", ""])
def test_key_of_rfc_2543(branch: str) -> None:
    invite = caller_request(branch=branch)
    ack = caller_request("ACK", branch=branch, to_tag="t")
    assert server_key(invite) == server_key(ack)
    for other in (
        caller_request(branch=branch, cseq=2),
        caller_request(branch=branch, call_id="call-2"),
        caller_request(branch=branch, from_tag="bob"),
        caller_request(branch=branch, uri="sip:else@192.0.2.1"),
    ):
        assert server_key(other) != server_key(invite)
    assert server_key(replace(invite, headers=Headers([("Via", str(invite.top_via))])))


def test_merge_key_ignores_the_path() -> None:
    by_another_path = caller_request(via="SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKother")
    assert merge_key(by_another_path) == merge_key(INVITE)
    assert merge_key(caller_request(cseq=2)) != merge_key(INVITE)


def test_reply_flow() -> None:
    assert reply_flow(INVITE, UDP) == UDP
    plain = caller_request(via="SIP/2.0/UDP client.example;branch={branch}")
    assert reply_flow(plain, UDP).remote == ("198.51.100.7", 5060)
    ported = caller_request(via="SIP/2.0/UDP client.example:5099;branch={branch};maddr=10.0.0.1")
    assert reply_flow(ported, UDP).remote == ("198.51.100.7", 5099)
    assert reply_flow(ported, TCP) == TCP

"""Transfers that the caller's phone asks for: REFER to us, and INVITE with Replaces."""

import re
from collections.abc import Awaitable, Callable

import pytest

from bridge.calls.trunks import Trunk
from bridge.ids import CallId
from bridge.sip.message import Request, Response, make_response, parse_message
from tests import virtual
from tests.calls.desk import Desk
from tests.legs.exchange import Exchange, Handset, sdp
from tests.ports import HOST


class Office:
    """A caller who talks to the agent, and a colleague's phone that may take over."""

    def __init__(self, *, transfers: bool = True, prefixes: tuple[str, ...] = ("*",)) -> None:
        self.trunk = Trunk("office", addresses=(HOST,), prefixes=prefixes, private_hosts=True)
        self.desk = Desk(greeting="Welcome.", trunks=(self.trunk,))
        self.board = self.desk.board
        self.exchange = Exchange(
            trunks=(self.trunk,), transfers=transfers, owner=self.board.incoming
        )
        self.board.use_phones(self.exchange.phones)

    async def up(self) -> None:
        await self.exchange.open()
        self.caller = await self.exchange.handset()
        self.caller.send("INVITE", body=sdp(self.caller.rtp_port))
        await self.caller.response(180)
        self.ok = await self.caller.response(200)
        self.caller.send("ACK")
        await virtual.settle()
        self.call_id = CallId(self.board.live()[0]["id"])
        self.colleague = await self.exchange.handset()

    def refer(self, target: str = "") -> None:
        named = target or f"sip:bob@{HOST}:{self.colleague.port}"
        self.caller.send("REFER", cseq=2, headers=[("Refer-To", f"<{named}>")])

    async def news(self) -> tuple[str, str]:
        """Of the transfer, by NOTIFY: what it says, and the state of the subscription."""
        notify = await self.caller.request("NOTIFY")
        state = notify.headers.get("Subscription-State") or ""
        return notify.body.decode().strip(), state.partition(";")[0]


async def called(handset: Handset) -> Request:
    message = parse_message(await handset.inbox.get())
    assert isinstance(message, Request)
    assert message.method == "INVITE"
    return message


def takes(handset: Handset, invite: Request) -> None:
    response = make_response(
        invite,
        200,
        to_tag="colleague",
        headers=[
            ("Contact", f"<sip:bob@{HOST}:{handset.port}>"),
            ("Content-Type", "application/sdp"),
        ],
        body=sdp(handset.rtp_port),
    )
    handset.wire.sendto(bytes(response), handset.server)


def play(scenario: Callable[[Office], Awaitable[None]], office: Callable[[], Office]) -> None:
    async def main() -> None:
        stage = office()
        await stage.up()
        try:
            await scenario(stage)
            await stage.exchange.prove_that_nothing_is_left()
            await stage.desk.close()
        finally:
            await stage.exchange.close()

    virtual.run(main(), patience_s=0.002)


def test_the_conversation_goes_on_with_whom_the_caller_named() -> None:
    async def scenario(office: Office) -> None:
        office.refer()
        await office.caller.response(202)
        invite = await called(office.colleague)
        assert await office.news() == ("SIP/2.0 100 Trying", "active")
        takes(office.colleague, invite)
        ack = parse_message(await office.colleague.inbox.get())
        assert isinstance(ack, Request)
        assert ack.method == "ACK"
        assert await office.news() == ("SIP/2.0 200 OK", "terminated")
        await office.caller.request("BYE")
        await virtual.settle()
        # The same call, the same session; the colleague's phone is its far end now.
        assert office.desk.state(office.call_id) == "active"
        assert office.board.record(office.call_id)["transfer"]["status"] == 200
        assert len(office.desk.models) == 1
        await office.board.hangup(office.call_id)
        await office.colleague.request("BYE")
        await virtual.settle()

    play(scenario, Office)


def test_the_caller_stays_when_nobody_takes_it() -> None:
    async def scenario(office: Office) -> None:
        office.refer()
        await office.caller.response(202)
        invite = await called(office.colleague)
        await office.news()
        busy = make_response(invite, 486, to_tag="colleague")
        office.colleague.wire.sendto(bytes(busy), office.colleague.server)
        assert await office.news() == ("SIP/2.0 486 Busy Here", "terminated")
        assert office.desk.state(office.call_id) == "active"
        await office.board.hangup(office.call_id)
        await office.caller.request("BYE")
        await virtual.settle()

    play(scenario, Office)


@pytest.mark.parametrize(
    ("office", "target", "status"),
    [
        (lambda: Office(transfers=False), "", 603),
        (lambda: Office(prefixes=("+49",)), "tel:+1900555", 603),
        (Office, "mailto:bob@example.com", 416),
    ],
    ids=["off", "a number that may not be called", "no telephone"],
)
def test_transfers_that_are_declined(
    office: Callable[[], Office], target: str, status: int
) -> None:
    async def scenario(office: Office) -> None:
        office.refer(target)
        response = parse_message(await office.caller.inbox.get())
        assert isinstance(response, Response)
        assert response.status == status
        assert office.desk.state(office.call_id) == "active"
        await office.board.hangup(office.call_id)
        await office.caller.request("BYE")
        await virtual.settle()

    play(scenario, office)


def test_a_colleague_takes_the_caller_s_place() -> None:
    async def scenario(office: Office) -> None:
        tag = re.search(r"tag=([^;>]+)$", office.ok.headers.get("From") or "")
        assert tag is not None
        place = (
            f"{office.ok.headers.get('Call-ID')};to-tag={office.ok.to_tag};from-tag={tag.group(1)}"
        )
        office.colleague.send(
            "INVITE", body=sdp(office.colleague.rtp_port), headers=[("Replaces", place)]
        )
        await office.colleague.response(200)
        office.colleague.send("ACK")
        await office.caller.request("BYE")
        await virtual.settle()
        assert office.desk.state(office.call_id) == "active"
        assert len(office.desk.models) == 1
        await office.board.hangup(office.call_id)
        await office.colleague.request("BYE")
        await virtual.settle()

    play(scenario, Office)

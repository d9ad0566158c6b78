"""Transfers into another call of ours: REFER with Replaces, and what becomes of both calls."""

from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import pytest

from bridge.calls.trunks import Trunk
from bridge.errors import CallNotFound, ConflictError, RequestError
from bridge.ids import CallId
from bridge.sip.message import Response
from tests import virtual
from tests.calls.desk import Desk
from tests.legs.exchange import Exchange, Handset, sdp
from tests.ports import HOST

OFFICE = Trunk("office", addresses=(HOST,), prefixes=("+49",))


class Two:
    """A caller and a colleague, each in a call of its own with the agent."""

    def __init__(self, *trunks: Trunk) -> None:
        self.desk = Desk(greeting="Welcome.", trunks=trunks)
        self.board = self.desk.board
        self.exchange = Exchange(trunks=trunks, owner=self.board.incoming)

    async def up(self) -> None:
        await self.exchange.open()
        self.caller, self.first, _ = await self._call()
        self.colleague, self.second, self.ok = await self._call()

    async def _call(self) -> tuple[Handset, CallId, Response]:
        handset = await self.exchange.handset()
        handset.send("INVITE", body=sdp(handset.rtp_port))
        await handset.response(180)
        ok = await handset.response(200)
        handset.send("ACK")
        await virtual.settle()
        return handset, CallId(self.board.live()[-1]["id"]), ok

    async def refer_to(self) -> str:
        request = await self.caller.request("REFER", 202)
        return request.headers.get("Refer-To") or ""

    async def told(self, status: str) -> None:
        self.caller.send(
            "NOTIFY",
            cseq=2,
            body=f"SIP/2.0 {status}\r\n".encode(),
            headers=[
                ("Event", "refer"),
                ("Subscription-State", "terminated;reason=noresource"),
                ("Content-Type", "message/sipfrag;version=2.0"),
            ],
        )
        await self.caller.response(200)
        await virtual.settle()

    async def hang_up(self, handset: Handset) -> None:
        handset.send("BYE", cseq=90)
        await handset.response(200)
        await virtual.settle()


def play(scenario: Callable[[Two], Awaitable[None]], *trunks: Trunk) -> None:
    async def main() -> None:
        two = Two(*trunks)
        await two.up()
        try:
            await scenario(two)
            await two.exchange.prove_that_nothing_is_left()
            await two.desk.close()
        finally:
            await two.exchange.close()

    virtual.run(main(), patience_s=0.002)


def test_the_caller_goes_on_with_the_colleague() -> None:
    async def scenario(two: Two) -> None:
        await two.board.refer(two.first, "", replaces=two.second)
        uri, _, embedded = (await two.refer_to()).strip("<>").partition("?")
        assert uri == f"sip:alice@{HOST}:{two.colleague.port}"
        from_ = two.ok.headers.get("From") or ""
        # As the colleague's phone knows the call: its own tag is the one of To.
        assert unquote(embedded) == (
            f"Replaces={two.ok.sip_call_id};to-tag={from_.partition('tag=')[2]}"
            f";from-tag={two.ok.to_tag}"
        )
        # Its phone has been called in our place, and leaves us.
        await two.hang_up(two.colleague)
        assert two.desk.state(two.second) == "ended: transferred"
        await two.told("200 OK")
        await two.caller.request("BYE")
        assert two.desk.state(two.first) == "ended: transferred"
        assert two.board.record(two.first)["transfer"]["replaces"] == two.second

    play(scenario, OFFICE)


def test_a_colleague_who_does_not_hang_up_is_left() -> None:
    async def scenario(two: Two) -> None:
        await two.board.refer(two.first, "tel:+4930123", replaces=two.second)
        assert (await two.refer_to()).startswith("<tel:+4930123?Replaces=")
        await two.told("200 OK")
        await two.caller.request("BYE")
        await two.colleague.request("BYE")
        assert two.desk.state(two.second) == "ended: transferred"

    play(scenario, OFFICE)


def test_both_calls_go_on_when_it_fails() -> None:
    async def scenario(two: Two) -> None:
        await two.board.refer(two.first, "", replaces=two.second)
        await two.refer_to()
        await two.told("603 Decline")
        assert two.desk.state(two.first) == two.desk.state(two.second) == "active"
        await two.hang_up(two.colleague)
        assert two.desk.state(two.second) == "ended: remote_hangup"
        await two.hang_up(two.caller)

    play(scenario, OFFICE)


def test_a_caller_who_leaves_at_once_may_still_be_on_the_way() -> None:
    async def scenario(two: Two) -> None:
        await two.board.refer(two.first, "", replaces=two.second)
        await two.refer_to()
        await virtual.settle()
        await two.hang_up(two.caller)
        assert two.desk.state(two.second) == "active"
        await two.hang_up(two.colleague)
        assert two.desk.state(two.second) == "ended: transferred"

    play(scenario, OFFICE)


def test_what_cannot_be_replaced() -> None:
    async def scenario(two: Two) -> None:
        board = two.board
        with pytest.raises(CallNotFound):
            await board.refer(two.first, "", replaces="rtc_nobody")
        with pytest.raises(RequestError) as itself:
            await board.refer(two.first, "", replaces=two.first)
        assert itself.value.param == "replaces"
        with pytest.raises(RequestError) as number:
            await board.refer(two.first, "tel:+1900", replaces=two.second)
        assert number.value.code == "destination_not_allowed"
        await board.refer(two.first, "", replaces=two.second)
        await two.refer_to()
        with pytest.raises(ConflictError):
            await board.refer(two.second, "", replaces=two.first)
        with pytest.raises(ConflictError):
            await board.refer(two.first, "tel:+4930")
        await two.told("486 Busy Here")
        await two.hang_up(two.caller)
        await two.hang_up(two.colleague)

    play(scenario, OFFICE)

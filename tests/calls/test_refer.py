"""Transfers: REFER on the wire, what NOTIFY tells of it, and who may be called."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.calls.trunks import Trunk
from bridge.errors import CallNotFound, ConflictError, RequestError
from bridge.ids import CallId
from tests import virtual
from tests.calls.desk import Desk
from tests.legs.exchange import Exchange, Handset, sdp
from tests.legs.extension import Extension
from tests.ports import HOST

TARGET = "tel:+4930123"
CARRIER = Trunk("carrier", addresses=(HOST,), prefixes=("+49",))


class Transfer:
    """A call up to its conversation, between a handset and a desk."""

    def __init__(self, *trunks: Trunk) -> None:
        self.desk = Desk(greeting="Welcome.", trunks=trunks)
        self.board = self.desk.board
        self.exchange = Exchange(trunks=trunks, owner=self.board.incoming)
        self._cseq = 1

    async def up(self) -> None:
        await self.exchange.open()
        self.handset: Handset = await self.exchange.handset()
        self.handset.send("INVITE", body=sdp(self.handset.rtp_port))
        await self.handset.response(180)
        await self.handset.response(200)
        self.handset.send("ACK")
        await virtual.settle()
        self.call_id = CallId(self.board.live()[0]["id"])

    async def asked(self) -> str:
        """Refer-To, as the handset gets it."""
        request = await self.handset.request("REFER", 202)
        return request.headers.get("Refer-To") or ""

    async def notify(self, status: str, state: str = "active;expires=60") -> None:
        self._cseq += 1
        self.handset.send(
            "NOTIFY",
            cseq=self._cseq,
            body=f"SIP/2.0 {status}\r\n".encode(),
            headers=[
                ("Event", "refer"),
                ("Subscription-State", state),
                ("Content-Type", "message/sipfrag;version=2.0"),
            ],
        )
        await self.handset.response(200)
        await virtual.settle()

    async def bye(self) -> None:
        self.handset.send("BYE", cseq=90)
        await self.handset.response(200)
        await virtual.settle()


def play(scenario: Callable[[Transfer], Awaitable[None]], *trunks: Trunk) -> None:
    async def main() -> None:
        transfer = Transfer(*trunks)
        await transfer.up()
        try:
            await scenario(transfer)
            await transfer.exchange.prove_that_nothing_is_left()
            await transfer.desk.close()
        finally:
            await transfer.exchange.close()

    virtual.run(main(), patience_s=0.002)


def test_the_target_takes_the_call() -> None:
    async def scenario(transfer: Transfer) -> None:
        board, call_id = transfer.board, transfer.call_id
        await board.refer(call_id, TARGET)
        assert await transfer.asked() == f"<{TARGET}>"
        await transfer.notify("100 Trying")
        assert board.record(call_id)["transfer"] == {
            "target": TARGET,
            "status": 100,
            "reason": "Trying",
        }
        assert transfer.desk.state(call_id) == "active"
        await transfer.notify("200 OK", "terminated;reason=noresource")
        await transfer.handset.request("BYE")
        assert transfer.desk.state(call_id) == "ended: transferred"
        assert board.record(call_id)["transfer"]["status"] == 200

    play(scenario)


def test_the_call_goes_on_when_the_target_is_not_to_be_had() -> None:
    async def scenario(transfer: Transfer) -> None:
        board, call_id = transfer.board, transfer.call_id
        await board.refer(call_id, TARGET)
        await transfer.asked()
        await transfer.notify("503 Service Unavailable", "terminated;reason=noresource")
        assert transfer.desk.state(call_id) == "active"
        assert board.record(call_id)["transfer"] == {
            "target": TARGET,
            "status": 503,
            "reason": "Service Unavailable",
        }
        # Somebody else may be tried.
        await board.refer(call_id, "sip:other@example.com")
        assert await transfer.asked() == "<sip:other@example.com>"
        await transfer.notify("200 OK", "terminated;reason=noresource")
        await transfer.handset.request("BYE")
        assert transfer.desk.state(call_id) == "ended: transferred"

    play(scenario)


def test_a_phone_that_does_not_transfer() -> None:
    async def scenario(transfer: Transfer) -> None:
        await transfer.board.refer(transfer.call_id, TARGET)
        await transfer.handset.request("REFER", 603)
        await virtual.settle()
        record = transfer.board.record(transfer.call_id)
        assert (record["state"], record["transfer"]["status"]) == ("active", 603)
        await transfer.bye()
        assert transfer.desk.state(transfer.call_id) == "ended: remote_hangup"

    play(scenario)


def test_a_transfer_may_be_repeated_but_not_changed() -> None:
    async def scenario(transfer: Transfer) -> None:
        board, call_id = transfer.board, transfer.call_id
        await board.refer(call_id, TARGET)
        await board.refer(call_id, TARGET)
        with pytest.raises(ConflictError):
            await board.refer(call_id, "tel:+4930124")
        await transfer.asked()
        await virtual.settle()
        assert transfer.handset.inbox.empty()
        await transfer.bye()
        with pytest.raises(CallNotFound):
            await board.refer(call_id, TARGET)

    play(scenario)


def test_the_agent_finishes_what_it_says() -> None:
    async def scenario(transfer: Transfer) -> None:
        desk, call_id = transfer.desk, transfer.call_id
        desk.model.says("I will put you through.", ms=200)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(transfer.board.refer(call_id, TARGET, after="playout"))
            await virtual.wait(0.5)
            assert transfer.handset.inbox.empty()
            for _ in range(15):
                transfer.exchange.tick()
        assert await transfer.asked() == f"<{TARGET}>"
        await transfer.bye()

    play(scenario)


def test_the_caller_leaves_before_the_agent_has_finished() -> None:
    async def scenario(transfer: Transfer) -> None:
        transfer.desk.model.says("I will put you through.", ms=200)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(refused(transfer))
            await virtual.settle()
            await transfer.bye()

    async def refused(transfer: Transfer) -> None:
        with pytest.raises(CallNotFound):
            await transfer.board.refer(transfer.call_id, TARGET, after="playout")

    play(scenario)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("tel:+44123", "destination_not_allowed"),
        ("sip:+44123@example.com", "destination_not_allowed"),
        ("sip:+4930123@10.0.0.1", None),
        ("sip:+4930123@example.com?Replaces=x", None),
        ("tel:+4930123\r\nX: y", None),
        ("mailto:a@example.com", None),
        ("  ", None),
    ],
)
def test_targets_that_may_not_be_called(target: str, code: str | None) -> None:
    async def scenario(transfer: Transfer) -> None:
        with pytest.raises(RequestError) as refusal:
            await transfer.board.refer(transfer.call_id, target)
        assert refusal.value.param == "target_uri"
        if code is not None:
            assert refusal.value.code == code
        # It is as if nothing had been asked.
        await transfer.board.refer(transfer.call_id, TARGET)
        assert await transfer.asked() == f"<{TARGET}>"
        await transfer.bye()

    play(scenario, CARRIER)


def test_browsers_are_not_transferred() -> None:
    async def scenario() -> None:
        desk = Desk()
        leg, call_id = desk.call(Extension("webrtc"))
        await virtual.settle()
        with pytest.raises(RequestError):
            await desk.board.refer(call_id, TARGET)
        leg.ends("remote_hangup")
        await desk.close()

    virtual.run(scenario())


def test_a_ringing_call_is_not_transferred() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        exchange = await Exchange(owner=desk.board.incoming).open()
        handset = await exchange.handset()
        handset.send("INVITE", body=sdp(handset.rtp_port))
        await handset.response(180)
        with pytest.raises(ConflictError):
            await desk.board.refer(CallId(desk.board.live()[0]["id"]), TARGET)
        handset.send("CANCEL")
        await handset.response(200)
        await handset.response(487)
        handset.send("ACK")
        await exchange.prove_that_nothing_is_left()
        await desk.close()
        await exchange.close()

    virtual.run(scenario(), patience_s=0.002)

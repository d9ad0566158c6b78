"""What webhooks of ours tell of calls, and in which order."""

import asyncio
import contextlib
from collections.abc import Callable

from bridge.calls.call import Call
from bridge.calls.lifecycle import PATIENCE_S, Lifecycle
from bridge.calls.switchboard import Limits
from bridge.calls.webhooks import WebhookEvent, WebhookSender
from bridge.ids import CallId
from bridge.tasks import TaskOwner
from tests import virtual
from tests.calls.desk import Desk
from tests.calls.test_dial import LAB, ORDER, Phones

ALL = ("ringing", "answered", "failed", "ended", "transfer")


class Slow(WebhookSender):
    """Takes an event when `taking` says so."""

    def __init__(self) -> None:
        super().__init__("http://receiver.example/", "secret")
        self.taken: list[str] = []
        self.taking = asyncio.Event()

    async def deliver(self, event: WebhookEvent, *, while_: Callable[[], bool]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self.taking.wait()
        if while_():
            self.taken.append(event.type)
        return while_()


def told(desk: Desk) -> list[str]:
    assert desk.webhooks is not None
    return [event.type.removeprefix("realtime.call.") for event in desk.webhooks.events]


def test_nothing_more_than_the_call_unless_asked() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, _ = desk.call()
        await virtual.settle()
        leg.ends("remote_hangup")
        await virtual.settle()
        assert told(desk) == ["incoming"]
        await desk.close()

    virtual.run(scenario())


def test_a_call_that_we_make() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True, trunks=[LAB], limits=Limits(webhook_events=ALL))
        phones = Phones()
        desk.board.use_phones(phones)
        call_id = await desk.board.dial(ORDER, None)
        phones.callees[0].rings()
        phones.callees[0].rings()
        phones.callees[0].takes_it()
        phones.callees[0].ends("remote_hangup")
        await virtual.settle()
        assert told(desk) == ["ringing", "answered", "ended"]
        assert desk.webhooks is not None
        assert all(event.data["call_id"] == call_id for event in desk.webhooks.events)
        ended = desk.webhooks.events[-1].data
        assert (ended["end_reason"], ended["secure"]) == ("remote_hangup", "none")
        await desk.close()

    virtual.run(scenario())


def test_a_call_that_nobody_takes() -> None:
    async def scenario() -> None:
        limits = Limits(ring_timeout_s=20, webhook_events=("failed",))
        desk = Desk(webhook=True, trunks=[LAB], limits=limits)
        desk.board.use_phones(Phones())
        await desk.board.dial(ORDER, None)
        await virtual.wait(21)
        assert told(desk) == ["failed"]
        assert desk.webhooks is not None
        assert desk.webhooks.events[0].data["reason"] == "no_answer"
        await desk.close()

    virtual.run(scenario())


def test_events_of_a_call_wait_for_those_before() -> None:
    async def scenario() -> None:
        slow, tasks = Slow(), TaskOwner("test")
        clock = asyncio.get_running_loop().time
        lifecycle = Lifecycle(slow, ALL, tasks=tasks, unix_time=clock)
        call = Call(CallId("rtc_1"), "sip", "outbound", 0.0)
        lifecycle.tell(call, "ringing")
        lifecycle.tell(call, "answered")
        await virtual.wait(5)
        assert len(tasks) == 1
        slow.taking.set()
        await virtual.wait(5)
        assert slow.taken == ["realtime.call.ringing", "realtime.call.answered"]
        # What nobody takes is given up.
        slow.taking.clear()
        lifecycle.tell(call, "ended")
        await virtual.wait(PATIENCE_S + 2)
        assert len(tasks) == 0
        assert len(slow.taken) == 2
        await slow.close()

    virtual.run(scenario())

"""How calls end: refused, hung up on, timed out, drained."""

import asyncio
import json

import pytest

from bridge.backends.base import CallAction, Capabilities, ResponseFinished
from bridge.calls.switchboard import Limits
from bridge.errors import (
    CallNotFound,
    ConflictError,
    OverloadedError,
)
from bridge.tasks import TaskOwner
from tests import virtual
from tests.calls.desk import SESSION, Desk
from tests.legs.extension import Extension

# Refusing and hanging up


def test_reject() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        declined, first = desk.call()
        await desk.board.reject(first)
        busy, second = desk.call()
        await desk.board.reject(second, 486)
        assert declined.verbs == ["ring", "reject 603"]
        assert busy.verbs == ["ring", "reject 486"]
        assert desk.state(second) == "ended: rejected"
        # A retry is harmless, another status comes too late.
        await desk.board.reject(first)
        await desk.board.reject(second, 486)
        with pytest.raises(CallNotFound):
            await desk.board.reject(second, 603)
        assert busy.verbs == ["ring", "reject 486"]
        await desk.close()

    virtual.run(scenario())


def test_an_answered_call_cannot_be_rejected() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = await desk.answered()
        with pytest.raises(ConflictError):
            await desk.board.reject(call_id)
        leg.ends("remote_hangup")
        await desk.close()

    virtual.run(scenario())


def test_hangup_of_a_ringing_call_declines_it() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = desk.call()
        await desk.board.hangup(call_id)
        await desk.board.hangup(call_id)
        assert leg.verbs == ["ring", "reject 603"]
        assert desk.state(call_id) == "ended: local_hangup"
        await desk.close()

    virtual.run(scenario())


@pytest.mark.parametrize("acknowledged", [True, False])
def test_hangup_of_an_answered_call(acknowledged: bool) -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = desk.call()
        await desk.board.accept(call_id, SESSION)
        if acknowledged:
            leg.acknowledges()
        sideband = desk.board.session(call_id).attach()
        await desk.board.hangup(call_id)
        assert desk.state(call_id) == "ending"
        await desk.board.hangup(call_id)
        await virtual.settle()
        await desk.board.hangup(call_id)
        assert leg.verbs == ["ring", "answer", "hangup"]
        assert desk.state(call_id) == "ended: local_hangup"
        assert (sideband.close_code, sideband.close_reason) == (1000, "local_hangup")
        with pytest.raises(CallNotFound):
            desk.board.session(call_id)
        await desk.close()

    virtual.run(scenario())


def test_hangup_of_a_call_the_caller_ended() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = await desk.answered()
        leg.ends("remote_hangup")
        with pytest.raises(CallNotFound):
            await desk.board.hangup(call_id)
        await desk.close()

    virtual.run(scenario())


def test_the_model_ends_the_call() -> None:
    async def scenario() -> None:
        desk = Desk(capabilities=Capabilities(greets=True))
        leg, call_id = desk.call()
        await virtual.settle()
        leg.acknowledges()
        response_id = desk.model.orders[0].response_id
        desk.model.emits(CallAction(response_id))
        desk.model.emits(ResponseFinished(response_id))
        await virtual.wait(1)
        assert leg.verbs[-1] == "hangup"
        assert desk.state(call_id) == "ended: local_hangup"
        await desk.close()

    virtual.run(scenario())


# Time


@pytest.mark.parametrize("accepted", [True, False])
def test_nobody_answers(accepted: bool) -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True, unreachable=True, limits=Limits(ring_timeout_s=20))
        leg, call_id = desk.call()
        tasks = TaskOwner("test")
        if accepted:
            tasks.spawn(desk.board.accept(call_id, SESSION), name="accept")
        await virtual.wait(19.9)
        assert leg.verbs == ["ring"]
        await virtual.wait(0.2)
        assert leg.verbs == ["ring", "reject 480"]
        assert desk.state(call_id) == "ended: no_answer"
        await tasks.close()
        await desk.close()

    virtual.run(scenario())


def test_an_answered_call_outlasts_the_ring_timeout_but_not_its_session() -> None:
    async def scenario() -> None:
        limits = Limits(ring_timeout_s=20, max_duration_s=600)
        desk = Desk(webhook=True, limits=limits)
        leg, call_id = await desk.answered()
        sideband = desk.board.session(call_id).attach()
        await virtual.wait(599)
        assert desk.state(call_id) == "active"
        await virtual.wait(2)
        assert leg.verbs[-1] == "hangup"
        texts = []
        while (text := await sideband.next()) is not None:
            texts.append(json.loads(text))
        assert texts[-1]["error"]["code"] == "session_expired"
        assert sideband.close_code == 1001
        await desk.close()

    virtual.run(scenario())


# The end of the service


def test_draining_waits_for_calls_and_takes_no_new_ones() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, _ = await desk.answered()
        draining = asyncio.create_task(desk.board.drain(30))
        await virtual.wait(10)
        assert desk.board.draining
        assert not draining.done()
        late = Extension()
        desk.board.incoming(late)
        assert late.verbs == ["reject 503"]
        for work in (desk.board.offer("v=0", None), desk.board.open_session("", None)):
            with pytest.raises(OverloadedError):
                await work
        leg.ends("remote_hangup")
        await virtual.settle()
        assert draining.done()
        await desk.close()

    virtual.run(scenario())


def test_draining_ends_what_does_not_end() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        talking, first = await desk.answered()
        ringing, second = desk.call()
        await desk.board.open_session("", None)
        await desk.board.drain(30)
        await desk.close()
        assert talking.verbs[-1] == "hangup"
        assert ringing.verbs[-1] == "reject 603"
        assert desk.state(first) == desk.state(second) == "ended: local_hangup"

    virtual.run(scenario())


def test_a_model_that_never_starts_does_not_hold_up_the_end() -> None:
    async def scenario() -> None:
        desk = Desk(unreachable=True)
        leg, call_id = desk.call()
        await virtual.settle()
        await desk.board.drain(0)
        await desk.close()
        assert leg.verbs == ["ring", "hangup"]
        assert desk.state(call_id) == "ended: local_hangup"

    virtual.run(scenario())

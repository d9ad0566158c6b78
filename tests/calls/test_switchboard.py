import asyncio
import json

import pytest

from bridge.backends.base import Capabilities
from bridge.calls.switchboard import Limits
from bridge.errors import (
    BackendError,
    BridgeError,
    CallNotFound,
    ConflictError,
    OverloadedError,
    RequestError,
    SdpError,
)
from bridge.ids import CallId
from tests import virtual
from tests.backends.puppet import tone
from tests.calls.desk import ANSWER_SDP, SESSION, Desk
from tests.legs.extension import FROM, TO, Extension, new_stream

OTHER = {**SESSION, "instructions": "Be long."}

# Without a webhook


def test_a_call_nobody_configured_gets_the_default_session_and_the_greeting() -> None:
    async def scenario() -> None:
        desk = Desk(greeting="Welcome.")
        leg, call_id = desk.call()
        assert desk.state(call_id) == "ringing"
        await virtual.settle()
        assert leg.verbs == ["ring", "answer"]
        assert desk.state(call_id) == "answering"
        desk.clock += 2
        leg.acknowledges()
        record = desk.board.record(call_id)
        assert (record["state"], record["model"]) == ("active", "default")
        assert (record["from"], record["to"]) == (FROM, TO)
        assert record["answered_at"] == record["started_at"] + 2
        assert "Welcome." in desk.model.orders[0].instructions
        leg.ends("remote_hangup")
        assert desk.state(call_id) == "ended: remote_hangup"
        await desk.close()

    virtual.run(scenario())


@pytest.mark.parametrize("greets", [True, False])
def test_a_model_speaks_first_if_it_has_something_to_say(greets: bool) -> None:
    async def scenario() -> None:
        desk = Desk(capabilities=Capabilities(greets=greets))
        leg, _ = desk.call()
        await virtual.settle()
        leg.acknowledges()
        assert len(desk.model.orders) == greets
        leg.ends("remote_hangup")
        await desk.close()

    virtual.run(scenario())


def test_a_model_that_cannot_be_reached_refuses_the_caller() -> None:
    async def scenario() -> None:
        desk = Desk(failure=BackendError("no model"))
        leg, call_id = desk.call()
        await virtual.settle()
        assert leg.verbs == ["ring", "reject 503"]
        assert desk.state(call_id) == "ended: backend_unavailable"
        await desk.close()

    virtual.run(scenario())


# With a webhook


def test_a_call_rings_until_the_webhook_has_it_accepted() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True, greeting="Welcome.")
        leg, call_id = desk.call()
        await virtual.settle()
        assert desk.webhooks is not None
        (event,) = desk.webhooks.events
        assert event.data["call_id"] == call_id
        assert (leg.verbs, desk.models) == (["ring"], [])
        with pytest.raises(CallNotFound):
            desk.board.session(call_id)

        await desk.board.accept(call_id, SESSION)
        assert leg.verbs == ["ring", "answer"]
        leg.acknowledges()
        assert desk.state(call_id) == "active"
        assert desk.model.config["instructions"] == "Be brief."
        # Whoever accepts decides on the first words.
        assert desk.model.orders == []
        assert desk.board.session(call_id).id == desk.board.record(call_id)["session_id"]
        leg.ends("remote_hangup")
        await desk.close()

    virtual.run(scenario())


def test_accept_may_be_repeated_but_not_changed() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = await desk.answered()
        await desk.board.accept(call_id, dict(SESSION))
        with pytest.raises(ConflictError):
            await desk.board.accept(call_id, OTHER)
        assert leg.verbs == ["ring", "answer"]
        leg.ends("remote_hangup")
        await desk.close()

    virtual.run(scenario())


def test_a_wrong_session_leaves_the_call_ringing() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = desk.call()
        with pytest.raises(RequestError):
            await desk.board.accept(call_id, {"type": "realtime", "output_modalities": ["smell"]})
        assert desk.state(call_id) == "ringing"
        await desk.board.accept(call_id, SESSION)
        leg.ends("remote_hangup")
        await desk.close()

    virtual.run(scenario())


def test_accept_of_a_call_that_was_cancelled() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = desk.call()
        leg.ends("cancelled")
        for wanted in (call_id, CallId("rtc_test_unknown")):
            with pytest.raises(CallNotFound):
                await desk.board.accept(wanted, SESSION)
        assert (leg.verbs, desk.models) == (["ring"], [])
        await desk.close()

    virtual.run(scenario())


async def refused(work: asyncio.Task[None]) -> BridgeError | None:
    (outcome,) = await asyncio.gather(work, return_exceptions=True)
    assert isinstance(outcome, BridgeError | None)
    return outcome


def test_cancel_while_the_model_is_starting() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True, unreachable=True)
        leg, call_id = desk.call()
        accepting = asyncio.create_task(desk.board.accept(call_id, SESSION))
        await virtual.settle()
        # A retry meanwhile is harmless.
        await desk.board.accept(call_id, SESSION)
        leg.ends("cancelled")
        desk.model.reachable.set()
        assert isinstance(await refused(accepting), CallNotFound)
        assert leg.verbs == ["ring"]
        assert desk.state(call_id) == "ended: cancelled"
        await desk.close()

    virtual.run(scenario())


def test_hangup_while_the_model_is_starting() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True, unreachable=True)
        leg, call_id = desk.call()
        accepting = asyncio.create_task(desk.board.accept(call_id, SESSION))
        await virtual.settle()
        await desk.board.hangup(call_id)
        await desk.board.hangup(call_id)
        await virtual.settle()
        desk.model.reachable.set()
        assert isinstance(await refused(accepting), CallNotFound)
        assert leg.verbs == ["ring", "hangup"]
        assert desk.state(call_id) == "ended: local_hangup"
        await desk.close()

    virtual.run(scenario())


def test_a_model_that_fails_after_the_caller_has_gone() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True, unreachable=True, failure=BackendError("no model"))
        leg, call_id = desk.call()
        accepting = asyncio.create_task(desk.board.accept(call_id, SESSION))
        await virtual.settle()
        leg.ends("cancelled")
        desk.model.reachable.set()
        assert isinstance(await refused(accepting), BackendError)
        assert desk.state(call_id) == "ended: cancelled"
        await desk.close()

    virtual.run(scenario())


def test_accept_tells_when_the_model_cannot_be_reached() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True, failure=BackendError("no model"))
        leg, call_id = desk.call()
        with pytest.raises(BackendError):
            await desk.board.accept(call_id, SESSION)
        assert leg.verbs == ["ring", "reject 503"]
        with pytest.raises(CallNotFound):
            await desk.board.accept(call_id, SESSION)
        await desk.close()

    virtual.run(scenario())


def test_a_leg_that_cannot_be_answered_ends_its_session() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = desk.call(Extension(failure=SdpError("no codec")))
        with pytest.raises(SdpError):
            await desk.board.accept(call_id, SESSION)
        assert leg.verbs == ["ring", "reject 488"]
        assert desk.state(call_id) == "ended: rejected"
        await desk.close()

    virtual.run(scenario())


# Browsers


def test_a_browser_is_answered_at_once_and_talks_by_its_channel() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        call_id, answer = await desk.board.offer("v=0", SESSION)
        (leg,) = desk.browsers.legs
        assert (answer, leg.verbs) == (ANSWER_SDP, ["answer"])
        stream = leg.stream = new_stream()
        leg.acknowledges()
        assert desk.state(call_id) == "active"
        leg.writes('{"type": "response.create"}')
        assert stream.on_frame is not None
        stream.on_frame(tone(20))
        assert desk.model.heard_samples == 480
        assert len(desk.model.orders) == 1
        types = [json.loads(text)["type"] for text in leg.messages]
        assert types[:2] == ["session.created", "response.created"]
        leg.ends("connection_lost")
        await desk.close()

    virtual.run(scenario())


def test_a_browser_with_a_wrong_session_is_told_before_anything_begins() -> None:
    async def scenario() -> None:
        desk = Desk()
        with pytest.raises(RequestError):
            await desk.board.offer("v=0", {"type": "unheard-of"})
        assert (desk.board.live(), desk.models, desk.browsers.legs) == ([], [], [])
        await desk.close()

    virtual.run(scenario())


def test_keys_reach_the_session() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = desk.call()
        leg.presses("1")
        await desk.board.accept(call_id, SESSION)
        leg.acknowledges()
        sideband = desk.board.session(call_id).attach()
        leg.presses("5")
        leg.ends("remote_hangup")
        await sideband.next()
        event = json.loads(await sideband.next() or "")
        assert (event["type"], event["event"]) == ("input_audio_buffer.dtmf_event_received", "5")
        await desk.close()

    virtual.run(scenario())


# Room


async def turns_away(desk: Desk) -> None:
    """Whoever comes now; those who are there stay."""
    there = desk.board.live()
    late = Extension()
    desk.board.incoming(late)
    assert late.verbs == ["reject 503"]
    with pytest.raises(OverloadedError):
        await desk.board.offer("v=0", None)
    assert desk.board.live() == there


def test_no_room() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True, limits=Limits(max_calls=1))
        leg, _ = await desk.answered()
        await turns_away(desk)
        leg.ends("remote_hangup")
        next_leg, _ = desk.call()
        assert next_leg.verbs == ["ring"]
        next_leg.ends("cancelled")
        await desk.close()

    virtual.run(scenario())


def test_no_time_for_more_calls() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, _ = await desk.answered()
        desk.is_full = True
        await turns_away(desk)
        desk.is_full = False
        next_leg, _ = desk.call()
        assert next_leg.verbs == ["ring"]
        next_leg.ends("cancelled")
        leg.ends("remote_hangup")
        await desk.close()

    virtual.run(scenario())


def test_offers_at_the_same_time_share_the_room() -> None:
    async def scenario() -> None:
        desk = Desk(limits=Limits(max_calls=1))
        offers = (desk.board.offer("v=0", None) for _ in range(3))
        outcomes = await asyncio.gather(*offers, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [tuple, OverloadedError, OverloadedError]
        taken, *late = desk.browsers.legs
        assert [leg.verbs for leg in late] == [["reject 503"], ["reject 503"]]
        taken.ends("connection_lost")
        await desk.close()

    virtual.run(scenario())


def test_the_record_outlives_the_call() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = await desk.answered()
        desk.clock += 61.5
        leg.ends("remote_hangup")
        assert desk.board.live() == []
        record = desk.board.record(call_id)
        assert record["ended_at"] - record["answered_at"] == 61.5
        assert record["model"] == "m-1"
        with pytest.raises(CallNotFound):
            desk.board.record(CallId("rtc_test_unknown"))
        await desk.close()

    virtual.run(scenario())


# Sessions without a call


def test_a_plain_session_lives_as_long_as_its_socket() -> None:
    async def scenario() -> None:
        desk = Desk(limits=Limits(max_calls=1))
        session = await desk.board.open_session("m-2", None)
        assert session.config.model == "m-2"
        client = session.attach()
        with pytest.raises(OverloadedError):
            await desk.board.open_session("m-2", None)
        session.detach(client)
        await virtual.settle()
        assert desk.model.closed == 1
        await desk.close()

    virtual.run(scenario())


def test_a_plain_session_ends_in_time() -> None:
    async def scenario() -> None:
        desk = Desk(limits=Limits(max_duration_s=600))
        session = await desk.board.open_session("", {"instructions": "Hum."})
        client = session.attach()
        await virtual.wait(601)
        assert (client.close_code, desk.model.closed) == (1001, 1)
        await desk.close()

    virtual.run(scenario())

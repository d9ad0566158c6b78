"""Calls that we make: what may be ordered, how they go, and what is told of them."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from bridge.backends.base import Capabilities
from bridge.calls.switchboard import Limits
from bridge.calls.trunks import Trunk
from bridge.errors import BackendError, ConflictError, OverloadedError, RequestError
from bridge.ids import CallId
from bridge.legs.base import Leg, LegResult
from bridge.legs.exits import DialOrder
from bridge.sessions.clients import SidebandClient
from bridge.sip.auth import Credentials
from tests import virtual
from tests.calls.desk import SESSION, Desk
from tests.legs.extension import Extension, new_stream

LAB = Trunk(
    "lab",
    uri="sip:pstn.example.com",
    credentials=Credentials("user", "secret"),
    caller_ids=("+4930100", "+4930101"),
    header_out={"X-Tenant": "7"},
    prefixes=("+49", "bob"),
    max_calls=1,
)
ORDER = {"type": "sip", "trunk": "lab", "destination": "tel:+49-30-123"}


class Callee(Extension):
    def __init__(self) -> None:
        super().__init__()
        self.direction = "outbound"
        self.headers = ()
        self.stream = None

    def rings(self, status: int = 180) -> None:
        assert self.listener is not None
        self.listener.leg_progress(status)

    def takes_it(self) -> None:
        self.stream = new_stream()
        self.acknowledges()

    def refuses(self, result: LegResult, reason: str) -> None:
        self.result = result
        self.ends(reason)


class Phones:
    """`failure` is what dialling raises."""

    def __init__(self, failure: OverloadedError | None = None) -> None:
        self.orders: list[DialOrder] = []
        self.callees: list[Callee] = []
        self.failure = failure

    async def dial(self, order: DialOrder) -> Leg:
        self.orders.append(order)
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.callees.append(Callee())
        return self.callees[-1]


class Office(Desk):
    """A desk with phones to call from, on a trunk with room for one call."""

    def __init__(self, *, dialling: OverloadedError | None = None, **desk: Any) -> None:
        super().__init__(trunks=[LAB], **desk)
        self.phones = Phones(dialling)
        self.board.use_phones(self.phones)

    async def dials(
        self, session: Mapping[str, Any] | None = SESSION, **order: Any
    ) -> tuple[Callee, CallId]:
        call_id = await self.board.dial({**ORDER, **order}, session)
        return self.phones.callees[-1], call_id


async def heard(client: SidebandClient) -> list[dict[str, Any]]:
    """What was told of the call until it ended."""
    await virtual.settle()
    events = []
    while (text := await client.next()) is not None:
        event = msgspec.json.decode(text)
        if event["type"].startswith("transport."):
            events.append({k: v for k, v in event.items() if k not in ("event_id", "at_ms")})
    return events


def test_a_call_that_is_taken() -> None:
    async def scenario() -> None:
        office = Office(capabilities=Capabilities(greets=True))
        callee, call_id = await office.dials(None, headers={"X-Order": "12"})
        (order,) = office.phones.orders
        assert (str(order.target), order.caller) == ("sip:+4930123@pstn.example.com", "+4930100")
        assert order.headers == (("X-Tenant", "7"), ("X-Order", "12"))
        assert order.credentials is LAB.credentials
        record = office.board.record(call_id)
        assert (record["state"], record["direction"]) == ("ringing", "outbound")
        assert (record["from"], record["to"]) == ("+4930100", "sip:+4930123@pstn.example.com")
        client = office.board.session(call_id).attach(extras=True)
        callee.rings()
        # Nobody listens yet: the model is not asked, and no ringing is answered.
        assert (office.model.orders, callee.verbs) == ([], [])
        office.clock += 3
        callee.takes_it()
        record = office.board.record(call_id)
        assert (record["state"], record["answered_at"]) == ("active", record["started_at"] + 3)
        assert len(office.model.orders) == 1
        callee.ends("remote_hangup")
        assert office.state(call_id) == "ended: remote_hangup"
        assert [event["type"] for event in await heard(client)] == [
            "transport.ringing",
            "transport.answered",
            "transport.ended",
        ]
        await office.close()

    virtual.run(scenario())


def test_early_media_is_not_spoken_to() -> None:
    async def scenario() -> None:
        office = Office(capabilities=Capabilities(greets=True))
        callee, call_id = await office.dials(None)
        callee.stream = new_stream()
        callee.rings(183)
        await virtual.wait(5)
        assert office.model.orders == []
        assert callee.stream.playout.idle
        assert office.state(call_id) == "ringing"
        callee.acknowledges()
        assert len(office.model.orders) == 1
        callee.ends("remote_hangup")
        await office.close()

    virtual.run(scenario())


def test_taken_before_the_model_is_there() -> None:
    async def scenario() -> None:
        office = Office(unreachable=True, greeting="Welcome.")
        async with asyncio.TaskGroup() as tasks:
            dialling = tasks.create_task(office.dials(None))
            await virtual.settle()
            (callee,) = office.phones.callees
            callee.takes_it()
            office.model.reachable.set()
        _, call_id = dialling.result()
        assert office.state(call_id) == "active"
        assert "Welcome." in office.model.orders[0].instructions
        callee.ends("remote_hangup")
        await office.close()

    virtual.run(scenario())


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (LegResult(486, "Busy Here", 17), "busy"),
        (LegResult(404, "Not Found"), "unknown_number"),
        (LegResult(503, "Service Unavailable", 34), "failed"),
    ],
)
def test_a_call_that_is_refused(result: LegResult, reason: str) -> None:
    async def scenario() -> None:
        office = Office(greeting="Welcome.")
        callee, call_id = await office.dials(None)
        client = office.board.session(call_id).attach(extras=True)
        plain = office.board.session(call_id).attach()
        callee.refuses(result, reason)
        record = office.board.record(call_id)
        assert (record["state"], record["end_reason"]) == ("ended", reason)
        assert (record["sip_status"], record["q850_cause"]) == (result.status, result.q850)
        failed, over = await heard(client)
        assert over["type"] == "transport.ended"
        assert failed["type"] == "transport.failed"
        assert (failed["status"], failed["reason"]) == (result.status, result.reason)
        assert failed.get("q850") == result.q850
        assert await heard(plain) == []
        assert office.model.orders == []
        await office.close()

    virtual.run(scenario())


@pytest.mark.parametrize(("order", "rings_s"), [({}, 60), ({"ring_timeout_s": 5}, 5)])
def test_nobody_takes_it(order: dict[str, Any], rings_s: float) -> None:
    async def scenario() -> None:
        office = Office(limits=Limits(ring_timeout_s=60))
        callee, call_id = await office.dials(**order)
        callee.rings()
        await virtual.wait(rings_s - 0.5)
        assert callee.verbs == []
        await virtual.wait(1)
        assert callee.verbs == ["hangup"]
        assert office.state(call_id) == "ended: no_answer"
        await office.close()

    virtual.run(scenario())


def test_hangup_while_it_rings() -> None:
    async def scenario() -> None:
        office = Office()
        callee, call_id = await office.dials()
        await office.board.hangup(call_id)
        await virtual.settle()
        assert callee.verbs == ["hangup"]
        assert office.state(call_id) == "ended: local_hangup"
        await office.close()

    virtual.run(scenario())


def test_the_ringing_of_a_callee_is_not_ours_to_accept_or_reject() -> None:
    async def scenario() -> None:
        office = Office()
        callee, call_id = await office.dials()
        with pytest.raises(ConflictError):
            await office.board.accept(call_id, SESSION)
        with pytest.raises(ConflictError):
            await office.board.reject(call_id)
        assert (callee.verbs, office.state(call_id)) == ([], "ringing")
        callee.ends("busy")
        await office.close()

    virtual.run(scenario())


def test_a_call_in_progress_has_its_own_time() -> None:
    async def scenario() -> None:
        office = Office(limits=Limits(ring_timeout_s=60, max_duration_s=100))
        callee, call_id = await office.dials()
        await virtual.wait(50)
        callee.takes_it()
        await virtual.wait(99)
        assert office.state(call_id) == "active"
        await virtual.wait(2)
        assert office.state(call_id) == "ended: expired"
        await office.close()

    virtual.run(scenario())


def test_a_model_that_cannot_be_reached_ends_the_ringing() -> None:
    async def scenario() -> None:
        office = Office(failure=BackendError("no model"))
        with pytest.raises(BackendError):
            await office.dials()
        (callee,) = office.phones.callees
        assert callee.verbs == ["hangup"]
        assert office.board.live() == []
        await office.close()

    virtual.run(scenario())


@pytest.mark.parametrize(
    ("order", "param", "code"),
    [
        ({"type": "webrtc"}, "transport.type", None),
        ({"trunk": None}, "transport.trunk", "missing_required_parameter"),
        ({"trunk": "other"}, "transport.trunk", None),
        ({"destination": 5}, "transport.destination", "missing_required_parameter"),
        ({"destination": "tel:+44123"}, "transport.destination", "destination_not_allowed"),
        ({"destination": "sip:bob@10.0.0.1"}, "transport.destination", None),
        ({"destination": "http://bob"}, "transport.destination", None),
        ({"destination": "sip:bob@x.example\r\nX: y"}, "transport.destination", None),
        ({"caller": "+4930999"}, "transport.caller", "caller_not_allowed"),
        ({"caller": 7}, "transport.caller", None),
        ({"headers": {"Via": "x"}}, "transport.headers.Via", None),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "transport.headers.X-A", None),
        ({"headers": {"X-A": 1}}, "transport.headers", None),
        ({"ring_timeout_s": 0}, "transport.ring_timeout_s", None),
        ({"ring_timeout_s": "60"}, "transport.ring_timeout_s", None),
        ({"ring_timeout_s": float("nan")}, "transport.ring_timeout_s", None),
        ({"ring_timeout_s": True}, "transport.ring_timeout_s", None),
        ({"number": "1"}, "transport.number", "unknown_parameter"),
    ],
)
def test_orders_that_are_refused(order: dict[str, Any], param: str, code: str | None) -> None:
    async def scenario() -> None:
        office = Office()
        with pytest.raises(RequestError) as refusal:
            await office.dials(**order)
        assert refusal.value.param == param
        if code is not None:
            assert refusal.value.code == code
        assert (office.phones.orders, office.models) == ([], [])
        # Its place on the trunk was not taken.
        callee, _ = await office.dials()
        callee.ends("remote_hangup")
        await office.close()

    virtual.run(scenario())


def test_a_wrong_session_calls_nobody() -> None:
    async def scenario() -> None:
        office = Office()
        with pytest.raises(RequestError):
            await office.dials({"type": "realtime", "speed": "fast"})
        assert office.phones.orders == []
        await office.close()

    virtual.run(scenario())


def test_the_number_shown_may_be_chosen_among_the_trunks_own() -> None:
    async def scenario() -> None:
        office = Office()
        callee, _ = await office.dials(caller="+4930101", destination="sip:bob@sip.example.com")
        (order,) = office.phones.orders
        assert (order.caller, str(order.target)) == ("+4930101", "sip:bob@sip.example.com")
        callee.ends("remote_hangup")
        await office.close()

    virtual.run(scenario())


def test_a_destination_nothing_reaches_gives_its_place_back() -> None:
    async def scenario() -> None:
        office = Office(dialling=OverloadedError("no way", code="destination_unreachable"))
        for _ in range(2):
            with pytest.raises(OverloadedError, match="no way"):
                await office.dials()
        assert office.models == []
        await office.close()

    virtual.run(scenario())


def test_a_service_that_stops_calls_nobody() -> None:
    async def scenario() -> None:
        office = Office()
        await office.board.drain(0)
        with pytest.raises(OverloadedError):
            await office.dials()
        assert office.phones.orders == []
        await office.close()

    virtual.run(scenario())

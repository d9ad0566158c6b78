"""Tool servers of a session: what the model calls, and what becomes of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from bridge.backends.base import Pcm, ResponseFinished, ToolCall, coded_to
from bridge.backends.tools import ToolError
from bridge.ids import ToolCallId
from bridge.realtime.outputs import CallTool, CloseServer, OpenServer
from bridge.sessions.tools import Tools, ToolTimes
from tests import virtual
from tests.backends.puppet import Puppet, tone
from tests.sessions.stage import Stage

CALL = {
    "type": "mcp",
    "server_label": "call",
    "server_url": "call:tools",
    "require_approval": "never",
}


class Shed:
    """A tool server; `open` notes who came and went."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.told: list[str] = []
        self.never = asyncio.Event()

    @asynccontextmanager
    async def open(self, tool: Mapping[str, Any]) -> AsyncIterator["Shed"]:
        if self.broken:
            raise ToolError("closed")
        self.told.append("opened")
        try:
            yield self
        finally:
            self.told.append("closed")

    async def list(self) -> Sequence[Mapping[str, Any]]:
        return [{"name": "saw", "input_schema": {}}]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        if name == "wait":
            await self.never.wait()
        return f"{name} {sorted(arguments)}"


class Bench:
    def __init__(self, shed: Shed) -> None:
        self.listed: list[tuple[str, Any]] = []
        self.ran: list[tuple[str, str | None, Any]] = []
        self.tools = Tools(
            shed.open,
            listed=lambda *told: self.listed.append(told),
            ran=lambda *told: self.ran.append(told),
            times=ToolTimes(listing_s=1.0, call_s=0.05),
        )

    def call(self, name: str, arguments: str = "{}") -> None:
        order: Any = CallTool("item" + name, "shed", name, arguments, "resp")  # type: ignore[arg-type]
        self.tools.perform(order)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110 - what it waits for is a timer of the loop
            await asyncio.sleep(0)


def test_a_server_lives_as_long_as_it_is_wanted() -> None:
    async def scenario() -> None:
        shed = Shed()
        bench = Bench(shed)
        bench.tools.perform(OpenServer("shed", {}))
        await settle()
        assert bench.listed == [("shed", [{"name": "saw", "input_schema": {}}])]
        bench.call("saw", '{"teeth": 3}')
        bench.call("bad", "[1]")
        bench.call("wait")
        await settle()
        assert bench.ran[0] == ("itemsaw", "saw ['teeth']", None)
        assert bench.ran[1][2]["message"] == "The arguments are not an object."
        await until(lambda: len(bench.ran) == 3)
        assert bench.ran[2][2]["message"] == "No answer within 0.05 s."
        bench.tools.perform(CloseServer("shed"))
        await settle()
        assert shed.told == ["opened", "closed"]
        await bench.tools.close()

    asyncio.run(scenario())


def test_a_server_that_cannot_be_had() -> None:
    async def scenario() -> None:
        bench = Bench(Shed(broken=True))
        bench.tools.perform(OpenServer("shed", {}))
        await settle()
        assert bench.listed == [("shed", None)]
        bench.call("saw")
        await settle()
        assert bench.ran[0][2]["message"] == "The server is not connected."
        await bench.tools.close()

    asyncio.run(scenario())


def test_closing_leaves_nothing_open() -> None:
    async def scenario() -> None:
        shed = Shed()
        bench = Bench(shed)
        bench.tools.perform(OpenServer("shed", {}))
        await settle()
        bench.call("wait")
        await settle()
        await bench.tools.close()
        assert shed.told == ["opened", "closed"]
        assert bench.ran == []

    asyncio.run(scenario())


def test_octets_are_taken_by_who_wants_them_only() -> None:
    listener = Listener()
    assert coded_to(listener) == listener.coded
    listener.wants_coded = False
    assert coded_to(listener) is None
    assert coded_to(Puppet()) is None


class Listener(Puppet):
    wants_coded = True

    def __init__(self) -> None:
        super().__init__()
        self.peaks: list[int] = []
        self.octets: list[bytes] = []

    def coded(self, octets: bytes, law: str, /) -> None:
        self.octets.append(octets)

    def push_audio(self, pcm: Pcm) -> None:
        self.peaks.append(int(pcm.max()))


async def on_stage(model: Puppet | None = None) -> Stage:
    stage = await Stage(session={"tools": [CALL]}, model=model).open()
    await settle()
    stage.agent_says("Goodbye then.", ms=400, done=False)
    return stage


def test_the_model_ends_its_call_when_it_has_been_heard() -> None:
    async def scenario() -> None:
        stage = await on_stage()
        names = [tool["name"] for tool in stage.model.orders[-1].tools]
        assert names == ["end_call", "transfer_call", "send_dtmf", "hold"]
        response_id = stage.model.orders[-1].response_id
        stage.model.emits(ToolCall(response_id, ToolCallId("c1"), "end_call", "{}"))
        stage.model.emits(ResponseFinished(response_id))
        await settle()
        told = stage.model.orders[-1].items[-1]
        assert told["output"].startswith("The call ends when")
        stage.model.emits(ResponseFinished(response_id))
        stage.play(200)
        assert stage.owner.told == []
        stage.play(300)
        await until(lambda: stage.owner.told == ["hangup"])
        await stage.session.close()

    asyncio.run(scenario())


def test_a_session_without_a_phone_call_cannot_be_transferred() -> None:
    async def scenario() -> None:
        stage = await on_stage()
        response_id = stage.model.orders[-1].response_id
        call = ToolCall(response_id, ToolCallId("c1"), "transfer_call", '{"target": "tel:+49"}')
        stage.model.emits(call)
        stage.model.emits(ResponseFinished(response_id))
        await settle()
        assert stage.model.orders[-1].items[-1]["output"] == "This session is no phone call."
        await stage.session.close()

    asyncio.run(scenario())


def test_a_caller_on_hold_is_not_heard_and_hears_a_tone() -> None:
    async def scenario() -> None:
        model = Listener()
        stage = await on_stage(model)
        response_id = stage.model.orders[-1].response_id
        stage.play(500)
        call = ToolCall(response_id, ToolCallId("c1"), "hold", '{"seconds": 1}')
        stage.model.emits(call)
        stage.model.emits(ResponseFinished(response_id))
        await settle()
        assert stage.stream.on_frame is not None
        assert stage.stream.on_coded is not None
        stage.stream.on_coded(b"spoken", "PCMU")
        stage.stream.on_frame(tone(20))
        frame = stage.playout.read()
        assert frame is not None
        assert np.abs(frame).max() > 500
        await virtual.wait(1)
        await settle()
        assert stage.model.orders[-1].items[-1]["output"].startswith("The caller has waited")
        stage.stream.on_coded(b"again", "PCMU")
        stage.stream.on_frame(tone(20))
        assert model.peaks == [0, 1000]
        # What came while nobody was to hear it is taken back.
        assert model.octets == [b"spoken", b"", b"again"]
        await stage.session.close()

    virtual.run(scenario())


@pytest.mark.parametrize("seconds", ["0", "51", "true", '"long"', "null"])
def test_a_hold_has_an_end(seconds: str) -> None:
    async def scenario() -> None:
        stage = await on_stage()
        response_id = stage.model.orders[-1].response_id
        call = ToolCall(response_id, ToolCallId("c1"), "hold", f'{{"seconds": {seconds}}}')
        stage.model.emits(call)
        stage.model.emits(ResponseFinished(response_id))
        await settle()
        assert "from 1 to 50" in stage.model.orders[-1].items[-1]["output"]
        await stage.session.close()

    asyncio.run(scenario())

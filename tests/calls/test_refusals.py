"""Calls that come as far as the switchboard, and no further: one line each."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge.calls.switchboard import Limits
from bridge.errors import BackendBusy
from tests import virtual
from tests.calls.desk import SESSION, Desk
from tests.legs.extension import Extension


def line_of(
    caplog: pytest.LogCaptureFixture, scenario: Callable[[Desk], Awaitable[None]], **desk: Any
) -> dict[str, Any]:
    async def main() -> None:
        opened = Desk(**desk)
        await scenario(opened)
        await virtual.settle()
        await opened.close()

    caplog.set_level(logging.INFO, "bridge")
    virtual.run(main())
    (line,) = [vars(each) for each in caplog.records if each.getMessage() == "INVITE refused"]
    return line


def test_nobody_accepts(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(desk: Desk) -> None:
        leg, _ = desk.call()
        await virtual.wait(61)
        assert leg.verbs == ["ring", "reject 480"]

    line = line_of(caplog, scenario, webhook=True)
    assert (line["status"], line["why"]) == (480, "not accepted in 60 s")
    assert line["change"].startswith("limits.ring_timeout_s")
    assert line["call_id"].startswith("rtc_")


def test_there_is_no_room(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(desk: Desk) -> None:
        first, call_id = desk.call()
        desk.board.incoming(Extension())
        await desk.board.accept(call_id, SESSION)
        first.ends("remote_hangup")

    line = line_of(caplog, scenario, webhook=True, limits=Limits(max_calls=1))
    assert (line["status"], line["change"]) == (503, "limits.max_calls")


def test_there_is_no_time(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(desk: Desk) -> None:
        desk.board.incoming(Extension())

    line = line_of(caplog, scenario, is_full=True)
    assert (line["status"], line["change"]) == (503, "limits.max_load")


def test_the_model_has_no_room(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(desk: Desk) -> None:
        desk.call()
        await virtual.settle()

    line = line_of(caplog, scenario, failure=BackendBusy("all its sessions are taken"))
    assert (line["status"], line["why"]) == (480, "no model: all its sessions are taken")
    assert (line["change"], line["levelname"]) == ("session", "WARNING")


def test_the_api_rejects_it(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(desk: Desk) -> None:
        _, call_id = desk.call()
        await desk.board.reject(call_id, 486)

    line = line_of(caplog, scenario, webhook=True)
    assert (line["status"], line["why"], line["levelname"]) == (486, "rejected by the API", "INFO")


def test_the_service_stops(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.board.drain(0)
        desk.board.incoming(Extension())

    assert line_of(caplog, scenario)["why"] == "the service is stopping"

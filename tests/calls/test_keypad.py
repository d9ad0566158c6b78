"""Keys that are collected: one item for all of them, or none but a count with the vault."""

import json
from typing import Any

import pytest

from bridge.backends.base import Capabilities
from bridge.calls.keypad import KeypadSettings, read_keypad
from bridge.calls.switchboard import Limits
from bridge.errors import RequestError
from tests import virtual
from tests.calls.desk import SESSION, Desk
from tests.calls.test_dial import LAB, ORDER, Phones

PIN = "739104"


def with_keys(**dtmf: Any) -> dict[str, Any]:
    return {**SESSION, "transport": {"dtmf": dtmf}}


def asked_of(desk: Desk) -> list[str]:
    """The last words of the caller, in each order to the model."""
    return [order.items[-1]["content"][0]["text"] for order in desk.model.orders]


@pytest.mark.parametrize(
    ("dtmf", "pressed", "items"),
    [
        ({}, "12#34#", ["[dtmf] 12", "[dtmf] 34"]),
        ({"finish": "*"}, "1#2*", ["[dtmf] 1#2"]),
        ({"length": 2}, "1234", ["[dtmf] 12", "[dtmf] 34"]),
    ],
)
def test_keys_become_one_item(dtmf: dict[str, Any], pressed: str, items: list[str]) -> None:
    async def scenario() -> None:
        # What hears single keys does not hear them twice.
        desk = Desk(webhook=True, capabilities=Capabilities(hears_dtmf=True))
        leg, call_id = await desk.answered(with_keys(**dtmf))
        client = desk.board.session(call_id).attach()
        for digit in pressed:
            leg.presses(digit)
        assert asked_of(desk) == items
        assert desk.board.record(call_id)["keys_pressed"] == len(pressed)
        leg.ends("remote_hangup")
        await virtual.settle()
        told = ""
        while (text := await client.next()) is not None:
            event = json.loads(text)
            if event["type"] == "input_audio_buffer.dtmf_event_received":
                told += event["event"]
        assert told == pressed
        await desk.close()

    virtual.run(scenario())


def test_a_pause_ends_them() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, _ = await desk.answered(with_keys(pause_s=2))
        leg.presses("4")
        await virtual.wait(1.5)
        leg.presses("2")
        await virtual.wait(1.5)
        assert desk.model.orders == []
        await virtual.wait(1)
        assert asked_of(desk) == ["[dtmf] 42"]
        leg.ends("remote_hangup")
        await desk.close()

    virtual.run(scenario())


def test_the_vault_opens_for_the_webhook_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        caplog.set_level("DEBUG")
        desk = Desk(webhook=True)
        leg, call_id = await desk.answered(with_keys(vault=True))
        client = desk.board.session(call_id).attach(extras=True)
        for digit in f"{PIN}#":
            leg.presses(digit)
        assert asked_of(desk) == [f"[dtmf] {len(PIN)} keys"]
        leg.presses("5")
        record = desk.board.record(call_id)
        leg.ends("remote_hangup")
        await virtual.settle()
        assert desk.webhooks is not None
        kept = [e.data for e in desk.webhooks.events if e.type == "realtime.call.dtmf"]
        assert [(each["digits"], each["ended_by"]) for each in kept] == [
            (PIN, "finish"),
            ("5", "hangup"),
        ]
        seen = []
        while (text := await client.next()) is not None:
            seen.append(text)
        said = [json.loads(text) for text in seen]
        collected = next(e for e in said if e["type"] == "transport.dtmf.collected")
        assert (collected["count"], collected["ended_by"]) == (len(PIN), "finish")
        assert not [e for e in said if "dtmf" in e["type"] and "event" in e]
        # Neither whole nor key by key.
        assert PIN not in f"{seen}{record}{caplog.text}{desk.model.orders}"
        assert record["keys_pressed"] == len(PIN) + 2
        await desk.close()

    virtual.run(scenario())


def test_a_vault_without_a_webhook_is_refused() -> None:
    async def scenario() -> None:
        desk = Desk(trunks=[LAB])
        desk.board.use_phones(Phones())
        with pytest.raises(RequestError) as caught:
            await desk.board.dial({**ORDER, "dtmf": {"vault": True}}, SESSION)
        assert caught.value.param == "transport.dtmf.vault"
        await desk.close()

    virtual.run(scenario())


def test_calls_that_we_make_collect_too() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True, trunks=[LAB], limits=Limits(webhook_events=("dtmf",)))
        phones = Phones()
        desk.board.use_phones(phones)
        await desk.board.dial({**ORDER, "dtmf": {"length": 1}}, SESSION)
        phones.callees[0].takes_it()
        phones.callees[0].presses("1")
        assert asked_of(desk) == ["[dtmf] 1"]
        phones.callees[0].ends("remote_hangup")
        await virtual.settle()
        assert desk.webhooks is not None
        assert [event.data["digits"] for event in desk.webhooks.events] == ["1"]
        await desk.close()

    virtual.run(scenario())


def test_a_repeated_accept_is_harmless() -> None:
    async def scenario() -> None:
        desk = Desk(webhook=True)
        leg, call_id = await desk.answered(with_keys(length=4))
        await desk.board.accept(call_id, with_keys(length=4))
        leg.ends("remote_hangup")
        await desk.close()

    virtual.run(scenario())


def test_settings() -> None:
    assert read_keypad({}) is None
    assert read_keypad({"dtmf": {}}) == KeypadSettings()
    assert read_keypad({"dtmf": {"finish": "", "length": 4, "pause_s": 1}}) == KeypadSettings(
        "", 4, 1.0
    )


@pytest.mark.parametrize(
    ("dtmf", "param"),
    [
        (True, "transport.dtmf"),
        ({"finish": "x"}, "transport.dtmf.finish"),
        ({"length": 0}, "transport.dtmf.length"),
        ({"length": True}, "transport.dtmf.length"),
        ({"pause_s": 0}, "transport.dtmf.pause_s"),
        ({"pause_s": "3"}, "transport.dtmf.pause_s"),
        ({"vault": 1}, "transport.dtmf.vault"),
        ({"colour": 1}, "transport.dtmf.colour"),
    ],
)
def test_settings_that_are_wrong(dtmf: object, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_keypad({"dtmf": dtmf})
    assert caught.value.param == param

"""Which way a call takes out of here, and which ways are closed to it."""

import asyncio
import random

import pytest

from bridge.errors import OverloadedError, RequestError
from bridge.legs.exits import DialOrder, Exits, Goal
from bridge.legs.sip_leg import LegTerms
from bridge.sip.agent import UserAgent
from bridge.sip.agent_config import AgentConfig
from bridge.sip.events import Flow
from bridge.sip.uri import SipUri

PROXY = "<sip:proxy.carrier.example;lr>"
NAMES = {
    "good.example": ("8.8.8.8",),
    "mixed.example": ("10.0.0.1", "8.8.4.4", "127.0.0.1"),
    "inside.example": ("127.0.0.1", "169.254.169.254", "fd00::1", "::ffff:10.0.0.1"),
    "proxy.carrier.example": ("10.9.9.9",),
    "pbx.lan": ("192.168.1.2",),
}


class Table:
    """What a registration has told, and what names resolve to."""

    def service_route(self, trunk: str) -> tuple[str, ...]:
        return (PROXY,) if trunk == "registered" else ()

    async def flows(self, target: SipUri) -> tuple[Flow, ...]:
        if target.host not in NAMES:
            raise OverloadedError(f"no server found for {target.host}")
        local = ("192.0.2.1", 5060)
        return tuple(Flow("udp", local, (address, 5060)) for address in NAMES[target.host])


def exits() -> Exits:
    table = Table()
    return Exits(
        UserAgent(AgentConfig(), random.Random(1)),
        host="192.0.2.1",
        registrar=None,
        routing=table,
        flows=table.flows,
        now=lambda: 0.0,
    )


def order(target: str, trunk: str = "", **more: object) -> DialOrder:
    return DialOrder(SipUri.parse(target), "", LegTerms(trunk), **more)  # type: ignore[arg-type]


def addresses(order: DialOrder) -> list[str]:
    (way,), _ = asyncio.run(exits().first(order))
    return [flow.remote[0] for flow in way.flows]


def test_only_public_addresses_of_a_name_are_called() -> None:
    assert addresses(order("sip:bob@mixed.example", public_only=True)) == ["8.8.4.4"]
    assert addresses(order("sip:bob@mixed.example")) == ["10.0.0.1", "8.8.4.4", "127.0.0.1"]


@pytest.mark.parametrize("host", ["inside.example", "pbx.lan"])
def test_names_of_private_addresses_alone(host: str) -> None:
    with pytest.raises(RequestError) as caught:
        addresses(order(f"sip:bob@{host}", public_only=True))
    assert caught.value.code == "destination_not_allowed"
    assert caught.value.param == "transport.destination"


def test_calls_go_by_the_service_route() -> None:
    (way,), _ = asyncio.run(exits().first(order("sip:bob@good.example", "registered")))
    assert (way.routes, way.flows[0].remote[0]) == ((PROXY,), "10.9.9.9")
    assert str(way.uri) == "sip:bob@good.example"
    foreign = Goal(SipUri.parse("sip:bob@good.example"), own=False)
    way = asyncio.run(exits().way(foreign, order("sip:bob@pbx.lan", "registered")))
    assert (way.routes, way.flows[0].remote[0]) == ((), "8.8.8.8")


def test_a_gateway_that_has_no_address_is_passed_over() -> None:
    backups = tuple(map(SipUri.parse, ("sip:bob@nowhere.example", "sip:bob@good.example")))
    (way,), later = asyncio.run(exits().first(order("sip:bob@gone.example", backups=backups)))
    assert str(way.uri) == "sip:bob@good.example"
    assert later == []
    with pytest.raises(OverloadedError):
        asyncio.run(exits().first(order("sip:bob@gone.example")))

"""Calls of ours that are not taken at once: other gateways, other phones, other places."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from bridge.calls.policy import Dial
from bridge.calls.trunks import Trunk
from bridge.errors import OverloadedError, RequestError
from bridge.legs.base import LegResult
from bridge.legs.exits import DialOrder
from bridge.legs.sip import SipLegs
from bridge.legs.sip_leg import LegTerms, SipLeg
from bridge.sip.auth import Credentials
from bridge.sip.events import Flow
from bridge.sip.message import Request, Response, make_response, parse_message
from bridge.sip.registrar import Binding, Registrar
from bridge.sip.uri import NameAddr, SipUri
from tests import virtual
from tests.legs.exchange import Ear, Exchange, Handset, sdp
from tests.ports import HOST


async def called(handset: Handset) -> Request:
    """The next INVITE, after whatever else is acknowledged."""
    while True:
        message = parse_message(await handset.inbox.get())
        assert isinstance(message, Request)
        if message.method != "ACK":
            assert message.method == "INVITE"
            return message


def replies(
    handset: Handset,
    invite: Request,
    status: int,
    *,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> None:
    lines = [("Contact", f"<sip:bob@{HOST}:{handset.port}>")] if status < 300 else []
    lines += [("Content-Type", "application/sdp")] if body else []
    response = make_response(
        invite, status, to_tag=f"t{handset.port}", headers=[*lines, *headers], body=body
    )
    handset.wire.sendto(bytes(response), handset.server)


def takes(handset: Handset, invite: Request) -> None:
    replies(handset, invite, 200, body=sdp(handset.rtp_port))


async def gets(handset: Handset, method: str) -> Request:
    """The next request but ACK; answered."""
    while True:
        message = parse_message(await handset.inbox.get())
        if isinstance(message, Response):
            continue
        if message.method == method:
            if method != "ACK":
                handset.wire.sendto(bytes(make_response(message, 200)), handset.server)
            return message


def refused(leg: SipLeg) -> tuple[int, str]:
    assert leg.result is not None
    return leg.result.status, leg.result.reason


class Lab:
    """An exchange, and the handsets it may call."""

    def __init__(self, exchange: Exchange, handsets: list[Handset]) -> None:
        self.exchange = exchange
        self.phones: SipLegs = exchange.phones
        self.handsets = handsets

    def uri(self, number: int, user: str = "bob") -> str:
        return f"sip:{user}@{HOST}:{self.handsets[number].port}"

    async def dial(self, **order: Any) -> tuple[SipLeg, Ear]:
        target = SipUri.parse(order.pop("target", self.uri(0)))
        leg = await self.phones.dial(DialOrder(target, "", **{"terms": LegTerms(), **order}))
        leg.listener = ear = Ear()
        return leg, ear


def play(scenario: Callable[[Lab], Awaitable[None]], *, handsets: int = 2, **trunk: Any) -> None:
    async def main() -> None:
        settings = {"prefixes": ("bob",), "private_hosts": True, **trunk}
        exchange = await Exchange(trunks=[Trunk("lab", **settings)]).open()
        lab = Lab(exchange, [await exchange.handset() for _ in range(handsets)])
        try:
            await scenario(lab)
            await exchange.prove_that_nothing_is_left()
        finally:
            await exchange.close()

    virtual.run(main(), patience_s=0.002)


LAB = LegTerms("lab")


# Backups


def test_the_next_gateway_takes_it() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        leg, ear = await lab.dial(backups=(SipUri.parse(lab.uri(1)),))
        replies(one, await called(one), 503)
        invite = await called(two)
        assert invite.uri == lab.uri(1)
        takes(two, invite)
        await gets(two, "ACK")
        await virtual.settle()
        assert ear.told == ["answered"]
        await leg.hangup()
        await gets(two, "BYE")

    play(scenario)


def test_a_gateway_that_is_silent_is_not_waited_for() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        begun = lab.phones.now()
        leg, ear = await lab.dial(backups=(SipUri.parse(lab.uri(1)),), failover_s=4.0)
        late = await called(one)
        invite = await called(two)
        assert 4.0 <= lab.phones.now() - begun < 4.5
        # It was only slow: its phone is not to go on ringing.
        replies(one, late, 180)
        await gets(one, "CANCEL")
        replies(one, late, 487)
        takes(two, invite)
        await gets(two, "ACK")
        await leg.hangup()
        await gets(two, "BYE")
        assert ear.told == ["answered", "local_hangup"]

    play(scenario)


def test_a_gateway_that_has_said_100_is_waited_for() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        leg, _ = await lab.dial(backups=(SipUri.parse(lab.uri(1)),), failover_s=4.0)
        invite = await called(one)
        replies(one, invite, 100)
        await virtual.wait(20)
        assert two.inbox.empty()
        replies(one, invite, 486)
        await virtual.settle()
        # Busy is busy, whoever says so.
        assert refused(leg) == (486, "Busy Here")
        assert two.inbox.empty()

    play(scenario)


def test_all_gateways_fail() -> None:
    async def scenario(lab: Lab) -> None:
        leg, ear = await lab.dial(backups=(SipUri.parse(lab.uri(1)),))
        for handset, status in zip(lab.handsets, (503, 500), strict=True):
            replies(handset, await called(handset), status)
        await virtual.settle()
        assert refused(leg)[0] == 503
        assert ear.told == ["failed"]

    play(scenario)


def test_hanging_up_between_two_gateways() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        leg, ear = await lab.dial(backups=(SipUri.parse(lab.uri(1)),))
        invite = await called(one)
        replies(one, invite, 180)
        await virtual.settle()
        await leg.hangup()
        await gets(one, "CANCEL")
        replies(one, invite, 503)
        await virtual.settle()
        assert two.inbox.empty()
        assert ear.told == ["progress 180", "local_hangup"]

    play(scenario)


# Redirects


def moved(lab: Lab, *numbers: int) -> list[tuple[str, str]]:
    contacts = [f"<{lab.uri(n)}>;q={0.9 - n / 10}" for n in numbers]
    return [("Contact", ", ".join(reversed(contacts)))]


def test_a_redirect_is_followed_best_first() -> None:
    async def scenario(lab: Lab) -> None:
        one, two, three = lab.handsets
        leg, ear = await lab.dial(terms=LAB, max_redirects=3)
        replies(one, await called(one), 302, headers=moved(lab, 1, 2))
        replies(two, await called(two), 404)
        invite = await called(three)
        takes(three, invite)
        await gets(three, "ACK")
        await leg.hangup()
        await gets(three, "BYE")
        assert ear.told == ["answered", "local_hangup"]

    play(scenario, handsets=3, redirects="any")


@pytest.mark.parametrize(
    ("trunk", "terms", "status", "user"),
    [
        ({"redirects": "never"}, LAB, 302, "bob"),
        ({"redirects": "trunk", "uri": "sip:pstn.example.com"}, LAB, 302, "bob"),
        ({"redirects": "any"}, LegTerms(), 302, "bob"),
        ({"redirects": "any"}, LAB, 302, "+1900555"),
        ({"redirects": "any", "private_hosts": False}, LAB, 302, "bob"),
        ({"redirects": "any"}, LAB, 305, "bob"),
    ],
    ids=["never", "elsewhere", "no trunk", "a number", "a private host", "use proxy"],
)
def test_redirects_that_lead_astray(
    trunk: dict[str, Any], terms: LegTerms, status: int, user: str
) -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        leg, _ = await lab.dial(terms=terms, max_redirects=3)
        contact = [("Contact", f"<{lab.uri(1, user)}>")]
        replies(one, await called(one), status, headers=contact)
        await virtual.settle()
        assert refused(leg)[0] == status
        assert two.inbox.empty()

    play(scenario, **trunk)


def test_redirects_to_hosts_of_the_trunk() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        leg, _ = await lab.dial(terms=LAB, max_redirects=3)
        replies(one, await called(one), 302, headers=moved(lab, 1))
        replies(two, await called(two), 486)
        await virtual.settle()
        # What the last one said tells more than that there was one before.
        assert leg.result == LegResult(486, "Busy Here", None)

    play(scenario, redirects="trunk", addresses=(HOST,), private_hosts=True)


def test_redirects_come_to_an_end() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        leg, _ = await lab.dial(terms=LAB, max_redirects=3)
        replies(one, await called(one), 302, headers=moved(lab, 1))
        for n in range(2, 5):
            contact = [("Contact", f"<{lab.uri(1, f'bob{n}')}>")]
            replies(two, await called(two), 302, headers=contact)
        await virtual.settle()
        assert refused(leg)[0] == 302

    play(scenario, redirects="any")


DIGEST = [("WWW-Authenticate", 'Digest realm="lab",nonce="n",qop="auth",algorithm=MD5')]


def test_the_password_is_for_the_trunk_alone() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        secret = Credentials("user", "secret", "lab")
        leg, _ = await lab.dial(terms=LAB, max_redirects=3, credentials=secret)
        replies(one, await called(one), 401, headers=DIGEST)
        proven = await called(one)
        assert "authorization" in proven.headers
        replies(one, proven, 302, headers=moved(lab, 1))
        asked = await called(two)
        assert "authorization" not in asked.headers
        replies(two, asked, 401, headers=DIGEST)
        await virtual.settle()
        assert refused(leg)[0] == 401

    play(scenario, redirects="any")


# Phones that have registered by one name


class Registered(Registrar):
    transports: tuple[str, ...] = ("udp",) * 3

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def lookup(self, uri: SipUri, now: float) -> tuple[Binding, ...]:
        local = (HOST, self.lab.phones.settings.udp_port)
        return tuple(
            Binding(
                NameAddr.parse(f"<{self.lab.uri(number)}>"),
                Flow(self.transports[number], local, (HOST, handset.port)),
                2000.0,
                "x",
                1,
            )
            for number, handset in enumerate(self.lab.handsets)
        )


def to_all(lab: Lab) -> dict[str, Any]:
    lab.phones._exits._registrar = Registered(lab)
    return {"target": "sip:bob@office", "registered": True}


def test_every_phone_rings_and_one_takes_it() -> None:
    async def scenario(lab: Lab) -> None:
        leg, ear = await lab.dial(**to_all(lab))
        invites = [await called(handset) for handset in lab.handsets]
        assert [invite.uri for invite in invites] == [lab.uri(n) for n in range(3)]
        assert len(lab.phones) == 1
        for handset, invite in zip(lab.handsets, invites, strict=True):
            replies(handset, invite, 180)
        await virtual.settle()
        second = lab.handsets[1]
        takes(second, invites[1])
        await gets(second, "ACK")
        for number in (0, 2):
            await gets(lab.handsets[number], "CANCEL")
            replies(lab.handsets[number], invites[number], 487)
        await virtual.settle()
        assert ear.told == ["progress 180"] * 3 + ["answered"]
        await leg.hangup()
        await gets(second, "BYE")

    play(scenario, handsets=3)


def test_two_take_it_at_once() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        leg, ear = await lab.dial(**to_all(lab))
        invites = [await called(one), await called(two)]
        takes(one, invites[0])
        takes(two, invites[1])
        await gets(one, "ACK")
        # Whoever is later is thanked, and let go.
        await gets(two, "ACK")
        await gets(two, "BYE")
        assert ear.told == ["answered"]
        await leg.hangup()
        await gets(one, "BYE")

    play(scenario)


def test_one_is_busy_and_one_does_not_answer() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        leg, ear = await lab.dial(**to_all(lab))
        replies(one, await called(one), 486)
        invite = await called(two)
        await virtual.settle()
        assert leg.result is None
        replies(two, invite, 408)
        await virtual.settle()
        assert refused(leg) == (486, "Busy Here")
        assert ear.told == ["busy"]

    play(scenario)


def test_a_decline_is_for_all() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        leg, _ = await lab.dial(**to_all(lab))
        invites = [await called(one), await called(two)]
        replies(two, invites[1], 180)
        await virtual.settle()
        replies(one, invites[0], 603)
        await gets(two, "CANCEL")
        replies(two, invites[1], 487)
        await virtual.settle()
        assert refused(leg)[0] == 603

    play(scenario)


def test_browsers_are_not_called_with_phones() -> None:
    """What they take differs: those ring that are like the latest to register."""

    async def scenario(lab: Lab) -> None:
        registered = to_all(lab)
        lab.phones._exits._registrar = mixed = Registered(lab)
        mixed.transports = ("udp", "ws")
        leg, _ = await lab.dial(**registered)
        invite = await called(lab.handsets[0])
        replies(lab.handsets[0], invite, 486)
        await virtual.settle()
        assert refused(leg)[0] == 486

    play(scenario)


def test_hanging_up_stops_all_phones() -> None:
    async def scenario(lab: Lab) -> None:
        leg, _ = await lab.dial(**to_all(lab))
        invites = [await called(handset) for handset in lab.handsets]
        for handset, invite in zip(lab.handsets, invites, strict=True):
            replies(handset, invite, 180)
        await virtual.settle()
        await leg.hangup()
        for handset, invite in zip(lab.handsets, invites, strict=True):
            await gets(handset, "CANCEL")
            replies(handset, invite, 487)

    play(scenario, handsets=3)


# Names that lead into private networks


@pytest.mark.parametrize("name", ["localhost", HOST])
def test_names_that_lead_inside(name: str) -> None:
    async def scenario(lab: Lab) -> None:
        target = f"sip:bob@{name}:{lab.handsets[0].port}"
        with pytest.raises(RequestError, match="private network") as caught:
            await lab.dial(target=target, public_only=True)
        assert caught.value.code == "destination_not_allowed"
        lab.exchange.prove_that_media_is_gone()
        # The trunk may be told otherwise.
        leg, _ = await lab.dial(target=target)
        invite = await called(lab.handsets[0])
        replies(lab.handsets[0], invite, 404)
        await virtual.settle()
        assert refused(leg)[0] == 404

    play(scenario, handsets=1)


def test_nobody_at_all() -> None:
    async def scenario(lab: Lab) -> None:
        with pytest.raises(OverloadedError):
            await lab.dial(target="sip:bob@nobody.invalid;transport=tls")
        lab.exchange.prove_that_media_is_gone()

    play(scenario)


def test_orders_of_a_trunk() -> None:
    async def scenario(lab: Lab) -> None:
        order = lab.phones._policy.order(Dial("lab", "tel:bob"))  # type: ignore[attr-defined]
        assert str(order.target) == "sip:bob@pbx.lan"
        assert [str(uri) for uri in order.backups] == ["sip:bob@10.1.1.2;transport=tcp"]
        assert (order.failover_s, order.max_redirects, order.public_only) == (2.0, 3, False)
        order = lab.phones._policy.order(  # type: ignore[attr-defined]
            Dial("lab", "sip:bob@example.com")
        )
        assert (order.backups, order.own, order.public_only) == ((), False, True)

    play(
        scenario,
        uri="sip:pbx.lan",
        backups=("sip:10.1.1.2;transport=tcp",),
        failover_s=2.0,
        private_hosts=False,
    )

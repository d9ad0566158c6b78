"""The servers of one URI (RFC 3263 section 4.3): the next one after a 503, silence or nobody."""

from collections.abc import Collection, Sequence

import pytest

from bridge.errors import OverloadedError
from bridge.legs.sip_leg import SipLeg
from bridge.sip.message import Request
from bridge.sip.resolver import Target
from bridge.sip.uri import SipUri
from tests import virtual
from tests.legs.exchange import Ear, Handset
from tests.legs.test_hunt import Lab, called, gets, play, refused, replies, takes
from tests.ports import HOST

CARRIER = "sip:bob@carrier.example"


class Names:
    """What SRV records make of carrier.example: the handsets in their order."""

    def __init__(self, lab: Lab) -> None:
        self._ports = [handset.port for handset in lab.handsets]
        lab.phones._resolver = self  # type: ignore[assignment]

    async def targets(
        self, uri: SipUri, *, transports: Collection[str], families: Sequence[int] = (4,)
    ) -> list[Target]:
        return [Target("udp", (HOST, port), uri.host) for port in self._ports]

    async def close(self) -> None:
        pass


async def passes(callee: Handset, invite: Request, leg: SipLeg, ear: Ear) -> None:
    """A call that it takes, and that is hung up on."""
    takes(callee, invite)
    await gets(callee, "ACK")
    await virtual.settle()
    await leg.hangup()
    await gets(callee, "BYE")
    assert ear.told == ["answered", "local_hangup"]


def test_the_next_server_after_a_503() -> None:
    async def scenario(lab: Lab) -> None:
        Names(lab)
        one, two = lab.handsets
        leg, ear = await lab.dial(target=CARRIER)
        first = await called(one)
        replies(one, first, 503)
        second = await called(two)
        assert (second.uri, second.sip_call_id) == (CARRIER, first.sip_call_id)
        await passes(two, second, leg, ear)

    play(scenario)


def test_a_silent_server_costs_no_32_seconds() -> None:
    async def scenario(lab: Lab) -> None:
        Names(lab)
        one, two, three = lab.handsets
        begun = lab.phones.now()
        leg, ear = await lab.dial(target=CARRIER, failover_s=4.0)
        late = await called(one)
        second = await called(two)
        assert 4.0 <= lab.phones.now() - begun < 4.5
        # It refuses late: the next one has as long as those before.
        await virtual.wait(3.0)
        replies(two, second, 503)
        third = await called(three)
        await virtual.wait(3.0)
        # The first was only slow.
        replies(one, late, 180)
        await gets(one, "CANCEL")
        replies(one, late, 487)
        await passes(three, third, leg, ear)

    play(scenario, handsets=3)


def test_the_last_server_is_waited_for() -> None:
    async def scenario(lab: Lab) -> None:
        Names(lab)
        one, two = lab.handsets
        leg, ear = await lab.dial(target=CARRIER, failover_s=2.0)
        replies(one, await called(one), 503)
        invite = await called(two)
        await virtual.wait(20.0)
        await passes(two, invite, leg, ear)

    play(scenario)


def test_a_server_that_answers_is_waited_for() -> None:
    async def scenario(lab: Lab) -> None:
        Names(lab)
        one, two = lab.handsets
        leg, _ = await lab.dial(target=CARRIER, failover_s=2.0)
        invite = await called(one)
        replies(one, invite, 100)
        await virtual.wait(20.0)
        replies(one, invite, 486)
        await virtual.settle()
        assert (refused(leg)[0], two.inbox.empty()) == (486, True)

    play(scenario)


def test_a_server_that_wants_to_be_left_alone() -> None:
    async def scenario(lab: Lab) -> None:
        Names(lab)
        one, two = lab.handsets
        replied = [("Retry-After", "30 (busy)")]
        leg, _ = await lab.dial(target=CARRIER)
        replies(one, await called(one), 503, headers=replied)
        replies(two, await called(two), 486)
        await virtual.settle()
        assert refused(leg)[0] == 486
        # The next call does not go there at all.
        leg, _ = await lab.dial(target=CARRIER)
        replies(two, await called(two), 503, headers=replied)
        await virtual.settle()
        assert refused(leg)[0] == 503
        with pytest.raises(OverloadedError, match=r"carrier.example wants no calls for another 30"):
            await lab.dial(target=CARRIER)
        lab.exchange.prove_that_media_is_gone()
        await virtual.wait(30.0)
        leg, _ = await lab.dial(target=CARRIER)
        replies(one, await called(one), 486)
        await virtual.settle()
        assert refused(leg)[0] == 486

    play(scenario)


def test_a_backup_while_all_servers_rest() -> None:
    async def scenario(lab: Lab) -> None:
        one, two = lab.handsets
        leg, _ = await lab.dial()
        replies(one, await called(one), 503, headers=[("Retry-After", "3600")])
        await virtual.settle()
        assert refused(leg)[0] == 503
        leg, _ = await lab.dial(backups=(SipUri.parse(lab.uri(1)),))
        replies(two, await called(two), 486)
        await virtual.settle()
        assert refused(leg)[0] == 486
        # An hour is too long to believe.
        await virtual.wait(61.0)
        leg, _ = await lab.dial()
        replies(one, await called(one), 486)
        await virtual.settle()
        assert refused(leg)[0] == 486

    play(scenario)

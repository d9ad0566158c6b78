"""SipLegs register with a registrar on loopback, refresh, fail over and leave."""

import random
from collections.abc import Awaitable, Callable
from typing import Never

import pytest

from bridge import metrics
from bridge.calls.policy import CallPolicy, SourcePolicy
from bridge.calls.trunks import Trunks
from bridge.legs.sip import SipLegs
from bridge.legs.sip_settings import SipSettings
from bridge.media.plane import MediaPlane
from bridge.rtp.transport import PortPool, RtpPoller
from bridge.sip.auth import Credentials
from bridge.sip.digest_gate import DigestGate
from bridge.sip.register import RegistrationConfig, State
from bridge.sip.registrar import Binding, Registrar
from bridge.sip.transport import SipTransport
from bridge.sip.uri import SipUri
from tests import virtual
from tests.peers.office import Office
from tests.ports import HOST, free_port, media_ports

ALICE = SipUri.parse(f"sip:alice@{HOST}")


def office() -> Office:
    gate = DigestGate("office", {"alice": "wonderland"}.get, random.Random(2))
    return Office(Registrar([HOST], gate))


class Scene:
    def __init__(self, ours: Office, phones: SipLegs) -> None:
        self.office = ours
        self.phones = phones

    def bindings(self) -> tuple[Binding, ...]:
        return self.office.registrar.lookup(ALICE, self.phones.now())

    def is_now(self, state: State) -> bool:
        return state is self.phones.registrations.states()["pbx"]


def play(scenario: Callable[[Scene], Awaitable[None]], *, password: str = "wonderland") -> None:
    async def main() -> None:
        ours = office()
        shell = SipTransport[Never](ours, on_event=print, udp=(HOST, 0))
        await shell.start()
        port = free_port()
        server = f"sip:{HOST}:{shell.endpoints['udp'][1]}"
        wanted = RegistrationConfig(
            str(ALICE),
            f"sip:alice@{HOST}:{port}",
            (f"sip:{HOST}:{free_port()}", server),
            registrar=f"sip:{HOST}",
            credentials=Credentials("alice", password),
            expires_s=300,
        )
        poller = RtpPoller()
        ports = media_ports(10)
        # Whom we register with need not be among those whom we let call.
        policy = CallPolicy(SourcePolicy((), admits_unknown=False), Trunks(), now=lambda: 0.0)
        phones = SipLegs(
            SipSettings(udp_port=port, tcp_port=0),
            plane=MediaPlane(),
            poller=poller,
            ports=PortPool(HOST, ports[0], ports[-1]),
            policy=policy,
            on_incoming=print,
            rng=random.Random(1),
            registrations={"pbx": wanted},
        )
        await phones.start()
        scene = Scene(ours, phones)
        try:
            # The registrar it tries first is not there: for UDP that may take a while to learn.
            await virtual.wait(40)
            await scenario(scene)
        finally:
            await phones.close()
            await shell.close()
            poller.close()

    virtual.run(main(), patience_s=0.002)


def series(state: str) -> float:
    found: float = metrics.registrations.labels("pbx", state)._value.get()
    return found


def test_registers_refreshes_and_leaves() -> None:
    async def scenario(scene: Scene) -> None:
        (first,) = scene.bindings()
        assert first.contact.uri.port == scene.phones.settings.udp_port
        assert scene.is_now(State.REGISTERED)
        assert (series("registered"), series("waiting")) == (1, 0)
        assert scene.phones._flow_in_use(first.flow) is False
        await virtual.wait(300)
        (later,) = scene.bindings()
        assert later.expires_at > first.expires_at
        assert "OPTIONS" in scene.office.methods
        await scene.phones.close()
        assert scene.bindings() == ()
        assert series("closed") == 1

    play(scenario)


def test_registers_again_when_pings_are_not_answered() -> None:
    async def scenario(scene: Scene) -> None:
        scene.office.is_mute = True
        await virtual.wait(90)
        assert not scene.is_now(State.REGISTERED)
        scene.office.is_mute = False
        await virtual.wait(120)
        assert scene.is_now(State.REGISTERED)

    play(scenario)


def test_a_farewell_is_not_waited_for_long() -> None:
    async def scenario(scene: Scene) -> None:
        scene.office.is_mute = True
        begin = scene.phones.now()
        await scene.phones.close()
        assert scene.phones.now() - begin < 4

    play(scenario)


def test_a_wrong_password(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        assert scene.is_now(State.REFUSED)
        assert scene.bindings() == ()
        assert scene.office.methods == ["REGISTER"] * 2
        assert series("refused") == 1

    play(scenario, password="guess")
    assert "registration failed" in caplog.messages
    assert "guess" not in caplog.text

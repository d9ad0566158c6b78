"""Our registration with Kamailio: password, 423, stale nonces, restart, failover, calls by it."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal

import pytest

from bridge.sip.auth import Credentials
from bridge.sip.events import Flow
from bridge.sip.message import Headers, Request, make_response, parse_message
from bridge.sip.register import (
    Closed,
    Output,
    Registered,
    Registration,
    RegistrationConfig,
    RegistrationFailed,
    SendRegister,
    State,
)
from bridge.sip.transport import SipTransport
from bridge.sip.uri import SipUri
from tests.peers.kamailio import PASSWORD, REALM, USER, Kamailio
from tests.peers.phone import Phone
from tests.peers.service import Service

pytestmark = pytest.mark.interop("kamailio")

Transport = Literal["udp", "tcp"]
DUE_S = 8.0


class Extension:
    """The least that a Registration needs around it; answers OPTIONS, so that it can be found."""

    def __init__(self, config: RegistrationConfig) -> None:
        self.registration = Registration(config, random.Random())
        self.reached = 0
        self.changed = asyncio.Event()
        self.sent: dict[Flow, Request] = {}
        self.statuses: list[int] = []
        self._outbox: list[tuple[Flow, bytes]] = []
        self.transport: SipTransport[Output]

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        self.changed.set()
        message = parse_message(data)
        if isinstance(message, Request):
            self.reached += 1
            self._outbox.append((flow, bytes(make_response(message, 200, to_tag="x"))))
        elif message.cseq.method == "REGISTER":
            self.statuses.append(message.status)
            self.registration.receive(message, now)
        else:
            self.statuses.append(message.status)

    def to_send(self) -> Iterable[tuple[Flow, bytes]]:
        out, self._outbox = self._outbox, []
        return out

    def events(self) -> Iterable[Output]:
        outputs = self.registration.take()
        for output in outputs:
            if isinstance(output, SendRegister):
                flow = self.flow(output.target)
                self.sent[flow] = output.request
                self.send(output.request, flow)
        return outputs

    def next_timer(self) -> float | None:
        return self.registration.next_timer()

    def handle_timer(self, now: float) -> None:
        self.registration.handle_timer(now)

    def flow_failed(self, flow: Flow, now: float) -> None:
        if flow in self.sent:
            self.registration.no_answer(self.sent[flow], now)

    def flow(self, target: str) -> Flow:
        uri = SipUri.parse(target)
        flow = self.transport.flow(uri.transport, (uri.host, uri.port or 5060))
        assert flow is not None
        return flow

    def send(self, request: Request, flow: Flow) -> None:
        branch = f"z9hG4bK{random.getrandbits(64):016x}"
        host, port = self.transport.endpoints[flow.transport]
        via = f"SIP/2.0/{flow.transport.upper()} {host}:{port};rport;branch={branch}"
        headers = Headers([("Via", via), *request.headers])
        self._outbox.append((flow, bytes(replace(request, headers=headers))))

    def ask_for_ourselves(self) -> None:
        """OPTIONS through the registrar: comes back to us as long as we are registered."""
        target = self.registration.target
        uri = SipUri.parse(target)
        aor = f"sip:{USER}@{uri.host}:{uri.port}"
        headers = Headers(
            [
                ("Max-Forwards", "70"),
                ("From", f"<{aor}>;tag=o"),
                ("To", f"<{aor}>"),
                ("Call-ID", f"{random.getrandbits(64):x}"),
                ("CSeq", "1 OPTIONS"),
            ]
        )
        self.send(Request("OPTIONS", aor, headers), self.flow(target))
        self.transport.kick()


class Desk:
    def __init__(self, extension: Extension, happened: list[Output]) -> None:
        self.extension = extension
        self.registration = extension.registration
        self.happened = happened

    def act(self, command: Callable[[float], None]) -> None:
        command(asyncio.get_running_loop().time())
        self.extension.transport.kick()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DUE_S):
            while not condition():
                await self.extension.changed.wait()
                self.extension.changed.clear()

    def registered(self) -> list[Registered]:
        return [output for output in self.happened if isinstance(output, Registered)]

    def failures(self) -> list[RegistrationFailed]:
        return [output for output in self.happened if isinstance(output, RegistrationFailed)]

    async def found(self) -> bool:
        """Whether the registrar sends us what is for us."""
        extension = self.extension
        extension.statuses.clear()
        before = extension.reached
        extension.ask_for_ourselves()
        await self.until(lambda: bool({200, 404} & set(extension.statuses)))
        return extension.reached > before


def target(kamailio: Kamailio, transport: Transport) -> str:
    return f"sip:127.0.0.1:{kamailio.port};transport={transport}"


@asynccontextmanager
async def desk(
    targets: tuple[str, ...], transport: Transport, password: str = PASSWORD
) -> AsyncIterator[Desk]:
    # The contact has to name the port before the transport is there to be asked for it.
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = SipUri.parse(targets[-1])
    config = RegistrationConfig(
        f"sip:{USER}@127.0.0.1:{server.port}",
        f"sip:{USER}@127.0.0.1:{port};transport={transport}",
        targets,
        credentials=Credentials(USER, password, REALM),
        expires_s=2,
        transport=transport,
        retry_s=1.0,
    )
    extension, happened = Extension(config), list[Output]()

    def heard(output: Output) -> None:
        happened.append(output)
        extension.changed.set()

    if transport == "udp":
        shell = SipTransport(extension, on_event=heard, udp=("127.0.0.1", port))
    else:
        shell = SipTransport(extension, on_event=heard, tcp=("127.0.0.1", port))
    extension.transport = shell
    await shell.start()
    try:
        yield Desk(extension, happened)
    finally:
        await shell.close()


@pytest.mark.matrix(35, 37, 38, peer="Kamailio")
@pytest.mark.parametrize(("transport", "algorithm"), [("udp", "MD5"), ("tcp", "SHA-256")])
def test_register_refresh_restart_leave(
    transport: Transport, algorithm: Literal["MD5", "SHA-256"]
) -> None:
    async def scenario(kamailio: Kamailio) -> None:
        async with desk((target(kamailio, transport),), transport) as ours:
            ours.act(ours.registration.start)
            await ours.until(lambda: bool(ours.registered()))
            # Challenged, then told that two seconds are too few.
            assert ours.extension.statuses[:3] == [401, 423, 200]
            (first,) = ours.registered()
            assert first.expires_s == 4
            assert first.service_route == (f"<sip:127.0.0.1:{kamailio.port};lr>",)
            assert first.public_address is not None
            assert await ours.found()
            ours.extension.statuses.clear()
            await ours.until(lambda: len(ours.registered()) == 2)
            assert ours.registered()[1].refreshed
            # The nonce had lived for one second, and the password was not doubted for it.
            assert ours.extension.statuses == [401, 200]
            if transport == "udp":
                await asyncio.to_thread(kamailio.restart)
                await ours.until(lambda: len(ours.registered()) == 3)
                assert await ours.found()
            ours.act(ours.registration.close)
            await ours.until(lambda: Closed() in ours.happened)
            assert not await ours.found()
            assert ours.failures() == []

    with Kamailio(algorithm) as kamailio:
        asyncio.run(scenario(kamailio))


@pytest.mark.matrix(35, 37, peer="Kamailio")
def test_wrong_password() -> None:
    async def scenario(kamailio: Kamailio) -> None:
        async with desk((target(kamailio, "udp"),), "udp", "guess") as ours:
            ours.act(ours.registration.start)
            await ours.until(lambda: bool(ours.failures()))
            await asyncio.sleep(1.5)
            assert ours.extension.statuses == [401, 401]
            assert ours.registration.state is State.REFUSED

    with Kamailio() as kamailio:
        asyncio.run(scenario(kamailio))


@pytest.mark.matrix(37, peer="Kamailio")
def test_failover() -> None:
    async def scenario(kamailio: Kamailio) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            dead = f"sip:127.0.0.1:{nobody.getsockname()[1]};transport=tcp"
            async with desk((dead, target(kamailio, "tcp")), "tcp") as ours:
                ours.act(ours.registration.start)
                await ours.until(lambda: bool(ours.registered()))
                (failure,) = ours.failures()
                assert failure.target == dead
                assert await ours.found()

    with Kamailio() as kamailio:
        asyncio.run(scenario(kamailio))


@pytest.mark.matrix(38, peer="Kamailio")
def test_a_trunk_is_called_by_its_registration() -> None:
    async def call(kamailio: Kamailio) -> Phone:
        phone = Phone(("127.0.0.1", kamailio.port))
        phone.target = f"sip:{USER}@127.0.0.1:{kamailio.port}"
        await phone.open()
        phone.invite()
        await asyncio.wait_for(phone.final.wait(), DUE_S)
        return phone

    async def answered(kamailio: Kamailio, service: Service) -> None:
        phone = await call(kamailio)
        assert phone.answered.is_set()
        # What follows the INVITE goes straight to the contact it was sent to.
        assert phone.server == service.sip
        (record,) = service.calls()
        assert record["state"] == "active"
        phone.hangup()
        await asyncio.wait_for(phone.ended.wait(), DUE_S)
        await phone.close()

    async def not_found(kamailio: Kamailio) -> None:
        phone = await call(kamailio)
        assert phone.statuses[-1] == 404
        await phone.close()

    with Kamailio() as kamailio:
        trunk = {
            "addresses": ["127.0.0.1"],
            "uri": f"sip:127.0.0.1:{kamailio.port}",
            "username": USER,
            "password": PASSWORD,
            "register": True,
        }
        with Service(session__backend="echo", sip__trunks=json.dumps({"pbx": trunk})) as service:
            service.wait_for("registered", DUE_S)
            asyncio.run(answered(kamailio, service))
        asyncio.run(not_found(kamailio))
        assert PASSWORD not in "".join(service.output)

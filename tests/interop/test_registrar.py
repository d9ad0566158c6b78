"""baresip registers with our registrar: password, refresh, farewell, and a wrong password."""

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, Never

import pytest

from bridge.sip.digest_gate import DigestGate
from bridge.sip.events import Flow
from bridge.sip.registrar import Binding, Registrar, RegistrarLimits
from bridge.sip.transport import SipTransport
from bridge.sip.uri import SipUri
from tests.peers.baresip import MODULES
from tests.peers.office import Office
from tests.ports import free_port

pytestmark = pytest.mark.interop("baresip")

ALICE = SipUri.parse("sip:alice@127.0.0.1")
DUE_S = 10.0


class Desk(Office):
    """With passwords that baresip can prove, and somebody who waits."""

    def __init__(self) -> None:
        # Debian's baresip cannot do SHA-256.
        passwords = {"alice": "wonderland"}
        self.gate = DigestGate("office", passwords.get, random.Random(), algorithms=("MD5",))
        limits = RegistrarLimits(min_expires_s=3)
        super().__init__(Registrar(["127.0.0.1"], self.gate, limits=limits))
        self.changed = asyncio.Event()

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        super().receive(data, flow, now)
        self.changed.set()

    def alice(self) -> tuple[Binding, ...]:
        return self.registrar.lookup(ALICE, asyncio.get_running_loop().time())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DUE_S):
            while not condition():
                await self.changed.wait()
                self.changed.clear()


def nothing_happens(event: Never) -> None:
    raise AssertionError(event)


@asynccontextmanager
async def office() -> AsyncIterator[tuple[Desk, dict[str, int]]]:
    ours = Desk()
    shell = SipTransport[Never](
        ours, on_event=nothing_happens, udp=("127.0.0.1", 0), tcp=("127.0.0.1", 0)
    )
    await shell.start()
    try:
        yield ours, {name: address[1] for name, address in shell.endpoints.items()}
    finally:
        await shell.close()


def launch(home: Path, registrar: str, password: str) -> subprocess.Popen[bytes]:
    lines = [
        f"module_path {MODULES}",
        "poll_method epoll",
        f"sip_listen 127.0.0.1:{free_port()}",
        "net_interface 127.0.0.1",
        "module g711.so",
        "module uuid.so",
        "module_tmp account.so",
        "module_app menu.so",
    ]
    (home / "config").write_text("\n".join(lines) + "\n")
    (home / "accounts").write_text(f"<sip:alice@{registrar}>;auth_pass={password};regint=4\n")
    (home / "contacts").write_text("")
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            ["baresip", "-f", str(home)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_baresip_registers_refreshes_and_leaves(
    tmp_path: Path, transport: Literal["udp", "tcp"]
) -> None:
    async def scenario() -> None:
        async with office() as (ours, ports):
            phone = launch(
                tmp_path, f"127.0.0.1:{ports[transport]};transport={transport}", "wonderland"
            )
            try:
                await ours.until(lambda: bool(ours.alice()))
                (binding,) = ours.alice()
                assert binding.flow.transport == transport
                assert binding.contact.uri.user.startswith("alice")
                await ours.until(lambda: ours.statuses.count(200) == 2)
                assert len(ours.alice()) == 1
                assert len(ours.registrar) == 1
            finally:
                phone.terminate()
            await ours.until(lambda: not ours.alice())
            await asyncio.to_thread(phone.wait, DUE_S)
            assert ours.gate.stats.failed == 0
            assert ours.gate.stats.malformed == 0

    asyncio.run(scenario())


def test_baresip_guesses_in_vain(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with office() as (ours, ports):
            phone = launch(tmp_path, f"127.0.0.1:{ports['udp']};transport=udp", "guess")
            try:
                # It repeats a wrong password at once, as often as it is asked.
                await ours.until(lambda: 403 in ours.statuses)
            finally:
                phone.terminate()
            await asyncio.to_thread(phone.wait, DUE_S)
            assert ours.alice() == ()
            assert ours.gate.stats.failed == 10

    asyncio.run(scenario())

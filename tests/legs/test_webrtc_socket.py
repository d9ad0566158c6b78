import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge.legs.webrtc_socket import AT_ONCE, PolledSocket
from bridge.rtp.transport import RtpPoller

MEDIA, STUN, DTLS = b"\x80 sound", b"\x00 check", b"\x16 hello"


class Told(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.errors: list[Exception] = []
        self.lost = 0
        self.refuses = self.ends = b"none"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, PolledSocket)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if data == self.refuses:
            raise ArithmeticError("refused")
        self.received.append(data)
        self.source = addr
        if data == self.ends:
            self.transport.close()

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None
        self.lost += 1


class Here:
    """A socket of ours, and somebody who sends to it."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.told = Told()
        self.ours = PolledSocket(address, self.told)
        self.address = self.ours.get_extra_info("sockname")
        self.peer = socket.socket(self.ours.get_extra_info("socket").family, socket.SOCK_DGRAM)
        self.peer.bind((address, 0))
        self.peer.settimeout(2)
        self.poller = RtpPoller()

    def say(self, *datagrams: bytes) -> None:
        for each in datagrams:
            self.peer.sendto(each, self.address)


def run(scene: Callable[[Here], Awaitable[None]], address: str = "127.0.0.1") -> None:
    async def main() -> None:
        here = Here(address)
        assert here.told.transport is here.ours
        try:
            await scene(here)
        finally:
            here.ours.close()
            here.ours.abort()
            assert here.ours.is_closing()
            await turns()
            assert here.told.lost == 1
            assert len(here.poller) == 0
            here.poller.close()
            here.peer.close()

    asyncio.run(main())


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_loop_reads_it_until_a_poller_does(address: str) -> None:
    async def scene(here: Here) -> None:
        here.say(STUN, MEDIA)
        await turns()
        assert here.told.received == [STUN, MEDIA]
        assert here.told.source[:2] == here.peer.getsockname()[:2]
        here.ours.poll_by(here.poller)
        here.ours.poll_by(here.poller)
        here.say(MEDIA)
        await turns()
        assert len(here.told.received) == 2
        assert here.poller.poll(0.0) == 1
        assert len(here.told.received) == 3
        here.say(MEDIA)
        here.ours.poll_by(None)
        assert here.poller.poll(0.0) == 0
        await turns()
        assert len(here.told.received) == 4
        here.ours.sendto(b"answer", here.told.source)
        assert here.peer.recv(100) == b"answer"

    run(scene, address)


def test_a_flood_leaves_the_loop_its_turns() -> None:
    async def scene(here: Here) -> None:
        here.say(*[MEDIA] * (AT_ONCE + 1))
        counts = []
        for _ in range(3):
            await asyncio.sleep(0)
            counts.append(len(here.told.received))
        assert counts[-2:] == [AT_ONCE, AT_ONCE + 1]

    run(scene)


def test_what_goes_wrong_with_a_handshake_is_not_the_pollers() -> None:
    async def scene(here: Here) -> None:
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, why: failures.append(why))
        here.told.refuses = DTLS
        here.ours.poll_by(here.poller)
        here.say(DTLS, b"", MEDIA)
        assert here.poller.poll(0.0) == 3
        assert here.told.received == [MEDIA]
        await turns()
        assert here.told.received == [MEDIA, b""]
        assert [type(each["exception"]) for each in failures] == [ArithmeticError]

    run(scene)


@pytest.mark.parametrize("polled", [False, True])
def test_closed_between_two_datagrams_it_hears_no_more(*, polled: bool) -> None:
    async def scene(here: Here) -> None:
        here.told.ends = MEDIA
        if polled:
            here.ours.poll_by(here.poller)
        here.say(MEDIA, MEDIA)
        here.poller.poll(0.0)
        await turns()
        assert here.told.received == [MEDIA]
        here.ours.sendto(MEDIA, here.address)
        here.ours.poll_by(here.poller)

    run(scene)


def test_the_protocol_is_told_of_the_end_later_and_once() -> None:
    async def scene(here: Here) -> None:
        before = here.told.lost
        here.ours.close()
        assert here.told.lost == before
        await turns()
        assert here.told.lost == 1

    run(scene)


def test_a_network_that_takes_nothing_is_told() -> None:
    async def scene(here: Here) -> None:
        here.ours.sendto(bytes(70_000), here.address)
        (error,) = here.told.errors
        assert isinstance(error, OSError)

    run(scene)


def test_no_socket_for_an_address_that_is_not_ours() -> None:
    async def main() -> None:
        told = Told()
        with pytest.raises(OSError, match="assign"):
            PolledSocket("203.0.113.7", told)
        assert not hasattr(told, "transport")

    asyncio.run(main())

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aioice import stun

from bridge.audio import codecs
from bridge.legs.webrtc_path import Lost, MediaPath, Paths, Remote
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket
from bridge.rtp.transport import RtpPoller
from bridge.sdp.dtls import RemotePath, Setup
from tests.garbage import none_of_ours


class End:
    """One side of a path, with a stream that counts."""

    def __init__(self, path: MediaPath) -> None:
        self.path = path
        self.stream = AudioStream(codecs.PCMU, payload_type=0, wire=path.wire, cname="c")
        self.lost: asyncio.Queue[Lost] = asyncio.Queue()
        self.heard = asyncio.Event()
        self._sent = 0
        path.on_lost = self.lost.put_nowait
        self.stream.on_arrived = lambda _: self.heard.set()

    def remote(self, setup: Setup) -> Remote:
        """As the other side reads what this one says; `setup` is the other's."""
        ours = self.path.local
        read = RemotePath(
            ours.username,
            ours.password,
            lite=False,
            fingerprints=(ours.fingerprint,),
            setup=setup,
            candidates=ours.candidates,
        )
        return Remote.of(read, controlling=setup == "passive")

    def send(self) -> None:
        self._sent += 1
        packet = RtpPacket(0, False, self._sent, 160 * self._sent, self.stream.ssrc, bytes(160))
        self.path.wire.send(bytes(packet))

    async def hears(self, other: "End") -> None:
        self.heard.clear()
        self.stream.arrived = False
        other.send()
        async with asyncio.timeout(2):
            await self.heard.wait()


async def both(one: Awaitable[bool], two: Awaitable[bool]) -> None:
    async with asyncio.timeout(5):
        assert all(await asyncio.gather(one, two))


def play(scene: Callable[[End, End], Awaitable[None]], *, direct: bool = True) -> None:
    async def main() -> None:
        paths = Paths(loopback=True, direct=direct)
        one, two = End(await paths.open()), End(await paths.open())
        await both(one.path.connect(two.remote("active")), two.path.connect(one.remote("passive")))
        for end in (one, two):
            end.path.wire.feed(end.stream, listens=True)
        await scene(one, two)
        await one.path.close()
        await two.path.close()

    asyncio.run(main())


@pytest.mark.parametrize("direct", [True, False])
def test_two_ends_meet(*, direct: bool) -> None:
    async def scene(one: End, two: End) -> None:
        await one.hears(two)
        await two.hears(one)
        await one.path.close()
        assert await two.lost.get() == "remote_hangup"
        assert not two.path.connected

    play(scene, direct=direct)


def test_whoever_polls_its_sockets_hears_it_until_it_is_closed() -> None:
    async def scene(one: End, two: End) -> None:
        poller = RtpPoller()
        connection = one.path.peer.connection
        connection.poll_by(poller)
        assert len(poller) == len(connection._protocols) > 0
        two.send()
        assert not one.heard.is_set()
        assert poller.poll(0.0) == 1
        assert one.heard.is_set()
        connection.poll_by(None)
        assert len(poller) == 0
        await one.hears(two)
        connection.poll_by(poller)
        await one.path.close()
        assert len(poller) == 0
        poller.close()

    play(scene)


def test_a_close_that_is_cut_off_leaves_nothing_to_collect() -> None:
    async def main() -> None:
        paths = Paths(loopback=True)
        await (await paths.open()).close()  # imports and caches
        with none_of_ours():
            path = await paths.open()
            closing = asyncio.ensure_future(path.peer.connection.close())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not closing.done()
            closing.cancel()
            path.abort()
            with pytest.raises(asyncio.CancelledError):
                await closing
            del path, closing
            for _ in range(5):
                await asyncio.sleep(0)

    asyncio.run(main())


def test_who_checks_after_the_end_is_refused_consent() -> None:
    async def scene(one: End, two: End) -> None:
        await one.path.leave()
        assert await two.lost.get() == "remote_hangup"
        connection = two.path.peer.connection
        [pair] = connection._nominated.values()
        assert connection.remote_password is not None
        lingering = asyncio.ensure_future(one.path.linger())
        with pytest.raises(stun.TransactionFailed) as refusal:
            await pair.protocol.request(
                connection.build_request(pair, nominate=False),
                pair.remote_addr,
                integrity_key=connection.remote_password.encode(),
            )
        assert refusal.value.response.attributes["ERROR-CODE"] == (403, "Forbidden")
        await lingering

    play(scene)


@pytest.mark.parametrize("direct", [True, False])
def test_ice_begins_again_and_media_does_not_notice(*, direct: bool) -> None:
    async def scene(one: End, two: End) -> None:
        for _ in range(2):
            before = one.path.local
            for end in (one, two):
                end.path.restart()
            after = one.path.local
            assert after.username != before.username
            assert after.password != before.password
            assert (after.candidates, after.fingerprint) == (before.candidates, before.fingerprint)
            await one.hears(two)
            await two.hears(one)
            to_two, to_one = two.remote("active"), one.remote("passive")
            await both(one.path.reconnect(to_two), two.path.reconnect(to_one))
            await one.hears(two)
            await two.hears(one)
        assert one.lost.empty()
        assert two.lost.empty()
        assert one.path.connected

    play(scene, direct=direct)


def test_ice_that_begins_again_alone_fails() -> None:
    async def scene(one: End, two: End) -> None:
        one.path._limits = type(one.path._limits)(connect_timeout_s=0.1)
        one.path.restart()
        assert not await one.path.reconnect(two.remote("active"))

    play(scene)

import asyncio
import socket

import pytest
from aioice import Candidate, stun

from bridge.legs.webrtc_guard import PeerTransport


class Far:
    """The other end of ICE, by hand."""

    def __init__(self, peer: PeerTransport) -> None:
        self._connection = peer.connection
        self._connection.remote_username, self._connection.remote_password = "far", "f" * 22
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        host, port = self._socket.getsockname()
        self.candidate = Candidate("1", 1, "udp", 1, host, port, "host")
        self._near = ("", 0)

    async def receives(self) -> stun.Message:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            data, self._near = await loop.sock_recvfrom(self._socket, 2048)
        return stun.parse_message(data)

    def has_received(self) -> stun.Message:
        """Raises BlockingIOError if there is nothing yet."""
        return stun.parse_message(self._socket.recv(2048))

    async def checks(self, *, nominates: bool = True) -> None:
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        names = f"{self._connection.local_username}:far"
        request.attributes |= {"USERNAME": names, "PRIORITY": 1}
        if nominates:
            request.attributes["USE-CANDIDATE"] = None
        self._send(request, self._connection.local_password)
        assert (await self.receives()).message_class == stun.Class.RESPONSE

    def answers(self, request: stun.Message) -> None:
        answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        answer.attributes["XOR-MAPPED-ADDRESS"] = self._near
        self._send(answer, "f" * 22)

    def says(self, data: bytes) -> None:
        self._socket.sendto(data, self._near)

    async def hears(self) -> bytes:
        """The next that is not STUN."""
        async with asyncio.timeout(5):
            while (data := await asyncio.get_running_loop().sock_recv(self._socket, 2048))[0] < 4:
                pass
        return data

    def _send(self, message: stun.Message, password: str) -> None:
        message.add_message_integrity(password.encode())
        self.says(bytes(message))

    def close(self) -> None:
        self._socket.close()


def test_a_check_that_was_lost_is_repeated_as_soon_as_the_far_end_shows_up() -> None:
    """RFC 8445 section 7.3.1.4. Behind NAT our first ones always are."""

    async def main() -> None:
        peer = PeerTransport(wildcard="127.0.0.1")
        await peer.gatherer.gather()
        far = Far(peer)
        await peer.connection.add_remote_candidate(far.candidate)
        connecting = asyncio.ensure_future(peer.connection.connect())
        lost = await far.receives()
        await far.checks()
        again = far.has_received()
        assert again.transaction_id == lost.transaction_id
        far.answers(again)
        async with asyncio.timeout(5):
            await connecting
        await peer.close()
        far.close()

    asyncio.run(main())


@pytest.mark.parametrize("nominates", [True, False])
def test_data_goes_where_data_comes_from(*, nominates: bool) -> None:
    """Of two pairs that work the far end may use either, whichever we took for nominated."""

    async def main() -> None:
        peer = PeerTransport(wildcard="127.0.0.1")
        connection = peer.connection
        await peer.gatherer.gather()
        one, two = Far(peer), Far(peer)
        for far in (one, two):
            await connection.add_remote_candidate(far.candidate)
        connecting = asyncio.ensure_future(connection.connect())
        two.answers(await two.receives())
        request = await one.receives()
        await one.checks()
        one.answers(request)
        async with asyncio.timeout(5):
            await connecting
        await two.checks(nominates=nominates)
        last = two if nominates else one
        connection.send_now(b"to the last")
        assert await last.hears() == b"to the last"
        for far in (one, two, one):
            far.says(b"\x16 DTLS")
            assert await connection.recv() == b"\x16 DTLS"
            connection.send_now(b"back")
            assert await far.hears() == b"back"
        await peer.close()
        for far in (one, two):
            far.close()

    asyncio.run(main())

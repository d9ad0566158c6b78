import asyncio
import socket

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

    def checks(self) -> None:
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        names = f"{self._connection.local_username}:far"
        request.attributes |= {"USERNAME": names, "PRIORITY": 1, "USE-CANDIDATE": None}
        self._send(request, self._connection.local_password)

    def answers(self, request: stun.Message) -> None:
        answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        answer.attributes["XOR-MAPPED-ADDRESS"] = self._near
        self._send(answer, "f" * 22)

    def _send(self, message: stun.Message, password: str) -> None:
        message.add_message_integrity(password.encode())
        self._socket.sendto(bytes(message), self._near)

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
        far.checks()
        assert (await far.receives()).message_class == stun.Class.RESPONSE
        again = far.has_received()
        assert again.transaction_id == lost.transaction_id
        far.answers(again)
        async with asyncio.timeout(5):
            await connecting
        await peer.close()
        far.close()

    asyncio.run(main())

"""A Realtime server that shares no code with ours: what it sends and takes, openai's types judge.

It hears speech by its loudness, answers each turn with a tone, several times faster than it
sounds, and can be told to fail at the moment it has sent an event of a given type.
"""

import contextlib
import ssl
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.peers.upstream_rules import Fault, Rules
from tests.peers.upstream_session import Conversation, Refused, Session


class Upstream:
    """Use as an async context. `status`: what handshakes are answered with instead."""

    def __init__(
        self,
        *,
        rules: Rules | None = None,
        status: int = 0,
        late_s: float = 0.0,
        answer_ms: int = 2000,
        speed: float = 8.0,
        limit_s: float = 0.0,
        away_s: float = 0.0,
        fault: Fault | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.rules = rules or Rules()
        self.status = status
        self.late_s = late_s
        self.answer_ms = answer_ms
        self.speed = speed
        self.limit_s = limit_s
        self.away_s = away_s
        """Until what is sent to it arrives, and what it says."""
        self.fault = fault
        """Of the first `faulty` connections, unless instructions name another for once."""
        self.faulty = 1
        self.once: list[Fault] = []
        """Of the next connections, one each, before any other."""
        self.sessions: list[Session] = []
        self.spent: set[str] = set()
        """Instructions whose fault has happened."""
        self.failed = 0
        """Faults that have happened."""
        self.told: set[str] = set()
        """Types of events ever sent."""
        self._context = context
        self._live: set[ServerConnection] = set()
        self._dead: set[ServerConnection] = set()

    async def __aenter__(self) -> "Upstream":
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            process_request=self._admit,
            compression=None,
            ssl=self._context,
            max_size=None,
            close_timeout=0.2,
            ping_interval=None,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drop()
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return f"{'wss' if self._context else 'ws'}://127.0.0.1:{port}/v1/realtime"

    @property
    def connections(self) -> int:
        """Those left out that were told to notice nothing more, not even their end."""
        return len(self._live - self._dead)

    def drop(self) -> None:
        """Every connection breaks."""
        for connection in list(self._live):
            connection.transport.abort()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.status:
            return connection.respond(HTTPStatus(self.status), "no\n")
        if request.headers.get(self.rules.key_header) != self.rules.key:
            return connection.respond(HTTPStatus.UNAUTHORIZED, "no key\n")
        if self.rules.query and f"{self.rules.query}=" not in request.path:
            return connection.respond(HTTPStatus.NOT_FOUND, "no model\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        session = Session(query=connection.request.path.partition("?")[2])
        session.headers = {k.lower(): v for k, v in connection.request.headers.raw_items()}
        self.sessions.append(session)
        self._live.add(connection)
        conversation = Conversation(self, connection, session)
        try:
            if self.rules.alone and len(self._live) > 1:
                await conversation.refuse(Refused("session_limit_reached", "one at a time"), None)
                await connection.close(1008)
                return
            with contextlib.suppress(ConnectionClosed):
                await conversation.run()
        finally:
            self._live.discard(connection)
            await conversation.stop()

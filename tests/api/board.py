"""A switchboard in memory: what the HTTP edge sees of calls and sessions."""

import asyncio
from collections.abc import Mapping
from typing import Any

from bridge.errors import BridgeError, CallNotFound, ConflictError
from bridge.ids import CallId
from bridge.realtime.session_config import SessionConfig

RINGING = CallId("rtc_n1_ringing")
ACTIVE = CallId("rtc_n1_active")
ANSWER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
OFFER = "v=0\r\no=- 7 7 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
NOON = 1_800_000_000.0


class BoardClient:
    def __init__(self, *, extras: bool) -> None:
        self.extras = extras
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()

    async def next(self) -> str | None:
        return await self._queue.get()

    def push(self, text: str) -> None:
        self._queue.put_nowait(text)

    def close(self, code: int | None, reason: str | None) -> None:
        self.close_code, self.close_reason = code, reason
        self._queue.put_nowait(None)


class BoardSession:
    """Says hello, echoes, and closes with the code that the text 'close 4001 why' names; 'long 3'
    is done after three more turns, and told as long as it is not."""

    def __init__(self) -> None:
        self.clients: list[BoardClient] = []
        self.detached: list[BoardClient] = []
        self.heard: list[str] = []
        self.left = 0

    def attach(self, *, extras: bool = False) -> BoardClient:
        client = BoardClient(extras=extras)
        self.clients.append(client)
        client.push('{"type":"session.created"}')
        return client

    def detach(self, client: BoardClient) -> None:
        self.detached.append(client)

    def receive(self, client: BoardClient, text: str) -> None:
        self.heard.append(text)
        verb, _, rest = text.partition(" ")
        if verb == "close":
            code, _, reason = rest.partition(" ")
            client.close(int(code) if code else None, reason)
            return
        if verb == "long":
            self.left = int(rest)
        client.push(text)

    def go_on(self, client: BoardClient) -> bool:
        if not self.left:
            return False
        client.push(f"{self.left} left")
        self.left -= 1
        return True


class Board:
    """`ask` holds what each verb was last asked; `refuse` makes the next verb fail."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.refuse: BridgeError | None = None
        self.accepted: Mapping[str, object] | None = None
        self.on_call = BoardSession()
        self.plain = BoardSession()

    def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        if self.refuse is not None:
            raise self.refuse

    async def offer(self, sdp: str, session: Mapping[str, object] | None) -> tuple[CallId, str]:
        self._ask("offer", sdp, session)
        return ACTIVE, ANSWER

    async def accept(self, call_id: CallId, session: Mapping[str, object]) -> None:
        self._ask("accept", call_id)
        self._known(call_id)
        SessionConfig.create(session)
        if self.accepted not in (None, session):
            raise ConflictError("The call has already been accepted with another session")
        self.accepted = session

    async def reject(self, call_id: CallId, status: int) -> None:
        self._ask("reject", call_id, status)
        self._known(call_id)

    async def refer(
        self, call_id: CallId, target_uri: str, *, after: str = "", replaces: str = ""
    ) -> None:
        self._ask("refer", call_id, target_uri, after, *([replaces] if replaces else []))
        self._known(call_id)

    async def dial(
        self, transport: Mapping[str, Any], session: Mapping[str, object] | None
    ) -> CallId:
        self._ask("dial", transport, session)
        return ACTIVE

    async def hangup(self, call_id: CallId) -> None:
        self._ask("hangup", call_id)
        self._known(call_id)

    def live(self) -> list[dict[str, Any]]:
        return [{"id": RINGING, "state": "ringing"}, {"id": ACTIVE, "state": "active"}]

    def record(self, call_id: CallId) -> dict[str, Any]:
        self._known(call_id)
        return {"id": call_id, "object": "realtime.call"}

    def session(self, call_id: CallId) -> BoardSession:
        if call_id != ACTIVE:
            raise CallNotFound
        return self.on_call

    async def open_session(self, model: str, session: Mapping[str, object] | None) -> BoardSession:
        self._ask("open_session", model, session)
        return self.plain

    def _known(self, call_id: CallId) -> None:
        if call_id not in (RINGING, ACTIVE):
            raise CallNotFound

"""WebSocket /v1/realtime: a session (`?model=`, `?intent=`) or a sideband (`?call_id=`)."""

import asyncio
from collections.abc import Mapping

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from bridge.api.auth import Keyring, offered_protocols
from bridge.api.errors import error_response
from bridge.api.ports import ClientPort, SessionPort, SwitchboardPort
from bridge.api.schemas import layered
from bridge.errors import BridgeError, RequestError
from bridge.ids import CallId
from bridge.tasks import TaskOwner

PROTOCOL = "realtime"
TRANSCRIPTION: Mapping[str, object] = {"type": "transcription"}
NORMAL_CLOSURE = 1000
POLICY_VIOLATION = 1008

# A client whose TCP window stays shut this long has stopped reading. Its queue is bounded by the
# session; this ends the connection that holds it.
SEND_TIMEOUT_S = 10.0

# RFC 6455 section 5.5: a control frame carries 125 bytes, two of them the code.
MAX_REASON_BYTES = 123


class RealtimeRoutes:
    def __init__(
        self,
        switchboard: SwitchboardPort,
        keyring: Keyring,
        *,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self._send_timeout_s = send_timeout_s
        self._switchboard = switchboard
        self._keyring = keyring
        self.router = APIRouter()
        self.router.add_api_websocket_route("/v1/realtime", self.connect)

    async def connect(self, websocket: WebSocket) -> None:
        """Refuses before the upgrade, with the JSON error a REST call would get."""
        try:
            session = await self._find(websocket)
        except BridgeError as error:
            await websocket.send_denial_response(error_response(error))
            return
        extras = websocket.query_params.get("events") == "bridge"
        # Attached before the upgrade is sent: a session that nobody attached to would never end.
        client = session.attach(extras=extras)
        try:
            await websocket.accept(_protocol(websocket))
            await self._converse(websocket, session, client)
        except (WebSocketDisconnect, WebSocketDisconnected):
            pass
        finally:
            session.detach(client)

    async def _find(self, websocket: WebSocket) -> SessionPort:
        query = websocket.query_params
        call_id, model = query.get("call_id"), query.get("model")
        if call_id is not None:
            # SDKs that add their default model to an attach mean the call: call_id wins.
            self._keyring.require_key(websocket)
            return self._switchboard.session(CallId(call_id))
        minted = self._keyring.require_any(websocket).session
        if _transcribes(query.get("intent"), minted):
            if minted is None or minted.get("type") != "transcription":
                minted = TRANSCRIPTION
            return await self._switchboard.open_session("", minted)
        if not model and minted is not None:
            named = minted.get("model")
            model = named if isinstance(named, str) else None
        if not model:
            raise RequestError(
                "Missing required parameter: 'model', 'call_id' or 'intent'.",
                code="missing_required_parameter",
                param="model",
            )
        session = layered(minted, {"model": model}) if minted else None
        return await self._switchboard.open_session(model, session)

    async def _converse(
        self, websocket: WebSocket, session: SessionPort, client: ClientPort
    ) -> None:
        """Until either side closes."""
        tasks = TaskOwner("realtime")
        try:
            writing = tasks.spawn(_write(websocket, client, self._send_timeout_s), name="write")
            reading = tasks.spawn(_read(websocket, session, client), name="read")
            await asyncio.wait((writing, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.close()


def _transcribes(intent: str | None, minted: Mapping[str, object] | None) -> bool:
    """Raises RequestError for an intent that nobody has."""
    if intent not in (None, "", "transcription", "conversation"):
        raise RequestError(
            f"Invalid value: '{intent[:64]}'. Supported values are: 'transcription'.",
            param="intent",
        )
    return intent == "transcription" or (
        minted is not None and minted.get("type") == "transcription"
    )


def _protocol(websocket: WebSocket) -> str | None:
    """Browsers fail when none of theirs is selected, header clients when one is."""
    return PROTOCOL if PROTOCOL in offered_protocols(websocket) else None


async def _read(websocket: WebSocket, session: SessionPort, client: ClientPort) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        if text is None:
            text = message["bytes"].decode(errors="replace")
        session.receive(client, text)
        more = session.go_on(client)
        while more:
            await asyncio.sleep(0)
            more = session.go_on(client)


async def _write(websocket: WebSocket, client: ClientPort, timeout_s: float) -> None:
    try:
        try:
            while (text := await client.next()) is not None:
                async with asyncio.timeout(timeout_s):
                    await websocket.send_text(text)
        except TimeoutError:
            await _close(websocket, POLICY_VIOLATION, "slow_consumer", timeout_s / 10)
        else:
            code, reason = client.close_code, client.close_reason
            await _close(websocket, code or NORMAL_CLOSURE, reason or "", timeout_s)
    except (WebSocketDisconnect, WebSocketDisconnected, TimeoutError):
        # The other end left while it was being written to; the reader learns it too.
        pass


async def _close(websocket: WebSocket, code: int, reason: str, timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        await websocket.close(code, _short(reason))


def _short(reason: str) -> str:
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")

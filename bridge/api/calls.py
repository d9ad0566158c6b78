"""/v1/realtime/calls: a browser's offer, the verdict on a ringing call, hanging up, listing."""

from collections.abc import Mapping

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bridge.api.auth import Keyring
from bridge.api.bodies import (
    SDP_LIMIT,
    decode_object,
    decode_text,
    read_body,
    read_json,
    read_parts,
)
from bridge.api.ports import SwitchboardPort
from bridge.api.schemas import DECLINE, DialBody, ReferBody, RejectBody, layered
from bridge.errors import RequestError
from bridge.ids import CallId

CALLS = "/v1/realtime/calls"
SDP_TYPES = {"application/sdp", "text/plain", ""}


class CallRoutes:
    def __init__(self, switchboard: SwitchboardPort, keyring: Keyring) -> None:
        self._switchboard = switchboard
        self._keyring = keyring
        self.router = APIRouter()
        for path, endpoint, method in (
            (CALLS, self.offer, "POST"),
            # Where the beta exchanged SDP; samples still in use post there.
            ("/v1/realtime", self.offer, "POST"),
            (CALLS, self.list, "GET"),
            (f"{CALLS}/{{call_id}}", self.retrieve, "GET"),
            (f"{CALLS}/{{call_id}}", self.hangup, "DELETE"),
            (f"{CALLS}/{{call_id}}/accept", self.accept, "POST"),
            (f"{CALLS}/{{call_id}}/reject", self.reject, "POST"),
            (f"{CALLS}/{{call_id}}/refer", self.refer, "POST"),
            (f"{CALLS}/{{call_id}}/hangup", self.hangup, "POST"),
        ):
            self.router.add_api_route(path, endpoint, methods=[method], response_model=None)

    async def offer(self, request: Request) -> Response:
        if media_type(request) == "application/json":
            return await self._dial(request)
        caller = self._keyring.require_any(request)
        sdp, posted = await _read_offer(request)
        model = request.query_params.get("model")
        asked: Mapping[str, object] | None = {"type": "realtime", "model": model} if model else None
        session = layered(layered(caller.session, asked), posted)
        call_id, answer = await self._switchboard.offer(sdp, session)
        # Relative, as OpenAI sends it; SDKs take the last segment for the call id.
        headers = {"location": f"{CALLS}/{call_id}"}
        return Response(answer, 201, media_type="application/sdp", headers=headers)

    async def _dial(self, request: Request) -> Response:
        """A phone is called: 201 while it rings."""
        self._keyring.require_key(request)
        body = DialBody.read(await read_json(request))
        call_id = await self._switchboard.dial(body.transport, body.session)
        headers = {"location": f"{CALLS}/{call_id}"}
        return JSONResponse(dict(self._switchboard.record(call_id)), 201, headers=headers)

    async def accept(self, request: Request, call_id: str) -> Response:
        self._keyring.require_key(request)
        session = await read_json(request)
        await self._switchboard.accept(CallId(call_id), session)
        return _done()

    async def reject(self, request: Request, call_id: str) -> Response:
        self._keyring.require_key(request)
        body = RejectBody.read(await read_json(request))
        status = DECLINE if body.status_code is None else body.status_code
        await self._switchboard.reject(CallId(call_id), status)
        return _done()

    async def refer(self, request: Request, call_id: str) -> Response:
        self._keyring.require_key(request)
        body = ReferBody.read(await read_json(request))
        if body.target_uri is None and body.replaces is None:
            raise RequestError(
                "Missing required parameter: 'target_uri'.",
                code="missing_required_parameter",
                param="target_uri",
            )
        await self._switchboard.refer(
            CallId(call_id),
            body.target_uri or "",
            after=body.after or "",
            replaces=body.replaces or "",
        )
        return _done()

    async def hangup(self, request: Request, call_id: str) -> Response:
        """The body is never read: one SDK announces JSON and sends nothing."""
        self._keyring.require_key(request)
        await self._switchboard.hangup(CallId(call_id))
        return _done()

    async def list(self, request: Request) -> Response:
        self._keyring.require_key(request)
        calls = [dict(call) for call in self._switchboard.live()]
        return JSONResponse({"object": "list", "data": calls, "has_more": False})

    async def retrieve(self, request: Request, call_id: str) -> Response:
        self._keyring.require_key(request)
        return JSONResponse(dict(self._switchboard.record(CallId(call_id))))


def _done() -> Response:
    """Empty and without a content type: SDKs parse an empty body that claims to be JSON."""
    return Response(status_code=200)


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_offer(request: Request) -> tuple[str, Mapping[str, object] | None]:
    kind = media_type(request)
    sdp: str | None
    session: str | None = None
    if kind == "multipart/form-data":
        sdp, session = await read_parts(request)
    elif kind in SDP_TYPES:
        sdp = decode_text(await read_body(request, SDP_LIMIT), "sdp")
    else:
        raise RequestError(
            f"Unsupported content type '{kind}': send application/sdp, or "
            "multipart/form-data with the parts 'sdp' and 'session'.",
            code="unsupported_content_type",
        )
    if not sdp or not sdp.strip():
        raise RequestError(
            "Missing required parameter: 'sdp'.", code="missing_required_parameter", param="sdp"
        )
    return sdp, decode_object(session, "session") if session and session.strip() else None

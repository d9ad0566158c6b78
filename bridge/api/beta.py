"""POST /v1/realtime/sessions and transcription_sessions: client secrets as the beta minted them."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bridge.api.auth import ClientSecrets, Keyring
from bridge.api.bodies import read_json
from bridge.api.schemas import BetaSecret, ExpiresAfter
from bridge.errors import RequestError
from bridge.ids import new_id
from bridge.realtime.beta import Kind, flat_names, read_session, write_session
from bridge.realtime.session_config import SessionConfig


class BetaRoutes:
    """Flat sessions in and out. What the secret then opens speaks the protocol of today."""

    def __init__(
        self, secrets: ClientSecrets, keyring: Keyring, defaults: SessionConfig | None
    ) -> None:
        self._secrets = secrets
        self._keyring = keyring
        self._defaults = defaults
        self.router = APIRouter()
        for path, endpoint in (
            ("/v1/realtime/sessions", self.session),
            ("/v1/realtime/transcription_sessions", self.transcription_session),
        ):
            self.router.add_api_route(path, endpoint, methods=["POST"], response_model=None)

    async def session(self, request: Request) -> Response:
        return await self._mint(request, "realtime")

    async def transcription_session(self, request: Request) -> Response:
        return await self._mint(request, "transcription")

    async def _mint(self, request: Request, kind: Kind) -> Response:
        self._keyring.require_key(request)
        body: dict[str, Any] = await read_json(request)
        expires_after = _expiry(body.pop("client_secret", None))
        wanted = read_session(body, kind, prefix="")
        with flat_names(kind, prefix=""):
            config = SessionConfig.create(wanted, defaults=self._defaults)
        secret = self._secrets.issue(wanted, expires_after.seconds)
        # 0: the session has not begun, so nobody knows when it ends.
        session = write_session(config.as_dict(new_id("sess"), 0))
        session["client_secret"] = {"value": secret.value, "expires_at": secret.expires_at}
        return JSONResponse(session)


def _expiry(value: Any) -> ExpiresAfter:
    if value is None:
        return ExpiresAfter()
    try:
        asked = BetaSecret.model_validate(value)
    except ValueError:
        raise RequestError(
            "Invalid 'client_secret': expected expires_after with an anchor and seconds.",
            param="client_secret",
        ) from None
    return asked.expires_after or asked.expires_at or ExpiresAfter()

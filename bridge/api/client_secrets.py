"""POST /v1/realtime/client_secrets: mints the token a browser starts sessions with."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bridge.api.auth import ClientSecrets, Keyring
from bridge.api.bodies import read_json
from bridge.api.schemas import ClientSecretBody, ExpiresAfter
from bridge.ids import new_id
from bridge.realtime.session_config import SessionConfig


class ClientSecretRoutes:
    def __init__(
        self, secrets: ClientSecrets, keyring: Keyring, defaults: SessionConfig | None
    ) -> None:
        self._secrets = secrets
        self._keyring = keyring
        self._defaults = defaults
        self.router = APIRouter()
        self.router.add_api_route(
            "/v1/realtime/client_secrets", self.create, methods=["POST"], response_model=None
        )

    async def create(self, request: Request) -> Response:
        self._keyring.require_key(request)
        body = ClientSecretBody.read(await read_json(request))
        config = SessionConfig.create(body.session, defaults=self._defaults)
        expires_after = body.expires_after or ExpiresAfter()
        secret = self._secrets.issue(body.session, expires_after.seconds)
        # 0: the session has not begun, so nobody knows when it ends.
        session = config.as_dict(new_id("sess"), 0)
        return JSONResponse(
            {"value": secret.value, "expires_at": secret.expires_at, "session": session}
        )

"""The HTTP application: routes, error answers and CORS, put together around a switchboard."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

import bridge
from bridge.api.auth import LOCALHOST, ClientSecrets, Keyring
from bridge.api.beta import BetaRoutes
from bridge.api.calls import CallRoutes
from bridge.api.client_secrets import ClientSecretRoutes
from bridge.api.console.routes import console_router
from bridge.api.errors import install_error_answers
from bridge.api.health import health_router
from bridge.api.ports import SwitchboardPort
from bridge.api.realtime import RealtimeRoutes
from bridge.realtime.session_config import SessionConfig

STAINLESS = (
    "arch async custom-poll-interval helper-method lang os package-version poll-helper "
    "raw-response read-timeout retry-count runtime runtime-version stream-helper timeout"
)
ALLOWED_HEADERS = [
    "authorization",
    "content-type",
    "idempotency-key",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "openai-safety-identifier",
    "x-openai-agents-sdk",
    *(f"x-stainless-{name}" for name in STAINLESS.split()),
]


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """No `api_keys` is development mode; `session_defaults` fill what a request leaves out."""

    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    session_defaults: SessionConfig | None = None


def wall_clock() -> float:
    return datetime.now(UTC).timestamp()


def no_uris() -> Sequence[str]:
    return ()


def create_api(
    switchboard: SwitchboardPort,
    *,
    config: ApiSettings,
    ready: Callable[[], bool],
    degraded: Sequence[str] = (),
    sip_uris: Callable[[], Sequence[str]] = no_uris,
    clock: Callable[[], float] = wall_clock,
) -> FastAPI:
    """`clock` gives unix seconds (client secrets expire by it); `sip_uris` is asked per request;
    `ready` and `degraded` are as for `health_router`."""
    app = FastAPI(
        title="Realtime calls",
        version=bridge.__version__,
        openapi_url=None,
        redirect_slashes=False,
    )
    secrets = ClientSecrets(clock)
    keyring = Keyring(config.api_keys, secrets, origins=config.cors_origins)
    install_error_answers(app)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=config.cors_origins,
        allow_origin_regex=LOCALHOST if keyring.development else None,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=ALLOWED_HEADERS,
        expose_headers=["location"],
        max_age=86_400,
    )
    for router in (
        CallRoutes(switchboard, keyring).router,
        ClientSecretRoutes(secrets, keyring, config.session_defaults).router,
        BetaRoutes(secrets, keyring, config.session_defaults).router,
        RealtimeRoutes(switchboard, keyring).router,
        health_router(ready, degraded),
        console_router(sip_uris, development=keyring.development),
    ):
        app.include_router(router)
    return app

"""/healthz, /readyz and /metrics: what orchestrators and Prometheus ask. No key needed."""

from collections.abc import Callable, Sequence

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

NO_STORE = {"cache-control": "no-store"}


def health_router(ready: Callable[[], bool], degraded: Sequence[str] = ()) -> APIRouter:
    """`ready` is false while draining: calls go on, new ones belong elsewhere. `degraded` says in
    words what works, but less well than it should."""
    router = APIRouter()

    async def healthz() -> Response:
        return JSONResponse({"status": "ok"}, headers=NO_STORE)

    async def readyz() -> Response:
        if ready():
            more = {"degraded": list(degraded)} if degraded else {}
            return JSONResponse({"status": "ready", **more}, headers=NO_STORE)
        return JSONResponse({"status": "not_ready"}, 503, headers=NO_STORE)

    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    for path, endpoint in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics)):
        router.add_api_route(path, endpoint, methods=["GET"], response_model=None)
    return router

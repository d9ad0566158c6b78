"""The console: static files, and the one document that tells the page about this server."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response

import bridge

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FILES = {file.name: file for file in STATIC.iterdir() if file.suffix in MEDIA_TYPES}

HEADERS = {
    # Nothing is fetched from elsewhere, and nobody frames a page that holds a key.
    "content-security-policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; img-src 'self' "
        "data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "permissions-policy": "microphone=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def console_router(sip_uris: Callable[[], Sequence[str]], *, development: bool) -> APIRouter:
    router = APIRouter()

    async def index() -> Response:
        return _file("index.html")

    async def static(name: str) -> Response:
        return _file(name)

    async def about() -> Response:
        document = {
            "version": bridge.__version__,
            "development": development,
            "sip_uris": list(sip_uris()),
        }
        return JSONResponse(document, headers={"cache-control": "no-store"})

    for path, endpoint in (("/", index), ("/console/{name}", static), ("/console.json", about)):
        router.add_api_route(path, endpoint, methods=["GET"], response_model=None)
    return router


def _file(name: str) -> Response:
    """Only files listed at start are served, so a name is never a path."""
    file = FILES.get(name)
    if file is None:
        raise HTTPException(404)
    return FileResponse(file, media_type=MEDIA_TYPES[file.suffix], headers=HEADERS)

"""OpenAI's error object for everything that goes wrong over HTTP, unknown routes included."""

from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from bridge.errors import BridgeError, ConflictError, OverloadedError, RequestError

RETRY_AFTER_S = 2

STATUS_CODES = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
}

VALIDATION_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


def error_object(
    message: str, *, type: str, code: str | None = None, param: str | None = None
) -> dict[str, dict[str, str | None]]:
    """All four keys, always: the SDKs' schema requires them."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def error_response(error: BridgeError) -> JSONResponse:
    headers: dict[str, str] = {}
    if isinstance(error, ConflictError):
        # Official SDKs retry 408, 409, 429 and 5xx: a refused state does not change by that.
        headers["x-should-retry"] = "false"
    if isinstance(error, OverloadedError):
        headers["retry-after"] = str(RETRY_AFTER_S)
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    body = error_object(error.message, type=error.type, code=error.code, param=error.param)
    return JSONResponse(body, status_code=error.http_status, headers=headers)


def invalid_body(error: ValidationError | RequestValidationError) -> RequestError:
    """The first fault of a body, in OpenAI's words: code by kind of fault, param as dotted path."""
    first = error.errors()[0]
    kind = str(first["type"])
    param = ".".join(str(part) for part in first["loc"]) or None
    if kind == "missing":
        message = f"Missing required parameter: '{param}'."
    elif kind == "extra_forbidden":
        message = f"Unknown parameter: '{param}'."
    else:
        message = f"Invalid value for '{param}': {first['msg']}."
    code = VALIDATION_CODES.get(kind)
    if code is None:
        code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return RequestError(message, code=code, param=param)


async def _bridge_error(_: Request, error: BridgeError) -> Response:
    return error_response(error)


async def _http_error(request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = f"Invalid URL ({request.method} {request.url.path})"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"Not allowed to {request.method} on {request.url.path}"
    else:
        message = error.detail
    type = "invalid_request_error" if error.status_code < 500 else "server_error"
    body = error_object(message, type=type, code=STATUS_CODES.get(error.status_code))
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _validation_error(_: Request, error: RequestValidationError) -> Response:
    return error_response(invalid_body(error))


async def _client_gone(_: Request, error: ClientDisconnect) -> Response:
    """Nobody reads this answer; without it, a caller who leaves mid-body looks like our fault."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _fault(_: Request, error: Exception) -> Response:
    """The server logs the traceback; the client learns only that it was not to blame."""
    body = error_object("The server had an error processing your request.", type="server_error")
    return JSONResponse(body, status_code=HTTPStatus.INTERNAL_SERVER_ERROR)


def install_error_answers(app: FastAPI) -> None:
    answers: dict[type[Exception], ExceptionHandler] = {
        BridgeError: _bridge_error,  # type: ignore[dict-item]
        HTTPException: _http_error,  # type: ignore[dict-item]
        RequestValidationError: _validation_error,  # type: ignore[dict-item]
        ClientDisconnect: _client_gone,  # type: ignore[dict-item]
        Exception: _fault,
    }
    for kind, answer in answers.items():
        app.add_exception_handler(kind, answer)

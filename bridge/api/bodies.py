"""Request bodies: read within a size and a time, decoded within a depth, or refused."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from bridge.errors import PayloadTooLarge, RequestError

JSON_LIMIT = 1024 * 1024
SDP_LIMIT = 64 * 1024
# Boundaries, part headers and unknown small parts around the two parts that count.
MULTIPART_OVERHEAD = 16 * 1024

# JSON Schemas of tools nest some twenty levels; what walks a session downstream is recursive.
DEPTH_LIMIT = 64

BODY_TIMEOUT_S = 15.0


async def read_body(request: Request, limit: int, *, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """Raises PayloadTooLarge, before reading when the length is declared; 408 on a slow sender."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 12 or int(declared) > limit):
        raise too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise HTTPException(408, "The request body did not arrive in time.") from None
    return bytes(body)


def too_large(limit: int, param: str | None = None) -> PayloadTooLarge:
    return PayloadTooLarge(f"Request body is larger than {limit // 1024} KiB.", param=param)


async def read_json(request: Request) -> dict[str, object]:
    """An absent body is an empty object: SDKs send JSON content types on empty bodies."""
    body = await read_body(request, JSON_LIMIT)
    return decode_object(body) if body.strip() else {}


def decode_object(body: bytes | str, param: str | None = None) -> dict[str, object]:
    """A JSON object; raises RequestError invalid_json or invalid_type."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError) as error:
        message = f"We could not parse the JSON: {error}"
        raise RequestError(message, code="invalid_json", param=param) from None
    except RecursionError:
        raise _too_deep(param) from None
    if not isinstance(value, dict):
        message = f"Invalid type{_for(param)}: expected an object, but got {_kind(value)} instead."
        raise RequestError(message, code="invalid_type", param=param)
    if _opened(body) > DEPTH_LIMIT and _depth(value) > DEPTH_LIMIT:
        raise _too_deep(param)
    return value


def _too_deep(param: str | None) -> RequestError:
    message = f"The JSON nests deeper than {DEPTH_LIMIT} levels."
    return RequestError(message, code="invalid_json", param=param)


def _opened(body: bytes | str) -> int:
    """An upper bound of the depth, without walking the value."""
    if isinstance(body, str):
        return body.count("{") + body.count("[")
    return body.count(b"{") + body.count(b"[")


def _depth(value: object) -> int:
    """Nesting of a decoded value, counted no further than the limit."""
    depth, level = 0, [value]
    while level and depth <= DEPTH_LIMIT:
        inner: list[object] = []
        for node in level:
            children = node.values() if isinstance(node, dict) else node
            if isinstance(children, (list, type({}.values()))):
                inner += [child for child in children if isinstance(child, (dict, list))]
        depth, level = depth + 1, inner
    return depth


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
    return names.get(type(value), "an array")


def _for(param: str | None) -> str:
    return f" for '{param}'" if param else ""


async def read_parts(request: Request) -> tuple[str | None, str | None]:
    """The `sdp` and `session` parts of a form, in any order, typed or not, named files or not."""
    body = await read_body(request, SDP_LIMIT + JSON_LIMIT + MULTIPART_OVERHEAD)
    parser = MultiPartParser(
        request.headers, _stream(body), max_files=8, max_fields=8, max_part_size=JSON_LIMIT
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(
            f"Invalid multipart form: {error.message}", code="invalid_form"
        ) from None
    try:
        sdp = await _text(form.get("sdp"), "sdp", SDP_LIMIT)
        return sdp, await _text(form.get("session"), "session", JSON_LIMIT)
    finally:
        await form.close()


async def _stream(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def _text(part: UploadFile | str | None, name: str, limit: int) -> str | None:
    if part is None:
        return None
    data = part.encode() if isinstance(part, str) else await part.read()
    if len(data) > limit:
        raise too_large(limit, name)
    return decode_text(data, name)


def decode_text(data: bytes, param: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RequestError(f"Invalid value: '{param}' is not UTF-8.", param=param) from None

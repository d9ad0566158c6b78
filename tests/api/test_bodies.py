"""Whatever bytes arrive, the answer is a success or an error object, never a fault of ours."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.testclient import TestClient

from bridge.api.bodies import DEPTH_LIMIT, decode_object, read_body
from bridge.errors import PayloadTooLarge, RequestError
from tests.api.board import RINGING

HEAD = b'--b\r\nContent-Disposition: form-data; name="'
HOSTILE = st.sampled_from(
    [
        HEAD + b'sdp"\r\n\r\nv=0\r\n--b--\r\n',
        HEAD + b"sdp\"; filename*=utf-8''%ff\r\n\r\nv=0\r\n--b--\r\n",
        HEAD + b'sdp"; filename="\xff"\r\n\r\n\xff\r\n--b--',
        HEAD + b"sdp\r\n\r\n--b--",
        HEAD + b'session"\r\nContent-Type: application/json\r\n\r\n{}\r\n' + HEAD,
        b"--b\r\n" * 100,
        b"--b\r\nContent-Disposition: form-data\r\n\r\n\r\n--b--\r\n",
        b"--b\r\n: \r\n\r\n--b--\r\n",
        (HEAD + b'x"\r\n\r\n1\r\n') * 20 + b"--b--\r\n",
        b'{"type":"realtime","tools":[' + b"[" * 500 + b"]" * 500 + b"]}",
        b'{"session":{"type":"realtime","instructions":"\\ud800"}}',
        b'{"type":"realtime","max_output_tokens":1e999}',
        b'{"type":"realtime","max_output_tokens":' + b"9" * 5000 + b"}",
        b'{"' + b"k" * 70_000 + b'":1}',
        b'{"type":"realtime","audio":{"output":{"voice":"\\u0000"}}}',
    ]
)
NAMES = st.sampled_from(
    [
        "type",
        "model",
        "session",
        "audio",
        "input",
        "output",
        "voice",
        "tools",
        "expires_after",
        "seconds",
        "status_code",
    ]
) | st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
TYPES = st.sampled_from(
    [
        "application/sdp",
        "application/json",
        "multipart/form-data; boundary=b",
        "multipart/form-data; boundary=b; charset=utf-7",
        "multipart/form-data; charset=rot13; boundary=b",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "b" * 300,
        "multipart/form-data",
        "text/html",
        ";;;",
        "",
    ]
)
PATHS = [
    "/v1/realtime/calls",
    "/v1/realtime/client_secrets",
    f"/v1/realtime/calls/{RINGING}/accept",
    f"/v1/realtime/calls/{RINGING}/reject",
]


@pytest.mark.parametrize("path", PATHS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=HOSTILE | st.binary(max_size=200) | JSON, content_type=TYPES)
def test_no_body_is_our_fault(api: TestClient, path: str, body: object, content_type: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = api.post(path, content=content, headers={"content-type": content_type})
    assert response.status_code in (200, 201, 400, 413)
    if response.status_code >= 400:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_depth_is_counted_to_the_limit(brackets: tuple[str, str]) -> None:
    opening, closing = brackets
    leaf = "1" if opening != "[" else ""

    def document(depth: int) -> str:
        return '{"a":' + opening * (depth - 1) + leaf + closing * (depth - 1) + "}"

    assert decode_object(document(DEPTH_LIMIT))
    with pytest.raises(RequestError) as refusal:
        decode_object(document(DEPTH_LIMIT + 1))
    assert refusal.value.code == "invalid_json"


def request_of(*chunks: bytes, headers: dict[str, str] | None = None) -> Request:
    """A request whose chunks arrive at once, and whose end never comes unless the last is empty."""
    waiting = list(chunks)

    async def receive() -> dict[str, object]:
        if not waiting:
            await asyncio.Event().wait()
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(body)}

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def test_a_body_is_joined() -> None:
    assert asyncio.run(read_body(request_of(b"ab", b"cd", b""), 4)) == b"abcd"


@pytest.mark.parametrize("length", ["5", "9" * 5000])
def test_a_declared_length_is_refused_before_reading(length: str) -> None:
    with pytest.raises(PayloadTooLarge):
        asyncio.run(read_body(request_of(headers={"content-length": length}), 4))


def test_a_body_is_refused_as_soon_as_it_is_too_long() -> None:
    with pytest.raises(PayloadTooLarge):
        asyncio.run(read_body(request_of(b"abc", b"de"), 4))


def test_a_body_that_never_ends_is_given_up_on() -> None:
    with pytest.raises(HTTPException) as refusal:
        asyncio.run(read_body(request_of(b"ab"), 4, timeout_s=0.01))
    assert refusal.value.status_code == 408

"""The one way to model servers over HTTP: connections kept, errors told in our words, one retry."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx2

from bridge.errors import BackendError

CONNECT_TIMEOUT_S = 3.0
MAX_CONNECTIONS = 1024
MAX_IDLE_CONNECTIONS = 128
KEEPALIVE_S = 60.0
MAX_ERROR_CHARACTERS = 300
MAX_WHOLE_BYTES = 4 * 1024 * 1024  # of an answer that is not a stream
TRANSIENT = frozenset((408, 409, 425, 429, 500, 502, 503, 504))

Transport = httpx2.AsyncBaseTransport


class ServerRefused(BackendError):
    """The server answered with an error; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose body is still coming."""

    content_type: str
    _response: httpx2.Response

    def lines(self) -> AsyncGenerator[str, None]:
        return cast(AsyncGenerator[str, None], self._response.aiter_lines())

    def pieces(self) -> AsyncGenerator[bytes, None]:
        return self._response.aiter_bytes()

    async def whole(self, limit: int = MAX_WHOLE_BYTES) -> bytes:
        """Up to `limit` bytes, and what came with the last of them."""
        body = bytearray()
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) >= limit:
                    break
        return bytes(body)


class ModelServer:
    """One OpenAI-compatible server. `what` names it in messages: "the language model".

    `timeout_s` bounds the wait for the head of an answer and for each piece of its body.
    """

    def __init__(
        self,
        what: str,
        base_url: str,
        *,
        api_key: str = "",
        timeout_s: float = 10.0,
        transport: Transport | None = None,
    ) -> None:
        self.what = what
        self._client = httpx2.AsyncClient(
            base_url=base_url.rstrip("/") + "/",
            headers={"authorization": f"Bearer {api_key or 'none'}"},
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            limits=httpx2.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_S,
            ),
            transport=transport,
        )

    @asynccontextmanager
    async def post(self, path: str, **body: Any) -> AsyncIterator[Answer]:
        """Leaving the context closes the answer at once, read or not; `body` is httpx2's.

        Raises:
            BackendError: the server is unreachable, refused, or broke off.
        """
        try:
            async with self._client.stream("POST", path, **body) as response:
                answer = Answer(response.headers.get("content-type", ""), response)
                if response.status_code >= 300:
                    told = await answer.whole(MAX_ERROR_CHARACTERS)
                    why = told.decode("utf-8", "replace")[:MAX_ERROR_CHARACTERS]
                    raise ServerRefused(
                        f"{self.what} answered {response.status_code}: {why}",
                        status=response.status_code,
                    )
                yield answer
        except httpx2.TimeoutException as error:
            raise BackendError(f"{self.what} did not answer in time") from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise BackendError(f"{self.what} cannot be reached: {error}") from error

    async def close(self) -> None:
        await self._client.aclose()


def may_pass(error: BackendError) -> bool:
    """Whether the same request may succeed when it is made again."""
    return not isinstance(error, ServerRefused) or error.status in TRANSIENT


def in_process(app: Any) -> Transport:
    """To an ASGI application in this process."""
    return httpx2.ASGITransport(app=app)


def media_type(content_type: str) -> tuple[str, Mapping[str, str]]:
    """ "audio/pcm;rate=16000" as its type and parameters, lower case."""
    kind, *params = content_type.lower().split(";")
    pairs = (param.partition("=") for param in params)
    return kind.strip(), {name.strip(): value.strip(' "') for name, _, value in pairs}

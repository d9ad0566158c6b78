import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from bridge.backends.cascade.llm import Call, ChatModel, Finished, Piece, Text
from bridge.backends.cascade.settings import CascadeSettings
from bridge.errors import BackendError

HELLO = [{"role": "user", "content": "Hello"}]


class Server:
    """A language model on loopback: sends what it is given, then waits for the peer to leave."""

    def __init__(self, events: Sequence[str], status: str = "200 OK", *, stays: bool = False):
        self._body = "".join(f"data: {event}\n\n" for event in events) if events else "no"
        self._head = f"HTTP/1.1 {status}\r\ncontent-type: text/event-stream\r\n"
        self._stays = stays
        self.request: dict[str, Any] = {}
        self.authorization = ""
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        self.authorization = fields["authorization"]
        self.request = json.loads(await reader.readexactly(int(fields["content-length"])))
        writer.write(f"{self._head}connection: close\r\n\r\n{self._body}".encode())
        await writer.drain()
        if self._stays:
            await reader.read()
            self.left.set()
        writer.close()


def with_model(server: Server, use: Callable[[ChatModel], Awaitable[None]]) -> None:
    async def run() -> None:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        settings = CascadeSettings(
            llm_base_url=f"http://127.0.0.1:{port}/v1", llm_model="m", llm_api_key="sesame"
        )
        model = ChatModel(settings)
        try:
            await use(model)
        finally:
            await model.close()
            listener.close()
            await listener.wait_closed()

    asyncio.run(run())


def pieces_of(server: Server, **options: Any) -> list[Piece]:
    pieces: list[Piece] = []

    async def use(model: ChatModel) -> None:
        async for piece in model.stream(HELLO, **options):
            pieces.append(piece)  # noqa: PERF401

    with_model(server, use)
    return pieces


def event(delta: dict[str, Any], finish_reason: str | None = None) -> str:
    return json.dumps({"choices": [{"delta": delta, "finish_reason": finish_reason}]})


def test_text_comes_as_it_is_generated() -> None:
    server = Server(
        [
            event({"role": "assistant", "content": "Hi"}),
            event({"content": " there"}),
            event({}, "stop"),
            json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
            "[DONE]",
        ]
    )
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    assert pieces_of(server) == [Text("Hi"), Text(" there"), Finished("stop", usage)]
    assert server.authorization == "bearer sesame"
    assert server.request == {
        "model": "m",
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_calls_are_put_together() -> None:
    def part(index: int, **fields: Any) -> str:
        return event({"tool_calls": [{"index": index, **fields}]})

    server = Server(
        [
            part(0, id="a", function={"name": "first", "arguments": ""}),
            part(0, function={"arguments": '{"x"'}),
            part(1, id="b", function={"name": "second"}),
            part(0, function={"arguments": ":1}"}),
            event({}, "tool_calls"),
            "[DONE]",
        ]
    )
    tools = [{"type": "function", "function": {"name": "first"}}]
    assert pieces_of(server, tools=tools, tool_choice="required", max_tokens=7) == [
        Call("a", "first", '{"x":1}'),
        Call("b", "second", "{}"),
        Finished("tool_calls"),
    ]
    assert server.request["tools"] == tools
    assert server.request["tool_choice"] == "required"
    assert server.request["max_tokens"] == 7


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (lambda: Server([], "401 Unauthorized"), "answered 401: no"),
        (lambda: Server([event({"content": "Hi"})]), "broke off"),
        (lambda: Server(["{"]), "no chat completion"),
        (lambda: Server(['{"error": {"message": "out of memory"}}']), "failed: out of memory"),
    ],
)
def test_failures_say_what_happened(server: Callable[[], Server], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        pieces_of(server())


def test_a_server_that_is_not_there() -> None:
    async def run() -> None:
        model = ChatModel(CascadeSettings(llm_base_url="http://127.0.0.1:1/v1", llm_model="m"))
        with pytest.raises(BackendError, match="cannot be reached"):
            await anext(model.stream(HELLO))
        await model.close()

    asyncio.run(run())


def test_closing_the_iterator_ends_the_request() -> None:
    server = Server([event({"content": "Once upon"})], stays=True)

    async def use(model: ChatModel) -> None:
        async with aclosing(model.stream(HELLO)) as pieces:
            assert await anext(pieces) == Text("Once upon")
        async with asyncio.timeout(5):
            await server.left.wait()

    with_model(server, use)


def test_a_scripted_model_is_reached_by_the_same_path() -> None:
    async def run() -> None:
        model = ChatModel(CascadeSettings())
        assert model.scripted
        pieces = [piece async for piece in model.stream([])]
        text = "".join(piece.delta for piece in pieces if isinstance(piece, Text))
        assert text.startswith("Hello, this is an automatic receptionist.")
        assert pieces[-1] == Finished("stop")
        hints = model.hints([], frozenset())
        assert hints is not None
        assert "sales" in hints.phrases
        await model.close()

    asyncio.run(run())

"""The WebSocket to an upstream, against a server of another library and one of plain sockets."""

import asyncio
import base64
import contextlib
import json
import ssl
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bridge.backends.upstream import dial
from bridge.backends.upstream.dialects import dialect_by
from bridge.backends.upstream.link import MAX_MESSAGE_BYTES, TURN, Link
from bridge.backends.upstream.rounds import Rounds
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.config import Upstream
from bridge.errors import BackendBusy, BackendError, PeerError
from bridge.load import LOAD
from tests.ports import free_port
from tests.sip.certificates import Authority

pytestmark = pytest.mark.e2e

HOST = "127.0.0.1"
OPENAI = dialect_by("openai")
OF_TLS = "*/aiofastnet/*"


@pytest.fixture(params=[False, True], ids=["calm", "busy"])
def _load(request: pytest.FixtureRequest) -> Iterator[None]:
    """With little time, connections are served together."""
    LOAD.high = request.param
    yield
    LOAD.forget()


class Client:
    """A link, and what it told."""

    def __init__(self, url: str, **settings: Any) -> None:
        wanted = {"url": url, "model": "m", "connect_timeout_s": 2.0, **settings}
        self.heard: list[bytes] = []
        self.lost: list[str] = []
        self.was_lost = asyncio.Event()
        self.link = Link(
            UpstreamSettings(**Upstream.model_validate(wanted).model_dump()),
            OPENAI,
            Rounds(),
            on_message=self._on_message,
            on_lost=self._on_lost,
        )

    def _on_message(self, message: str | bytes) -> None:
        assert isinstance(message, bytes)
        self.heard.append(message)
        if message == b"nonsense":
            raise PeerError("nonsense")

    def _on_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self.was_lost.set()

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@asynccontextmanager
async def talking(
    server: Callable[[ServerConnection], Awaitable[None]], tls: Path | None = None, **settings: Any
) -> Any:
    """A link to `server`, open; with a certificate in the folder `tls`."""
    context = None
    if tls is not None:
        authority = Authority(tls)
        issued = authority.issue(HOST)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.private_key)
        settings["tls_ca"] = str(authority.path)
    async with serve(server, HOST, 0, compression=None, max_size=None, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        scheme = "ws" if context is None else "wss"
        client = Client(f"{scheme}://{HOST}:{port}/v1/realtime", **settings)
        await client.link.open()
        try:
            yield client
        finally:
            await client.link.close()


@pytest.mark.usefixtures("_load")
def test_messages_both_ways_in_order_and_in_pieces() -> None:
    said: list[Any] = []
    hear = said.append

    async def server(peer: ServerConnection) -> None:
        await peer.send("first")
        await peer.send(["in ", "three ", "pieces"])
        await peer.send(b"octets")
        async for message in peer:
            hear(message)

    async def scenario() -> None:
        async with talking(server) as client:
            client.link.send({"type": "session.update"})
            client.link.send_audio(b"AAAA", 1)
            await client.until(lambda: len(said) == 2 and len(client.heard) == 3)
            assert client.heard == [b"first", b"in three pieces", b"octets"]
            assert client.lost == []
        assert json.loads(said[0]) == {"type": "session.update"}
        assert json.loads(said[1]) == {"type": "input_audio_buffer.append", "audio": "AAAA"}
        assert client.lost == []

    asyncio.run(scenario())


@pytest.mark.usefixtures("_load")
def test_all_is_sent_in_order_also_right_before_the_end() -> None:
    said: list[Any] = []
    hear, over = said.append, asyncio.Event()

    async def server(peer: ServerConnection) -> None:
        async for message in peer:
            hear(json.loads(message))
        over.set()

    async def scenario() -> None:
        async with talking(server) as client:
            for number in range(0, 100, 3):
                client.link.send_audio(str(number).encode(), 1)
                client.link.send_audio(str(number + 1).encode(), 1)
                client.link.send({"audio": str(number + 2)})
                if number % 30 == 0:
                    await asyncio.sleep(0)
        await asyncio.wait_for(over.wait(), 5)
        assert [event["audio"] for event in said] == [str(number) for number in range(102)]

    asyncio.run(scenario())


@pytest.mark.usefixtures("_load")
def test_nothing_is_told_before_it_is_open_and_a_burst_in_turns() -> None:
    count = 10 * TURN

    async def server(peer: ServerConnection) -> None:
        for number in range(count):
            await peer.send(str(number))
        await peer.wait_closed()

    async def scenario() -> None:
        async with talking(server) as client:
            assert client.heard == []
            most, before = 0, 0
            while before < count:
                await asyncio.sleep(0)
                most, before = max(most, len(client.heard) - before), len(client.heard)
            assert most <= 2 * TURN
            assert client.heard == [str(number).encode() for number in range(count)]

    asyncio.run(scenario())


@pytest.mark.usefixtures("_load")
@pytest.mark.parametrize("code", [1000, 1001, 1012, 4003])
def test_a_server_that_closes_says_why(code: int) -> None:
    async def server(peer: ServerConnection) -> None:
        await peer.send("last words")
        await peer.close(code)

    async def scenario() -> None:
        async with talking(server) as client:
            await asyncio.wait_for(client.was_lost.wait(), 5)
            assert client.lost == [f"closed {code}"]
            assert client.heard == [b"last words"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "message", ["x" * (MAX_MESSAGE_BYTES + 1), ["x" * (MAX_MESSAGE_BYTES // 2)] * 3]
)
def test_what_is_too_big_ends_it(message: Any) -> None:
    async def server(peer: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await peer.send(message)
        await peer.wait_closed()

    async def scenario() -> None:
        async with talking(server) as client:
            await asyncio.wait_for(client.was_lost.wait(), 5)
            assert ([len(each) for each in client.heard], client.lost) == ([], ["closed 1009"])

    asyncio.run(scenario())


@pytest.mark.usefixtures("_load")
def test_garbage_three_times_ends_it_and_a_flood_at_once() -> None:
    async def scenario(message: str, times: int) -> list[str]:
        async def server(peer: ServerConnection) -> None:
            for _ in range(times):
                await peer.send(message)
            await peer.wait_closed()

        async with talking(server) as client:
            await asyncio.wait_for(client.was_lost.wait(), 5)
            return list(client.lost)

    assert asyncio.run(scenario("nonsense", 3)) == ["garbage"]
    assert asyncio.run(scenario("event", 5_000)) == ["flood"]


@pytest.mark.usefixtures("_load")
def test_a_server_that_reads_nothing_loses_old_sound_and_then_us() -> None:
    async def scenario() -> None:
        seen = asyncio.Event()

        async def server(peer: ServerConnection) -> None:
            peer.transport.pause_reading()
            await seen.wait()
            peer.transport.abort()

        async with talking(server, stall_timeout_s=0.5) as client:
            sound = b"A" * 64_000
            for _ in range(400):
                client.link.send_audio(sound, 24_000)
            assert client.link._queued_samples <= 35 * 24_000
            await asyncio.wait_for(client.was_lost.wait(), 5)
            assert client.lost == ["stalled"]
            seen.set()

    asyncio.run(scenario())


@pytest.mark.usefixtures("_load")
def test_what_waited_for_a_slow_server_follows() -> None:
    said: list[int] = []
    hear = said.append

    async def server(peer: ServerConnection) -> None:
        peer.transport.pause_reading()
        await asyncio.sleep(0.3)
        peer.transport.resume_reading()
        async for message in peer:
            hear(json.loads(message)["n"])

    async def scenario() -> None:
        async with talking(server) as client:
            for number in range(200):
                client.link.send({"n": number, "padding": "x" * 50_000})
            await client.until(lambda: len(said) == 200)
            assert said == list(range(200))
            assert client.lost == []

    asyncio.run(scenario())


def test_a_ping_is_answered() -> None:
    async def server(peer: ServerConnection) -> None:
        await peer.wait_closed()

    async def scenario() -> None:
        async with talking(server) as client:
            answered = asyncio.Event()
            client.link.ping(answered.set)
            await asyncio.wait_for(answered.wait(), 5)

    asyncio.run(scenario())


async def answering(answer: bytes, **settings: Any) -> tuple[str, str]:
    """The error told, and the handshake that a server got which answers so."""
    request, over = "", asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal request
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.write(answer)
        if not answer:
            writer.close()
        # Who is not answered as they wish hang up themselves.
        assert await reader.read() == b""
        writer.close()
        over.set()

    server = await asyncio.start_server(serve_one, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    client = Client(f"ws://u%40x:p@{HOST}:{port}/v1/realtime", **settings)
    with pytest.raises(BackendError) as raised:
        await client.link.open()
    await client.link.close()
    await asyncio.wait_for(over.wait(), 5)
    server.close()
    kind = "busy: " if isinstance(raised.value, BackendBusy) else ""
    return kind + raised.value.message, request


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 429 Slow down\r\n\r\n", "busy: The model's server has too many sessions (429)"),
        (b"HTTP/1.1 401 No\r\n\r\n", "The model's server refused upstream.api_key (401)"),
        (
            b"HTTP/1.1 302 There\r\nLocation: ws://example.com/\r\n\r\n",
            "The model's server refused the session (302)",
        ),
        (b"220 ESMTP\r\n\r\n", "The model's server cannot be reached: WSInvalidMessageError"),
        (b"", "The model's server cannot be reached: it hung up"),
    ],
)
def test_what_no_server_of_ours_answers(answer: bytes, told: str) -> None:
    message, request = asyncio.run(answering(answer, api_key="sk-1"))
    assert message == told
    # The settings' key goes before what the URL says.
    assert "Authorization: Bearer sk-1\r\n" in request
    assert "User-Agent: bridge\r\n" in request
    assert request.startswith("GET /v1/realtime?model=m HTTP/1.1\r\n")


def test_the_user_of_the_url_where_there_is_no_key() -> None:
    _, request = asyncio.run(answering(b"HTTP/1.1 403 No\r\n\r\n"))
    assert f"Authorization: Basic {base64.b64encode(b'u@x:p').decode()}\r\n" in request


def test_nobody_there_and_somebody_mute() -> None:
    async def scenario() -> None:
        client = Client(f"ws://{HOST}:{free_port()}/")
        with pytest.raises(BackendError, match="cannot be reached: ConnectionRefusedError"):
            await client.link.open()
        hung_up = asyncio.Event()

        async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            hung_up.set()

        mute = await asyncio.start_server(nothing, HOST, 0)
        port = mute.sockets[0].getsockname()[1]
        client = Client(f"ws://{HOST}:{port}/", connect_timeout_s=0.3)
        with pytest.raises(BackendError, match="does not answer"):
            await client.link.open()
        await asyncio.wait_for(hung_up.wait(), 5)
        mute.close()

    asyncio.run(scenario())


@pytest.mark.usefixtures("_load")
def test_what_waited_behind_tls_fills_no_great_buffer(tmp_path: Path) -> None:
    """Nor is a message lost that is larger than the small one."""
    said: list[Any] = []
    hear = said.append
    large = "x" * 300_000

    async def server(peer: ServerConnection) -> None:
        for _ in range(3):
            await peer.send(large)
        async for message in peer:
            hear(message)

    async def scenario() -> None:
        async with talking(server, tls=tmp_path) as client:
            held = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, OF_TLS)])
            assert sum(trace.size for trace in held.traces) < 100 * 1024
            client.link.send({"type": large})
            await client.until(lambda: said and len(client.heard) == 3)
            assert client.heard == [large.encode()] * 3
            assert json.loads(said[0]) == {"type": large}

    tracemalloc.start()
    try:
        asyncio.run(scenario())
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_the_proxy_that_the_environment_names(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def server(peer: ServerConnection) -> None:
        await peer.send("through")
        await peer.wait_closed()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n", 1)[0])
        there, back = await asyncio.open_connection(*asked[-1].split()[1].split(":"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(4096):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))

    async def scenario() -> None:
        proxy = await asyncio.start_server(tunnel, HOST, 0)
        address = f"http://{HOST}:{proxy.sockets[0].getsockname()[1]}"
        monkeypatch.setenv(f"{scheme}_proxy", address)
        monkeypatch.setenv("no_proxy", "localhost")
        async with talking(server, tls=tmp_path if scheme == "wss" else None) as client:
            await client.until(lambda: client.heard)
            assert client.heard == [b"through"]
        proxy.close()

    dial.proxy_for.cache_clear()
    asyncio.run(scenario())
    dial.proxy_for.cache_clear()
    assert asked[0].startswith(f"CONNECT {HOST}:")

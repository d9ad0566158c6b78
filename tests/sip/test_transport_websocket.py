import asyncio
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from bridge.sip.events import Flow
from bridge.sip.limits import Limits
from tests.sip.certificates import Authority
from tests.sip.transport_bench import ANYWHERE, PING, Bench, end_of, message, run

SIP = [Subprotocol("sip")]


def bench(limits: Limits | None = None, in_use: bool = False) -> Bench:
    return Bench(limits=limits, ws=ANYWHERE, flow_in_use=lambda flow: in_use)


def browser(made: Bench, *, origin: str | None = None) -> connect:
    host, port = made.transport.endpoints["ws"]
    return connect(
        f"ws://{host}:{port}/sip",
        subprotocols=SIP,
        origin=Origin(origin) if origin else None,
        ping_interval=None,
    )


async def closed(socket: ClientConnection) -> int | None:
    """The code that the server closed with, if any."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else None


def test_one_message_in_each_frame_text_or_binary() -> None:
    async def work(made: Bench) -> None:
        async with browser(made) as socket:
            assert socket.subprotocol == "sip"
            await socket.send(PING.decode())
            assert await socket.recv() == PING.decode()
            await socket.send(PING)
            assert await socket.recv() == PING.decode()
            latin = message("caf").replace(b"caf", b"caf\xe9")
            await socket.send(latin)
            assert await socket.recv() == latin
            await socket.send(iter(["INFO sip:x ", "SIP/2.0\r\n", "\r\n"]))
            assert await socket.recv() == "INFO sip:x SIP/2.0\r\n\r\n"
            flow = made.agent.flows[0]
            assert flow.transport == "ws"
            assert set(made.agent.flows) == {flow}
        assert await made.agent.failed.get() == flow

    run(work, bench)


def test_wss(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.files(authority.issue("localhost"))
    trusting = ssl.create_default_context(cafile=str(authority.path))

    async def work(made: Bench) -> None:
        _, port = made.transport.endpoints["wss"]
        async with connect(f"wss://localhost:{port}/", subprotocols=SIP, ssl=trusting) as socket:
            await socket.send(PING.decode())
            assert await socket.recv() == PING.decode()
            assert made.agent.flows[0].transport == "wss"

    run(work, lambda: Bench(tls_files=files, wss=ANYWHERE))


def test_a_client_that_speaks_no_sip_is_refused() -> None:
    async def work(made: Bench) -> None:
        host, port = made.transport.endpoints["ws"]
        for offered in (None, [Subprotocol("mqtt")]):
            with pytest.raises(InvalidStatus) as raised:
                await connect(f"ws://{host}:{port}/", subprotocols=offered)
            assert raised.value.response.status_code == 400
        assert made.stats.broken_streams == 2

    run(work, bench)


def test_pages_from_elsewhere_are_refused() -> None:
    async def work(made: Bench) -> None:
        async with browser(made, origin="https://ours.example"):
            pass
        async with browser(made):
            pass
        with pytest.raises(InvalidStatus) as raised:
            await browser(made, origin="https://theirs.example")
        assert raised.value.response.status_code == 403

    run(work, lambda: Bench(ws=ANYWHERE, ws_origins=["https://ours.example"]))


def test_pings_of_both_kinds_are_answered() -> None:
    async def work(made: Bench) -> None:
        async with browser(made) as socket:
            await (await socket.ping())
            await socket.send("\r\n\r\n")
            assert await socket.recv() == "\r\n"
            await socket.send("\r\n")
            await socket.send("")
            await socket.send(PING.decode())
            assert await socket.recv() == PING.decode()
            assert made.stats.received == 1

    run(work, bench)


@pytest.mark.parametrize(
    ("data", "code"), [("x" * 70000, 1009), (b"\x81\x82\x00\x00\x00\x00\xff\xfe", 1007)]
)
def test_what_is_too_large_or_not_text_ends_the_connection(data: str | bytes, code: int) -> None:
    async def work(made: Bench) -> None:
        async with browser(made) as socket:
            if isinstance(data, bytes):
                socket.transport.write(data)
            else:
                await socket.send(data)
            assert await closed(socket) == code
        assert made.stats.received == 0
        assert made.stats.broken_streams == 1

    run(work, bench)


def test_what_is_no_handshake_is_cut_off() -> None:
    async def work(made: Bench) -> None:
        reader, writer = await asyncio.open_connection(*made.transport.endpoints["ws"])
        writer.write(PING)
        assert await end_of(reader) == b""
        assert made.stats.broken_streams == 1
        writer.close()

    run(work, bench)


def test_a_silent_client_is_cut_off_after_the_handshake_too() -> None:
    async def work(made: Bench) -> None:
        async with browser(made) as socket:
            await closed(socket)
        assert made.stats.timed_out == 1

    run(work, lambda: bench(Limits(first_message_s=0.1)))


def test_a_page_that_answers_pings_stays() -> None:
    """Scripts cannot send pings, so the server does, and pongs keep the connection."""

    async def work(made: Bench) -> None:
        async with browser(made) as socket:
            await socket.send(PING.decode())
            await socket.recv()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket.recv(), 0.5)
            assert not made.transport._connections.all()[0].is_closing()
        assert made.stats.timed_out == 0

    run(work, lambda: bench(Limits(first_message_s=0.05, idle_s=0.2, ping_s=0.05)))


def test_the_server_says_that_it_goes() -> None:
    async def work(made: Bench) -> None:
        async with browser(made) as socket:
            await socket.send(PING.decode())
            await socket.recv()
            await made.transport.close()
            assert await closed(socket) == 1001

    run(work, bench)


def test_browsers_cannot_be_called() -> None:
    async def work(made: Bench) -> None:
        assert made.transport.flow("ws", ("127.0.0.1", 80)) is None
        flow = Flow("ws", ANYWHERE, ("127.0.0.1", 80))
        made.agent.outbox.append((flow, PING))
        made.transport.kick()
        assert await made.agent.failed.get() == flow

    run(work, bench)


def test_what_came_before_a_fault_is_taken() -> None:
    async def work(made: Bench) -> None:
        async with browser(made) as socket:
            masked = b"\x81" + bytes([0x80 | len(PING)]) + bytes(4) + PING
            socket.transport.write(masked + b"\x83\x80" + bytes(4))
            assert await closed(socket) == 1002
        assert await made.reported.get() == PING

    run(work, bench)

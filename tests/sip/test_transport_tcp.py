import asyncio

import pytest

from bridge.sip.events import Flow
from bridge.sip.limits import Limits
from tests.sip.transport_bench import Bench, end_of, message, run

ANYWHERE = ("127.0.0.1", 0)
PING = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n"


def test_tcp_messages_split_and_pipelined() -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await bench.phone()
        sent = b"".join(message(str(number)) for number in range(50))
        writer.write(b"\r\n" + sent[:20])
        await writer.drain()
        writer.write(sent[20:])
        assert await reader.readexactly(len(sent)) == sent
        assert {flow.transport for flow in bench.agent.flows} == {"tcp"}
        assert len(set(bench.agent.flows)) == 1
        assert bench.agent.flows[0].remote == writer.get_extra_info("sockname")
        writer.close()
        await writer.wait_closed()
        assert await bench.agent.failed.get() == bench.agent.flows[0]

    run(work)


def test_a_ping_gets_its_pong() -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await bench.phone()
        writer.write(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"\r\n"
        writer.write(PING + b"\r\n\r\n")
        assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(len(PING)) == PING
        writer.close()
        await writer.wait_closed()

    run(work)


def test_a_lying_length_is_answered_and_the_stream_closed() -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await bench.phone()
        lie = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: -1\r\n\r\n"
        writer.write(lie)
        assert await end_of(reader) == lie
        assert bench.stats.broken_streams == 1
        writer.close()

    run(work)


def test_a_stream_without_sip_is_closed() -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await bench.phone()
        writer.write(b"x" * 70000)
        assert await end_of(reader) == b""
        assert bench.stats.broken_streams == 1
        writer.close()

    run(work)


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"INVITE sip:x SIP/2.0\r\nVia"])
def test_no_message_in_time_closes_the_connection(data: bytes) -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await bench.phone()
        writer.write(data)
        await end_of(reader)
        assert bench.stats.timed_out == 1
        writer.close()

    run(work, lambda: Bench(limits=Limits(first_message_s=0.05)))


def test_an_idle_connection_is_closed_unless_a_call_uses_it() -> None:
    asked: list[Flow] = []

    def in_use(flow: Flow) -> bool:
        asked.append(flow)
        return len(asked) < 3

    async def work(bench: Bench) -> None:
        reader, writer = await bench.phone()
        writer.write(PING)
        assert await end_of(reader) == PING
        assert len(asked) == 3
        assert bench.stats.timed_out == 1
        writer.close()

    run(work, lambda: Bench(limits=Limits(first_message_s=0.03, idle_s=0.03), flow_in_use=in_use))


@pytest.mark.parametrize("limits", [Limits(connections=2), Limits(connections_per_address=2)])
def test_connections_beyond_the_cap_are_refused(limits: Limits) -> None:
    async def work(bench: Bench) -> None:
        kept = [await bench.phone() for _ in range(2)]
        for reader, writer in kept:
            writer.write(PING)
            await reader.readexactly(len(PING))
        reader, writer = await bench.phone()
        assert await end_of(reader) == b""
        assert bench.stats.connections_refused == 1
        writer.close()
        kept[0][1].close()
        await bench.transport._connections.all()[0].closed
        reader, again = await bench.phone()
        again.write(PING)
        assert await reader.readexactly(len(PING)) == PING
        for end in (again, kept[1][1]):
            end.close()

    run(work, lambda: Bench(limits=limits))


def test_a_peer_that_does_not_read_is_cut_off() -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await bench.phone()
        writer.write(PING)
        await reader.readexactly(len(PING))
        flow = bench.agent.flows[0]
        connection = bench.transport._connections.all()[0]
        while not connection.is_closing():
            bench.agent.outbox.append((flow, b"x" * 60000))
            bench.transport.kick()
        assert bench.stats.slow_readers == 1
        await connection.closed
        writer.close()

    run(work)


class Callee:
    """A TCP server that keeps what it was sent."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._accepted, *ANYWHERE)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while True:
            try:
                self.received.put_nowait(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:
                writer.close()
                return


def test_a_flow_without_connection_opens_one_and_reuses_it() -> None:
    async def work(bench: Bench) -> None:
        callee = Callee()
        server = await callee.serve()
        remote = server.sockets[0].getsockname()
        flow = Flow("tcp", ANYWHERE, remote)
        sent = [message(str(number)) for number in range(3)]
        bench.agent.outbox += [(flow, sent[0]), (flow, sent[1])]
        bench.transport.kick()
        assert [await callee.received.get() for _ in range(2)] == sent[:2]
        bench.agent.outbox.append((flow, sent[2]))
        bench.transport.kick()
        assert await callee.received.get() == sent[2]
        assert bench.stats.connections_opened == 1
        bench.agent.silent = True
        callee.writers[0].write(PING)
        assert await bench.reported.get() == PING
        assert bench.agent.flows[0].remote == remote
        assert bench.agent.flows[0].key > 0
        server.close()
        await bench.transport.close()

    run(work)


def test_a_connection_that_is_gone_is_opened_again() -> None:
    async def work(bench: Bench) -> None:
        callee = Callee()
        server = await callee.serve()
        flow = Flow("tcp", ANYWHERE, server.sockets[0].getsockname(), key=12345)
        bench.agent.outbox.append((flow, PING))
        bench.transport.kick()
        assert await callee.received.get() == PING
        connection = bench.transport._connections.all()[0]
        connection.abort()
        bench.agent.outbox.append((flow, message("again")))
        bench.transport.kick()
        assert await callee.received.get() == message("again")
        assert bench.stats.connections_opened == 2
        server.close()
        await bench.transport.close()

    run(work)


def test_what_cannot_be_connected_is_counted() -> None:
    async def work(bench: Bench) -> None:
        callee = await Callee().serve()
        gone = callee.sockets[0].getsockname()
        callee.close()
        await callee.wait_closed()
        flow = Flow("tcp", ANYWHERE, gone, key=7)
        bench.agent.outbox.append((flow, PING))
        bench.transport.kick()
        assert await bench.agent.failed.get() == flow
        assert (bench.stats.connections_failed, bench.stats.unsendable) == (1, 1)

    run(work)


def test_connecting_is_bounded_in_number_and_in_octets() -> None:
    async def work(bench: Bench) -> None:
        callee = Callee()
        server = await callee.serve()
        host, port = server.sockets[0].getsockname()
        flow = Flow("tcp", ANYWHERE, (host, port))
        bench.agent.outbox += [(flow, message("x" * 500)), (flow, message("y" * 500))]
        bench.agent.outbox.append((Flow("tcp", ANYWHERE, (host, 1)), b"x"))
        bench.transport.kick()
        assert bench.stats.unsendable == 2
        assert await callee.received.get() == message("x" * 500)
        server.close()
        await bench.transport.close()

    run(work, lambda: Bench(limits=Limits(connecting=1, write_buffer=1000)))

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.errors import SipError
from bridge.sip.events import Flow
from bridge.sip.transport import Limits, SipTransport, TransportStats

ANYWHERE = ("127.0.0.1", 0)
PING = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n"


def message(text: str) -> bytes:
    return f"INFO sip:{text} SIP/2.0\r\nContent-Length: 0\r\n\r\n".encode()


class Echo:
    """Sends back what it gets, reports it as an event, and has one timer."""

    def __init__(self) -> None:
        self.flows: list[Flow] = []
        self.outbox: list[tuple[Flow, bytes]] = []
        self.reports: list[bytes] = []
        self.timer: float | None = None
        self.timed: list[tuple[float, float]] = []
        self.silent = False
        self.failed: asyncio.Queue[Flow] = asyncio.Queue()

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        if data.startswith(b"bad"):
            raise SipError("bad")
        if data.startswith(b"bug"):
            raise ZeroDivisionError
        self.flows.append(flow)
        self.reports.append(data)
        if not self.silent:
            self.outbox.append((flow, data))

    def to_send(self) -> list[tuple[Flow, bytes]]:
        taken, self.outbox = self.outbox, []
        return taken

    def events(self) -> list[bytes]:
        taken, self.reports = self.reports, []
        return taken

    def next_timer(self) -> float | None:
        return self.timer

    def handle_timer(self, now: float) -> None:
        assert self.timer is not None
        self.timed.append((self.timer, now))
        self.timer = None
        self.reports.append(b"timer")

    def flow_failed(self, flow: Flow, now: float) -> None:
        self.failed.put_nowait(flow)


class Bench:
    """A started transport, what it reported, and the means to wait for the n-th report."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        flow_in_use: Callable[[Flow], bool] = lambda flow: False,
    ) -> None:
        self.agent = Echo()
        self.reported: asyncio.Queue[bytes] = asyncio.Queue()
        self.transport = SipTransport[bytes](
            self.agent,
            udp=ANYWHERE,
            tcp=ANYWHERE,
            on_event=self.reported.put_nowait,
            limits=limits,
            flow_in_use=flow_in_use,
        )

    @property
    def stats(self) -> TransportStats:
        return self.transport.stats

    async def phone(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.transport.endpoints["tcp"])


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.put_nowait(data)


def run(work: Callable[[Bench], Awaitable[None]], bench: Callable[[], Bench] = Bench) -> None:
    async def main() -> None:
        made = bench()
        await made.transport.start()
        try:
            async with asyncio.timeout(10):
                await work(made)
        finally:
            await made.transport.close()
        assert len(made.transport._tasks) == 0

    asyncio.run(main())


async def udp_phone(bench: Bench) -> tuple[asyncio.DatagramTransport, Datagrams]:
    return await asyncio.get_running_loop().create_datagram_endpoint(
        Datagrams, remote_addr=bench.transport.endpoints["udp"]
    )


async def end_of(reader: asyncio.StreamReader) -> bytes:
    """Everything until the other side closes or resets."""
    data = b""
    try:
        while chunk := await reader.read(65536):
            data += chunk
    except ConnectionError:
        pass
    return data


def test_answers_a_datagram_where_it_came_from() -> None:
    async def work(bench: Bench) -> None:
        socket, phone = await udp_phone(bench)
        socket.sendto(PING)
        assert await phone.received.get() == PING
        assert await bench.reported.get() == PING
        flow = bench.agent.flows[0]
        assert flow == Flow(
            "udp", bench.transport.endpoints["udp"], socket.get_extra_info("sockname")
        )
        assert (bench.stats.received, bench.stats.sent) == (1, 1)
        socket.close()

    run(work)


def test_a_burst_of_datagrams_arrives_whole_and_in_order() -> None:
    async def work(bench: Bench) -> None:
        socket, phone = await udp_phone(bench)
        sent = [message(str(number)) for number in range(100)]
        for data in sent:
            socket.sendto(data)
        assert [await phone.received.get() for _ in sent] == sent
        socket.close()

    run(work)


def test_datagrams_beyond_the_cap_are_dropped_and_counted() -> None:
    async def work(bench: Bench) -> None:
        # The selector hands over one datagram per turn, so the queue is filled by hand.
        udp = bench.transport._udp
        assert udp is not None
        for number in range(5):
            udp.datagram_received(message(str(number)), ("127.0.0.1", 9))
        assert bench.stats.dropped_datagrams == 3
        assert [await bench.reported.get() for _ in range(2)] == [message("0"), message("1")]

    run(work, lambda: Bench(limits=Limits(waiting_datagrams=2, messages_per_turn=1)))


def test_keep_alive_datagrams_do_not_reach_the_agent() -> None:
    async def work(bench: Bench) -> None:
        socket, phone = await udp_phone(bench)
        for data in (b"\r\n\r\n", b"\0", b"", PING):
            socket.sendto(data)
        assert await phone.received.get() == PING
        assert bench.stats.received == 1
        socket.close()

    run(work)


def test_an_unreadable_message_is_counted_and_the_next_one_served() -> None:
    async def work(bench: Bench) -> None:
        socket, phone = await udp_phone(bench)
        socket.sendto(b"bad")
        socket.sendto(PING)
        assert await phone.received.get() == PING
        assert bench.stats.refused == 1
        socket.close()

    run(work)


def test_a_bug_in_the_agent_is_reported_and_costs_one_datagram() -> None:
    async def work(bench: Bench) -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: problems.append(context.get("exception"))
        )
        socket, phone = await udp_phone(bench)
        socket.sendto(b"bug")
        socket.sendto(PING)
        assert await phone.received.get() == PING
        assert [type(problem) for problem in problems] == [ZeroDivisionError]
        socket.close()

    run(work)


@pytest.mark.parametrize(
    "remote",
    [("127.0.0.1", 0), ("127.0.0.1", 65536), ("phone.example", 5060), ("::1", 5060)],
)
def test_an_impossible_udp_target_is_counted_not_raised(remote: tuple[str, int]) -> None:
    async def work(bench: Bench) -> None:
        bench.agent.outbox.append((Flow("udp", ANYWHERE, remote), PING))
        bench.transport.kick()
        assert bench.stats.unsendable + bench.stats.udp_errors == 1
        socket, phone = await udp_phone(bench)
        socket.sendto(PING)
        assert await phone.received.get() == PING
        socket.close()

    run(work)


def test_a_congested_udp_socket_drops_instead_of_queueing() -> None:
    async def work(bench: Bench) -> None:
        socket, phone = await udp_phone(bench)
        udp = bench.transport._udp
        assert udp is not None
        udp.pause_writing()
        socket.sendto(message("lost"))
        assert await bench.reported.get() == message("lost")
        assert (bench.stats.sent, bench.stats.unsendable) == (0, 1)
        udp.resume_writing()
        socket.sendto(PING)
        assert await phone.received.get() == PING
        socket.close()

    run(work)


def test_an_unknown_transport_is_counted() -> None:
    async def work(bench: Bench) -> None:
        flow = Flow("pigeon", ANYWHERE, ("127.0.0.1", 5060))
        bench.agent.outbox.append((flow, PING))
        bench.transport.kick()
        assert await bench.agent.failed.get() == flow
        assert bench.stats.unsendable == 1

    run(work)


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


def test_the_timer_fires_when_due_and_is_moved() -> None:
    async def work(bench: Bench) -> None:
        now = asyncio.get_running_loop().time()
        bench.agent.timer = now + 100
        bench.transport.kick()
        bench.agent.timer = now + 0.02
        bench.transport.kick()
        assert await bench.reported.get() == b"timer"
        (due, fired), *rest = bench.agent.timed
        assert not rest
        assert due == now + 0.02
        assert fired >= due

    run(work)


def test_commands_given_while_an_event_is_told_go_out_in_the_same_kick() -> None:
    async def work(bench: Bench) -> None:
        socket, phone = await udp_phone(bench)
        bench.agent.silent = True

        def answer(event: bytes) -> None:
            bench.agent.outbox.append((bench.agent.flows[-1], b"answer"))
            bench.transport.kick()

        bench.transport.on_event = answer
        socket.sendto(PING)
        assert await phone.received.get() == b"answer"
        socket.close()

    run(work)


def test_a_receiver_that_raises_loses_one_event() -> None:
    async def work(bench: Bench) -> None:
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: problems.append(context.get("exception"))
        )

        def receiver(event: bytes) -> None:
            if event == b"one":
                raise LookupError
            bench.reported.put_nowait(event)

        bench.transport.on_event = receiver
        bench.agent.reports += [b"one", b"two"]
        bench.transport.kick_soon()
        assert await bench.reported.get() == b"two"
        assert [type(problem) for problem in problems] == [LookupError]

    run(work)


def test_close_sends_what_is_due_and_is_idempotent() -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await bench.phone()
        writer.write(PING)
        await reader.readexactly(len(PING))
        bench.agent.outbox.append((bench.agent.flows[0], b"goodbye"))
        await bench.transport.close()
        await bench.transport.close()
        assert await end_of(reader) == b"goodbye"
        bench.transport.kick()
        bench.transport.kick_soon()
        writer.close()

    run(work)


def test_a_port_in_use_leaves_nothing_open() -> None:
    async def work(bench: Bench) -> None:
        second = SipTransport[bytes](
            Echo(),
            udp=ANYWHERE,
            tcp=bench.transport.endpoints["tcp"],
            on_event=bench.reported.put_nowait,
        )
        with pytest.raises(OSError, match="address already in use"):
            await second.start()

    run(work)

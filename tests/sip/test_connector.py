import asyncio

from bridge.sip.events import Flow
from bridge.sip.limits import Limits
from tests.sip.test_transport_tcp import Callee
from tests.sip.transport_bench import ANYWHERE, Bench, Datagrams, run


def large(text: str, first: str = "INFO sip:x SIP/2.0") -> bytes:
    lines = [first, "v: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK1", f"X-Text: {text}"]
    return "\r\n".join([*lines, "X-Filling: " + "y" * 1400, "", ""]).encode()


async def phone(host: str, port: int) -> tuple[asyncio.DatagramTransport, Datagrams]:
    return await asyncio.get_running_loop().create_datagram_endpoint(
        Datagrams, local_addr=(host, port)
    )


def test_a_large_request_goes_by_tcp_once_however_often_it_is_repeated() -> None:
    async def work(bench: Bench) -> None:
        callee = Callee()
        server = await callee.serve()
        flow = Flow("udp", bench.transport.endpoints["udp"], server.sockets[0].getsockname())
        for text in ("one", "one", "two"):
            bench.agent.outbox.append((flow, large(text)))
            bench.transport.kick()
        wanted = [large(text).replace(b"/UDP", b"/TCP") for text in ("one", "two")]
        assert [await callee.received.get() for _ in range(2)] == wanted
        bench.agent.outbox += [(flow, large("one")), (flow, large("three"))]
        bench.transport.kick()
        assert await callee.received.get() == large("three").replace(b"/UDP", b"/TCP")
        assert bench.stats.large_requests == 3
        assert bench.stats.connections_opened == 1
        server.close()
        await bench.transport.close()

    run(work)


def test_a_peer_without_tcp_gets_it_by_udp_after_all() -> None:
    async def work(bench: Bench) -> None:
        socket, peer = await phone(*ANYWHERE)
        flow = Flow("udp", bench.transport.endpoints["udp"], socket.get_extra_info("sockname"))
        for text in ("one", "two"):
            bench.agent.outbox.append((flow, large(text)))
            bench.transport.kick()
            assert await peer.received.get() == large(text)
        # The second did not try again.
        assert bench.stats.connections_failed == 1
        assert (bench.stats.large_requests, bench.stats.unsendable) == (0, 0)
        socket.close()

    run(work)


def test_responses_and_small_requests_stay_with_udp() -> None:
    async def work(bench: Bench) -> None:
        callee = Callee()
        server = await callee.serve()
        remote = server.sockets[0].getsockname()
        socket, peer = await phone(*remote)
        flow = Flow("udp", bench.transport.endpoints["udp"], remote)
        sent = [large("answer", "SIP/2.0 200 OK"), large("")[:1300]]
        for data in sent:
            bench.agent.outbox.append((flow, data))
            bench.transport.kick()
            assert await peer.received.get() == data
        assert bench.stats.connections_opened == 0
        socket.close()
        server.close()

    run(work)


def test_a_connection_to_a_peer_comes_from_the_address_it_knows() -> None:
    async def work(bench: Bench) -> None:
        callee = Callee()
        server = await callee.serve()
        flow = Flow("tcp", ("127.0.0.2", 5060), server.sockets[0].getsockname())
        bench.agent.outbox.append((flow, large("")))
        bench.transport.kick()
        await callee.received.get()
        assert callee.writers[0].get_extra_info("peername")[0] == "127.0.0.2"
        server.close()
        await bench.transport.close()

    run(work)


def test_a_call_on_an_outgoing_connection_is_kept_alive_until_pongs_stop() -> None:
    """RFC 5626: a peer that has answered pings, and then does not, is gone."""

    async def work(bench: Bench) -> None:
        ended = asyncio.Event()
        pings: asyncio.Queue[bytes] = asyncio.Queue()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"y\r\n\r\n")
            for _ in range(2):
                pings.put_nowait(await reader.readexactly(4))
                writer.write(b"\r\n")
            await reader.read()
            ended.set()
            writer.close()

        server = await asyncio.start_server(accepted, *ANYWHERE)
        flow = Flow("tcp", ANYWHERE, server.sockets[0].getsockname())
        bench.agent.silent = True
        bench.agent.outbox.append((flow, large("")))
        bench.transport.kick()
        assert [await pings.get() for _ in range(2)] == [b"\r\n\r\n"] * 2
        await ended.wait()
        assert flow in {await bench.agent.failed.get() for _ in range(2)}
        assert bench.stats.timed_out == 1
        server.close()

    limits = Limits(ping_s=0.05, pong_s=0.1, idle_s=60)
    run(work, lambda: Bench(limits=limits, tcp=ANYWHERE, flow_in_use=lambda flow: True))

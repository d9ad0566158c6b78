import asyncio

import pytest
import uvloop

from bridge.sip.events import Flow
from bridge.sip.limits import Limits
from bridge.sip.transport import SipTransport
from tests.sip.transport_bench import Bench, Echo, end_of, message, run, udp_phone

ANYWHERE = ("127.0.0.1", 0)
PING = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n"


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
        (udp,) = bench.transport._udp
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
        (udp,) = bench.transport._udp
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


def test_a_timer_that_is_due_at_once_can_be_moved_on_uvloop() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        agent = Echo()
        told: asyncio.Queue[bytes] = asyncio.Queue()
        transport = SipTransport(agent, udp=ANYWHERE, on_event=told.put_nowait)
        await transport.start()
        agent.timer = loop.time()
        transport.kick()
        transport.kick()
        agent.timer = loop.time() + 0.0001
        transport.kick()
        assert await asyncio.wait_for(told.get(), 2) == b"timer"
        await transport.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


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

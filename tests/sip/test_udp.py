import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from bridge.sip.events import Flow
from tests.sip.transport_bench import ANYWHERE, PING, Bench, Datagrams, message, run, udp_phone


def long_message(text: str) -> bytes:
    return message(text + "x" * 150)


def nobody(family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1") -> int:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("loop_factory", [None, uvloop.new_event_loop])
def test_nobody_there_is_told_at_once_and_costs_nobody_else_a_datagram(
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
) -> None:
    async def work(bench: Bench) -> None:
        live, phone = await udp_phone(bench)
        gone = Flow("udp", bench.transport.endpoints["udp"], ("127.0.0.1", nobody()))
        here = Flow("udp", gone.local, live.get_extra_info("sockname"))
        bench.agent.outbox += [(gone, long_message("gone")), (here, message("here"))]
        bench.transport.kick()
        assert await bench.agent.failed.get() == gone
        assert await phone.received.get() == message("here")
        assert bench.stats.unreachable == 1
        live.close()

    run(work, loop_factory=loop_factory)


def test_the_same_over_ipv6() -> None:
    async def work(bench: Bench) -> None:
        remote = ("::1", nobody(socket.AF_INET6, "::1"))
        flow = bench.transport.flow("udp", remote)
        assert flow is not None
        bench.agent.outbox.append((flow, long_message("gone")))
        bench.transport.kick()
        assert await bench.agent.failed.get() == flow

    run(work, lambda: Bench(udp=("::1", 0)))


def test_only_what_quotes_a_datagram_of_ours_is_believed() -> None:
    async def work(bench: Bench) -> None:
        (udp,) = bench.transport._udp
        flow = Flow("udp", udp.local, ("127.0.0.1", nobody()))
        sent = long_message("secret branch")
        udp._sent.append((flow, sent))
        for quoted, remote in [
            (sent[:100], flow.remote),
            (b"", flow.remote),
            (sent.replace(b"secret", b"guess!")[:140], flow.remote),
            (sent, ("127.0.0.1", 9)),
        ]:
            udp._undelivered(quoted, remote)
        assert bench.stats.unreachable == 0
        udp._undelivered(sent[:128], flow.remote)
        assert bench.stats.unreachable == 1

    run(work)


def test_each_family_is_answered_from_its_own_socket() -> None:
    async def work(bench: Bench) -> None:
        bound = [(name, local[0]) for name, local in bench.transport.listening]
        assert bound == [(name, host) for name in ("udp", "tcp") for host in ("127.0.0.1", "::1")]
        locals_ = [local for name, local in bench.transport.listening if name == "udp"]
        for local in locals_:
            phone, peer = await asyncio.get_running_loop().create_datagram_endpoint(
                Datagrams, remote_addr=local
            )
            phone.sendto(PING)
            assert await peer.received.get() == PING
            flow = bench.transport.flow("udp", phone.get_extra_info("sockname")[:2])
            assert flow is not None
            assert flow.local == local
            phone.close()
        assert [flow.local for flow in bench.agent.flows] == locals_

    both = [("127.0.0.1", 0), ("::1", 0)]
    run(work, lambda: Bench(udp=both, tcp=both))


def test_every_address_of_both_families_on_one_port() -> None:
    """`::` takes IPv6 alone, so 0.0.0.0 can have the same port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(ANYWHERE)
        port = probe.getsockname()[1]

    async def work(bench: Bench) -> None:
        assert bench.transport.listening == [("udp", ("0.0.0.0", port)), ("udp", ("::", port))]

    run(work, lambda: Bench(udp=[("0.0.0.0", port), ("::", port)]))


def test_a_link_local_peer_is_answered_in_its_zone() -> None:
    async def work(bench: Bench) -> None:
        flow = bench.transport.flow("udp", ("fe80::1%lo", 5060))
        assert flow is not None
        bench.agent.outbox += [(flow, PING), (Flow("udp", flow.local, ("fe80::1%nil", 1)), PING)]
        bench.transport.kick()
        # Nobody has that address here; what counts is that the zone was understood.
        assert bench.stats.unsendable + bench.stats.udp_errors + bench.stats.sent >= 2

    run(work, lambda: Bench(udp=("::1", 0)))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_there_is_no_way_to_a_name(transport: str) -> None:
    async def work(bench: Bench) -> None:
        assert bench.transport.flow(transport, ("phone.example", 5060)) is None

    run(work)


def test_no_udp_socket_of_a_family_is_no_way() -> None:
    async def work(bench: Bench) -> None:
        assert bench.transport.flow("udp", ("::1", 5060)) is None
        flow = bench.transport.flow("tcp", ("::1", 5060))
        assert flow is not None
        assert flow.local == ("::", 0)

    run(work)

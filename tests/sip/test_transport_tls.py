import asyncio
import contextlib
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.sip.events import Flow
from bridge.sip.limits import Limits
from bridge.sip.resolver import Target
from bridge.sip.tls import TlsFiles
from bridge.sip.transport import SipTransport
from tests.sip.certificates import Authority
from tests.sip.transport_bench import ANYWHERE, PING, Bench, Echo, end_of, message, run


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def server(authority: Authority, *names: str, limits: Limits | None = None) -> Bench:
    files = authority.files(authority.issue(*(names or ("localhost",))))
    return Bench(limits=limits, tls_files=files, tls=ANYWHERE)


def context(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.path))


async def phone(
    bench: Bench, trusting: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        *bench.transport.endpoints["tls"], ssl=trusting, server_hostname="localhost"
    )


async def ended(writer: asyncio.StreamWriter) -> None:
    writer.close()
    # The other end may have said its goodbye already.
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


def test_messages_over_tls_split_and_pipelined(authority: Authority) -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await phone(bench, context(authority))
        sent = b"".join(message(str(number)) for number in range(2000))
        writer.write(b"\r\n\r\n" + sent[:33])
        assert await reader.readexactly(2) == b"\r\n"
        writer.write(sent[33:])
        assert await reader.readexactly(len(sent)) == sent
        assert {flow.transport for flow in bench.agent.flows} == {"tls"}
        await ended(writer)

    run(work, lambda: server(authority))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_nothing_below_tls_1_2(authority: Authority) -> None:
    old = context(authority)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")

    async def work(bench: Bench) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await phone(bench, old)
        assert bench.stats.tls_failures == 1

    run(work, lambda: server(authority))


def test_plain_sip_on_the_tls_port_is_cut_off(authority: Authority) -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await asyncio.open_connection(*bench.transport.endpoints["tls"])
        writer.write(PING)
        await end_of(reader)
        assert bench.stats.tls_failures == 1
        assert bench.stats.received == 0
        await ended(writer)

    run(work, lambda: server(authority))


def test_an_unfinished_handshake_counts_against_the_caps_and_times_out(
    authority: Authority,
) -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await asyncio.open_connection(*bench.transport.endpoints["tls"])
        refused, other = await asyncio.open_connection(*bench.transport.endpoints["tls"])
        await end_of(refused)
        assert bench.stats.connections_refused == 1
        await end_of(reader)
        assert bench.stats.timed_out == 1
        await ended(writer)
        await ended(other)

    limits = Limits(first_message_s=0.1, connections_per_address=1)
    run(work, lambda: server(authority, limits=limits))


def test_new_handshakes_get_the_new_certificate_and_a_bad_file_keeps_the_old(
    authority: Authority,
) -> None:
    trusting = context(authority)

    async def shown(bench: Bench) -> tuple[asyncio.StreamWriter, int]:
        _, writer = await phone(bench, trusting)
        certificate = writer.get_extra_info("peercert")
        return writer, int(certificate["serialNumber"], 16)

    async def work(bench: Bench) -> None:
        first, old = await shown(bench)
        issued = authority.issue("localhost")
        bench.transport.reload_tls()
        second, new = await shown(bench)
        assert new != old
        issued.private_key.write_text("not a key")
        with pytest.raises(ConfigError, match="TLS certificate"):
            bench.transport.reload_tls()
        third, kept = await shown(bench)
        assert kept == new
        first.write(PING)
        assert await bench.reported.get() == PING
        for writer in (first, second, third):
            await ended(writer)

    run(work, lambda: server(authority))


def test_bad_files_are_named_at_the_start(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue("localhost")
    missing = tmp_path / "missing.pem"
    cases = [
        (TlsFiles(missing, issued.private_key), "missing.pem"),
        (TlsFiles(issued.certificate, issued.private_key, authority=missing), "missing.pem"),
        (TlsFiles(), "needs a certificate"),
        (None, "needs a certificate"),
    ]

    async def start(files: TlsFiles | None) -> None:
        transport = SipTransport[bytes](
            Echo(), on_event=lambda event: None, tls_files=files, udp=ANYWHERE, tls=ANYWHERE
        )
        await transport.start()

    for files, wanted in cases:
        with pytest.raises(ConfigError, match=wanted):
            asyncio.run(start(files))


class Pair:
    """A bench that is called, and one that calls it, both with certificates of one authority."""

    def __init__(self, authority: Authority, *names: str, mutual: bool = False) -> None:
        ours = authority.files(authority.issue("caller.example", "localhost", file="caller"))
        theirs = authority.files(authority.issue(*names, file="callee"))
        if mutual:
            theirs = replace(theirs, client_authority=authority.path)
        self.caller = Bench(tls_files=ours, tls=ANYWHERE)
        self.callee = Bench(tls_files=theirs, tls=ANYWHERE)
        self.callee.agent.silent = True

    def flow(self, server_name: str) -> Flow:
        remote = self.callee.transport.endpoints["tls"]
        flow = self.caller.transport.flow("tls", remote, server_name=server_name)
        assert flow is not None
        return flow

    def send(self, flow: Flow, data: bytes) -> None:
        self.caller.agent.outbox.append((flow, data))
        self.caller.transport.kick()

    async def __aenter__(self) -> "Pair":
        await self.caller.transport.start()
        await self.callee.transport.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.caller.transport.close()
        await self.callee.transport.close()


def test_a_server_is_called_by_the_name_it_can_prove(authority: Authority) -> None:
    async def work() -> None:
        async with asyncio.timeout(10), Pair(authority, "sip.example") as pair:
            flow = pair.flow("sip.example")
            for number in range(3):
                pair.send(flow, message(str(number)))
                assert await pair.callee.reported.get() == message(str(number))
            assert pair.caller.stats.connections_opened == 1
            pair.callee.agent.outbox.append((pair.callee.agent.flows[0], PING))
            pair.callee.transport.kick()
            assert await pair.caller.reported.get() == PING
            assert pair.caller.agent.flows[0].server_name == "sip.example"
            # Whoever waits on the flow is told when the connection behind it goes.
            pair.callee.transport._connections.all()[0].abort()
            lost = {await pair.caller.agent.failed.get() for _ in range(2)}
            assert flow in lost

    asyncio.run(work())


@pytest.mark.parametrize("name", ["other.example", "", "bad..name"])
def test_a_server_with_another_name_is_not_called(authority: Authority, name: str) -> None:
    async def work() -> None:
        async with asyncio.timeout(10), Pair(authority, "sip.example") as pair:
            flow = pair.flow(name)
            pair.send(flow, PING)
            assert await pair.caller.agent.failed.get() == flow
            assert pair.callee.stats.received == 0
            assert pair.caller.stats.connections_failed == 1

    asyncio.run(work())


def test_a_server_with_its_address_in_the_certificate_needs_no_name(authority: Authority) -> None:
    async def work() -> None:
        async with asyncio.timeout(10), Pair(authority, "127.0.0.1") as pair:
            pair.send(pair.flow(""), PING)
            assert await pair.callee.reported.get() == PING

    asyncio.run(work())


def test_an_unknown_authority_is_not_trusted(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "other"
    folder.mkdir()

    async def work() -> None:
        async with asyncio.timeout(10), Pair(authority, "sip.example") as pair:
            other = Authority(folder)
            stranger = Bench(tls_files=other.files(other.issue("sip.example")), tls=ANYWHERE)
            await stranger.transport.start()
            remote = stranger.transport.endpoints["tls"]
            flow = pair.caller.transport.flow("tls", remote, server_name="sip.example")
            assert flow is not None
            pair.send(flow, PING)
            assert await pair.caller.agent.failed.get() == flow
            assert stranger.stats.received == 0
            await stranger.transport.close()

    asyncio.run(work())


def test_without_tls_there_is_no_way_to_a_tls_server() -> None:
    async def work(bench: Bench) -> None:
        assert bench.transport.flow("tls", ("127.0.0.1", 5061)) is None
        bench.agent.outbox.append((Flow("tls", ANYWHERE, ("127.0.0.1", 5061)), PING))
        bench.transport.kick()
        assert bench.stats.unsendable == 1
        bench.transport.reload_tls()

    run(work)


def test_what_a_resolver_found_becomes_flows(authority: Authority) -> None:
    async def work(bench: Bench) -> None:
        transport = bench.transport
        assert transport.transports == {"udp", "tls"}
        assert transport.families == (6, 4)
        targets = [
            Target("tls", ("192.0.2.1", 5061), "sip.example"),
            Target("ws", ("192.0.2.1", 80), ""),
            Target("udp", ("2001:db8::1", 5060), ""),
        ]
        assert transport.flows(targets) == (
            Flow("tls", ("0.0.0.0", 0), ("192.0.2.1", 5061), server_name="sip.example"),
            Flow("udp", transport.endpoints["udp"], ("2001:db8::1", 5060)),
        )

    files = TlsFiles(authority=authority.path)
    run(work, lambda: Bench(tls_files=files, udp=[("::1", 0), ANYWHERE], ws=ANYWHERE))


ALIAS = (
    "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TLS caller.example:{port};branch=z9hG4bK1{alias}\r\n"
    "From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n"
    "Content-Length: 0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("mutual", "alias", "name", "reused"),
    [
        (True, ";alias", "caller.example", True),
        (True, ";alias", "else.example", False),
        (True, "", "caller.example", False),
        (False, ";alias", "caller.example", False),
    ],
)
def test_a_connection_serves_backwards_for_those_who_proved_their_name(
    authority: Authority, mutual: bool, alias: str, name: str, reused: bool
) -> None:
    """RFC 5923: the port in the Via of a peer with a verified certificate."""

    async def work() -> None:
        async with asyncio.timeout(10), Pair(authority, "sip.example", mutual=mutual) as pair:
            port = pair.caller.transport.endpoints["tls"][1]
            pair.send(pair.flow("sip.example"), ALIAS.format(port=port, alias=alias).encode())
            await pair.callee.reported.get()
            back = pair.callee.transport.flow("tls", ("127.0.0.1", port), server_name=name)
            assert back is not None
            pair.caller.agent.silent = True
            pair.callee.agent.outbox.append((back, PING))
            pair.callee.transport.kick()
            if name == "caller.example":
                assert await pair.caller.reported.get() == PING
            else:
                assert await pair.callee.agent.failed.get() == back
            opened = pair.callee.stats.connections_opened
            assert (opened == 1) == reused

    asyncio.run(work())

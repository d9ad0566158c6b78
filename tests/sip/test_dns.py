import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from bridge.sip.dns import Resolver
from bridge.sip.resolver import ResolveError, Target
from bridge.sip.uri import SipUri

SOA = "ns.example. root.example. 1 3600 600 86400 2"


class NameServer(asyncio.DatagramProtocol):
    """Answers from `zone`: lines of (name, ttl, type, data). Silent or failing on demand."""

    def __init__(self) -> None:
        self.zone: list[tuple[str, int, str, str]] = []
        self.asked: list[str] = []
        self.mood = "well"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{kind} {name}")
        if self.mood == "silent":
            return
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        if self.mood == "failing":
            answer.set_rcode(dns.rcode.SERVFAIL)
        else:
            for owner, ttl, type_, data_ in self.zone:
                if (owner, type_) == (name, kind):
                    answer.answer.append(dns.rrset.from_text(owner, ttl, "IN", type_, data_))
            if not any(owner == name for owner, *_ in self.zone):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            if not answer.answer:
                answer.authority.append(dns.rrset.from_text("example.", 60, "IN", "SOA", SOA))
        self.transport.sendto(answer.to_wire(), addr)


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.50 pbx.local\n")
    return path


def run(work: Callable[[Resolver, NameServer], Awaitable[None]], hosts: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(
            NameServer, local_addr=("127.0.0.1", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        resolver = Resolver(
            random.Random(1),
            name_servers=["127.0.0.1"],
            port=port,
            timeout_s=0.2,
            patience_s=0.1,
            hosts=hosts,
        )
        async with asyncio.timeout(10):
            await work(resolver, server)
        await resolver.close()
        transport.close()

    asyncio.run(main())


async def ask(resolver: Resolver, uri: str) -> list[Target]:
    return await resolver.targets(SipUri.parse(uri), transports=("udp", "tcp", "tls"))


def test_naptr_srv_and_addresses_over_the_wire_and_from_the_cache(hosts: Path) -> None:
    async def work(resolver: Resolver, server: NameServer) -> None:
        server.zone = [
            ("sip.example.", 60, "NAPTR", '10 10 "s" "SIPS+D2T" "" _sips._tcp.sip.example.'),
            ("_sips._tcp.sip.example.", 60, "SRV", "1 1 5061 edge.example."),
            ("edge.example.", 60, "A", "192.0.2.1"),
        ]
        wanted = [Target("tls", ("192.0.2.1", 5061), "sip.example")]
        assert await ask(resolver, "sip:sip.example") == wanted
        asked = list(server.asked)
        assert asked == ["NAPTR sip.example.", "SRV _sips._tcp.sip.example.", "A edge.example."]
        assert await ask(resolver, "sip:sip.example") == wanted
        assert server.asked == asked

    run(work, hosts)


def test_one_question_is_asked_once_at_a_time(hosts: Path) -> None:
    async def work(resolver: Resolver, server: NameServer) -> None:
        server.zone = [("one.example.", 60, "A", "192.0.2.1")]
        asking = [ask(resolver, "sip:one.example:5060") for _ in range(20)]
        found = await asyncio.gather(*asking)
        assert all(targets[0].address == ("192.0.2.1", 5060) for targets in found)
        assert server.asked == ["A one.example."]

    run(work, hosts)


def test_what_does_not_exist_is_remembered(hosts: Path) -> None:
    async def work(resolver: Resolver, server: NameServer) -> None:
        for _ in range(2):
            with pytest.raises(ResolveError) as raised:
                await ask(resolver, "sip:none.example:5060")
            assert not raised.value.temporary
        assert server.asked == ["A none.example."]

    run(work, hosts)


@pytest.mark.parametrize("mood", ["silent", "failing"])
def test_old_answers_serve_while_the_name_server_does_not(hosts: Path, mood: str) -> None:
    async def work(resolver: Resolver, server: NameServer) -> None:
        server.zone = [("one.example.", 60, "A", "192.0.2.1")]
        found = await ask(resolver, "sip:one.example:5060")
        server.mood = mood
        (question,) = resolver._cache._entries
        records, expires = resolver._cache._entries[question]
        resolver._cache._entries[question] = records, expires - 61
        assert await ask(resolver, "sip:one.example:5060") == found
        with pytest.raises(ResolveError) as raised:
            await ask(resolver, "sip:two.example:5060")
        assert raised.value.temporary

    run(work, hosts)


def test_addresses_and_the_hosts_file_need_no_name_server(hosts: Path) -> None:
    async def work(resolver: Resolver, server: NameServer) -> None:
        server.mood = "silent"
        for uri, address in [
            ("sip:192.0.2.7", ("192.0.2.7", 5060)),
            ("sip:pbx.local:5080", ("192.0.2.50", 5080)),
            ("sip:localhost:5080", ("127.0.0.1", 5080)),
        ]:
            assert [target.address for target in await ask(resolver, uri)] == [address]
        assert server.asked == []

    run(work, hosts)


@pytest.mark.parametrize("name", ["a" * 70 + ".example", "bad..example"])
def test_a_name_that_cannot_be_asked_for(hosts: Path, name: str) -> None:
    async def work(resolver: Resolver, server: NameServer) -> None:
        with pytest.raises(ResolveError):
            await ask(resolver, f"sip:{name}:5060")

    run(work, hosts)

"""Asks the name servers what `resolver` wants to know: dnspython's only door."""

import asyncio
import random
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from bridge.sip.dns_cache import NEGATIVE_TTL_S, Cached, DnsCache, parse_hosts
from bridge.sip.resolver import Naptr, Question, Record, ResolveError, Srv, Target, resolve
from bridge.sip.uri import SipUri
from bridge.tasks import TaskOwner

HOSTS = Path("/etc/hosts")
TIMEOUT_S = 3.0
PATIENCE_S = 1.8
"""How long a stale answer waits for a fresh one (RFC 8767 section 5)."""


class Resolver:
    """Look-ups never block the loop, and one question is asked once at a time."""

    def __init__(
        self,
        rng: random.Random,
        *,
        name_servers: Sequence[str] = (),
        port: int = 53,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        hosts: Path = HOSTS,
    ) -> None:
        """The system's name servers when none are given."""
        self._rng = rng
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._hosts = hosts
        self._cache = DnsCache()
        self._asking: dict[Question, asyncio.Task[None]] = {}
        self._tasks = TaskOwner("dns")
        self._dns: dns.asyncresolver.Resolver | None = None
        try:
            self._dns = dns.asyncresolver.Resolver(configure=not name_servers)
        except dns.resolver.NoResolverConfiguration:
            # Addresses and /etc/hosts still work.
            return
        if name_servers:
            self._dns.nameservers = list(name_servers)
            self._dns.port = port

    async def targets(
        self, uri: SipUri, *, transports: Collection[str], families: Sequence[int] = (4,)
    ) -> list[Target]:
        """Where to send a request for the URI, best first. Raises ResolveError."""
        steps = resolve(uri, transports=transports, families=families, rng=self._rng)
        silent = False
        try:
            questions = next(steps)
            while True:
                answers = await asyncio.gather(*map(self._ask, questions))
                silent = silent or None in answers
                questions = steps.send([answer or () for answer in answers])
        except StopIteration as stop:
            found: list[Target] = stop.value
            return found
        except ResolveError as error:
            raise ResolveError(error.message, temporary=silent) from None

    async def close(self) -> None:
        await self._tasks.close()

    async def _ask(self, question: Question) -> Sequence[Record] | None:
        """None when nobody answers."""
        if question.kind in ("A", "AAAA") and (local := self._from_hosts(question)) is not None:
            return local
        known = self._known(question)
        if known is not None and known.fresh:
            return known.records
        asking = self._asking.get(question)
        if asking is None:
            asking = self._tasks.spawn(self._look_up(question), name=question.kind)
            self._asking[question] = asking
            asking.add_done_callback(lambda _: self._asking.pop(question, None))
        # With something to fall back on, a slow name server is not waited for to the end.
        await asyncio.wait([asking], timeout=self._patience_s if known else None)
        known = self._known(question) or known
        return known.records if known is not None else None

    def _known(self, question: Question) -> Cached | None:
        return self._cache.get(question, asyncio.get_running_loop().time())

    def _from_hosts(self, question: Question) -> list[Record] | None:
        """None when the file does not know the name."""
        name = question.name.rstrip(".").lower()
        try:
            found = parse_hosts(self._hosts.read_text("utf-8", "replace")).get(name)
        except OSError:
            found = None
        if found is None and (name == "localhost" or name.endswith(".localhost")):
            found = ["127.0.0.1", "::1"]
        if found is None:
            return None
        return [address for address in found if (":" in address) == (question.kind == "AAAA")]

    async def _look_up(self, question: Question) -> None:
        """Fills the cache; leaves it as it is when nobody answers."""
        if self._dns is None:
            return
        records: tuple[Record, ...] = ()
        try:
            answer = await self._dns.resolve(
                question.name, question.kind, lifetime=self._timeout_s, search=False
            )
            records, ttl_s = _records(question.kind, answer), _ttl(answer)
        except dns.resolver.NXDOMAIN as error:
            ttl_s = min(
                map(_negative_ttl, error.kwargs["responses"].values()), default=NEGATIVE_TTL_S
            )
        except dns.resolver.NoAnswer as error:
            ttl_s = _negative_ttl(error.kwargs["response"])
        except (dns.exception.DNSException, OSError, UnicodeError):
            self._cache.extend(question, asyncio.get_running_loop().time())
            return
        self._cache.put(question, records, ttl_s, asyncio.get_running_loop().time())


def _records(kind: Literal["NAPTR", "SRV", "A", "AAAA"], answer: Any) -> tuple[Record, ...]:
    if kind == "NAPTR":
        return tuple(
            Naptr(r.order, r.preference, r.flags.decode(), r.service.decode(), _name(r.replacement))
            for r in answer
        )
    if kind == "SRV":
        return tuple(Srv(r.priority, r.weight, r.port, _name(r.target)) for r in answer)
    return tuple(str(r.address) for r in answer)


def _ttl(answer: Any) -> float:
    """The shortest of the chain: an alias may hold for less long than what it leads to."""
    return float(min(found.ttl for found in answer.response.answer))


def _negative_ttl(response: Any) -> float:
    """RFC 2308 section 5: the lesser of the SOA's own TTL and its minimum field."""
    for found in response.authority:
        if found.rdtype == dns.rdatatype.SOA:
            return float(min(found.ttl, found[0].minimum))
    return NEGATIVE_TTL_S


def _name(name: Any) -> str:
    """Without the final dot, which stays where it is the whole name."""
    text: str = name.to_text(omit_final_dot=True)
    return text if text != "@" else "."

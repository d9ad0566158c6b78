"""Where to send a request (RFC 3263): NAPTR, SRV and address records put in order; no socket.

The steps are a generator: it yields the questions of one round, which may be asked side by side,
and is sent their answers. What was not found is an empty answer. Every target that comes out is
to be tried before the request fails, in that order.
"""

import ipaddress
import random
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bridge.errors import BridgeError
from bridge.sip.uri import DEFAULT_PORT, SipUri

MAX_TARGETS = 16

SERVICES = {
    "SIPS+D2T": "tls",
    "SIP+D2T": "tcp",
    "SIP+D2U": "udp",
    "SIPS+D2W": "wss",
    "SIP+D2W": "ws",
}
_SRV_PREFIX = {"tls": "_sips._tcp", "tcp": "_sip._tcp", "udp": "_sip._udp"}
# Without NAPTR records the choice is ours; TLS is for those who ask for it.
_PREFERRED = ("udp", "tcp", "tls")
_FAMILIES: Mapping[int, Literal["A", "AAAA"]] = {4: "A", 6: "AAAA"}


class ResolveError(BridgeError):
    """No server for a name; `temporary` when the name servers did not say so themselves."""

    http_status = 502
    sip_status = 503
    code: str | None = "destination_unreachable"

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


@dataclass(frozen=True, slots=True)
class Naptr:
    order: int
    preference: int
    flags: str
    service: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Srv:
    priority: int
    weight: int
    port: int
    target: str


Record = Naptr | Srv | str
"""An address record is its address."""


@dataclass(frozen=True, slots=True)
class Question:
    name: str
    kind: Literal["NAPTR", "SRV", "A", "AAAA"]


@dataclass(frozen=True, slots=True)
class Target:
    transport: str
    address: tuple[str, int]
    server_name: str
    """What a TLS certificate must show: the name in the URI, not what SRV made of it."""


Answers = Sequence[Sequence[Record]]
Steps = Generator[Sequence[Question], Answers, list[Target]]


def resolve(
    uri: SipUri,
    *,
    transports: Collection[str],
    families: Sequence[int] = (4,),
    rng: random.Random,
) -> Steps:
    """Targets for a Route or Request-URI. Raises ResolveError when there can be none.

    `transports` are those we can open; `families` (4, 6) are tried in their order.
    """
    if not uri.is_sip:
        raise ResolveError(f"a {uri.scheme} URI names no server")
    usable = [name for name in _PREFERRED if name in transports and _suits(uri, name)]
    asked = uri.transport if "transport" in uri.params else None
    if asked is not None and asked not in usable:
        raise ResolveError(f"no {asked} from here")
    if not usable:
        raise ResolveError(f"nothing from here suits a {uri.scheme} URI")
    host = (uri.params.get("maddr") or uri.host).lower()
    finder = _Finder(uri.host.lower(), families, rng)
    if _is_address(host) or uri.port is not None:
        transport = asked or ("tls" if uri.scheme == "sips" else "udp")
        if transport not in usable:
            raise ResolveError(f"no {transport} from here")
        port = uri.port or DEFAULT_PORT[transport]
        return (yield from finder.hosts([(transport, host, port)]))
    services = [asked] if asked else usable
    found = yield from _services(host, services, rng, by_naptr=asked is None)
    if not found:
        first = "tls" if uri.scheme == "sips" else services[0]
        found = [(first, host, DEFAULT_PORT[first])]
    return (yield from finder.hosts(found))


Hosts = list[tuple[str, str, int]]
"""Transport, name or address, port."""


def _services(
    host: str, transports: Sequence[str], rng: random.Random, *, by_naptr: bool
) -> Generator[Sequence[Question], Answers, Hosts]:
    """By NAPTR records when there are any, else by the SRV names of our transports."""
    names = [(name, f"{_SRV_PREFIX[name]}.{host}") for name in transports]
    if by_naptr:
        (records,) = yield [Question(host, "NAPTR")]
        chosen = _by_naptr([r for r in records if isinstance(r, Naptr)], transports)
        names = chosen or [(name, srv) for name, srv in names if name != "tls"] or names
    answers = yield [Question(srv, "SRV") for _, srv in names]
    found: Hosts = []
    for (transport, _), records in zip(names, answers, strict=True):
        servers = [record for record in records if isinstance(record, Srv)]
        if [server.target for server in servers] == ["."]:
            # "The service is decidedly not available at this domain" (RFC 2782).
            continue
        found += [(transport, server.target, server.port) for server in in_order(servers, rng)]
    return found


def _by_naptr(records: Sequence[Naptr], transports: Sequence[str]) -> list[tuple[str, str]]:
    ordered = sorted(records, key=lambda record: (record.order, record.preference))
    return [
        (SERVICES[record.service.upper()], record.replacement)
        for record in ordered
        if record.flags.lower() == "s" and SERVICES.get(record.service.upper()) in transports
    ]


def in_order(servers: Sequence[Srv], rng: random.Random) -> list[Srv]:
    """By priority, and among equals at random by weight (RFC 2782)."""
    ordered: list[Srv] = []
    for priority in sorted({server.priority for server in servers}):
        # Those of weight 0 come first, so that they are chosen now and then.
        equals = sorted((s for s in servers if s.priority == priority), key=lambda s: s.weight > 0)
        while equals:
            mark = rng.randint(0, sum(server.weight for server in equals))
            for server in equals:
                mark -= server.weight
                if mark <= 0:
                    break
            else:
                server = equals[-1]
            equals.remove(server)
            ordered.append(server)
    return ordered


class _Finder:
    """Turns names into addresses."""

    def __init__(self, server_name: str, families: Sequence[int], rng: random.Random) -> None:
        self._server_name = "" if _is_address(server_name) else server_name
        self._families = families
        self._rng = rng

    def hosts(self, hosts: Hosts) -> Steps:
        hosts = hosts[:MAX_TARGETS]
        names = {host for _, host, _ in hosts if not _is_address(host)}
        questions = [
            Question(name, _FAMILIES[family]) for name in sorted(names) for family in self._families
        ]
        answers = (yield questions) if questions else ()
        addresses: dict[str, list[str]] = {}
        for question, records in zip(questions, answers, strict=True):
            found = [record for record in records if isinstance(record, str)]
            # Name servers take turns by shuffling; a cache would stop that.
            self._rng.shuffle(found)
            addresses.setdefault(question.name, []).extend(found)
        targets = [
            Target(transport, (address, port), self._server_name)
            for transport, host, port in hosts
            for address in addresses.get(host, [host] if _is_address(host) else [])
        ]
        if not targets:
            raise ResolveError(f"no server found for {hosts[0][1]}")
        return list(dict.fromkeys(targets))[:MAX_TARGETS]


def _suits(uri: SipUri, transport: str) -> bool:
    return uri.scheme != "sips" or transport == "tls"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

"""The table of SIP providers: whose request this is and why, what may be called through whom.

`Match.reasons` spells out every comparison, for the one log line an operator reads after a
refused call.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from bridge.errors import ConfigError, OverloadedError, RequestError, SipError
from bridge.sip.auth import Credentials
from bridge.sip.digest_gate import ALGORITHMS
from bridge.sip.message import Request
from bridge.sip.private import is_private_host, parse_address
from bridge.sip.uri import SipUri

Srtp = Literal["off", "optional", "required", "dtls"]
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_TARGET = 256
REMEMBERED = 1024  # addresses

_LEADING_AWAY = {"maddr", "ttl", "method", "lr"}
_CONTROL = {"\r": "a line break", "\n": "a line break", "\0": "a NUL"}
_SEPARATORS = re.compile(r"[-.()]")
_NUMBER = re.compile(r"\+?[0-9*#]{1,32}")
_NAME = re.compile(r"[A-Za-z0-9+*#._\-]{1,64}")
_USER = re.compile(r"[A-Za-z0-9\-_.!~*'()&=+$,/%]{1,64}")
_HEADER = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]{1,64}")
# What the SIP stack writes itself: letting a caller of the API set these would forge the call.
_WRITTEN_BY_US = """
    via from to call-id cseq contact max-forwards route record-route content-length content-type
    authorization proxy-authorization require supported v f t i m l c k
"""
_OWN_HEADERS = frozenset(_WRITTEN_BY_US.split())


@dataclass(frozen=True, slots=True)
class Trunk:
    name: str
    addresses: tuple[str, ...] = ()
    """Networks that calls of this trunk come from: `54.172.60.0/23`; a lone address is one too."""
    uri: str = ""
    """Where calls go out and registrations are sent: `sip:pstn.example.com;transport=tls`."""
    transport: str = "udp"
    credentials: Credentials | None = None
    register: bool = False
    codecs: tuple[str, ...] = ()
    """In the order we prefer; empty takes the service's."""
    srtp: Srtp = "off"
    late_offer: bool = False
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Names and passwords; with any, callers of this trunk must prove to be one of them."""
    realm: str = ""
    """Shown to callers that are challenged; the trunk's name unless given."""
    algorithms: tuple[str, ...] = ALGORITHMS
    header_in: tuple[str, ...] = ("*",)
    """Extras passed on from this trunk's calls; `X-*` stands for all that begin so."""
    header_out: Mapping[str, str] = field(default_factory=dict)
    caller_ids: tuple[str, ...] = ()
    """Numbers we may show; the first one unless the call asks for another."""
    prefixes: tuple[str, ...] = ()
    """Beginnings of numbers that may be called, `*` for any; none by default."""
    private_hosts: bool = False
    """Whether sip: destinations inside private networks may be called."""
    backups: tuple[str, ...] = ()
    """URIs of the same provider, tried in turn when those before cannot take a call."""
    failover_s: float = 4.0
    """Without any answer, before the next of them is tried."""
    redirects: Literal["never", "trunk", "any"] = "never"
    """Which 3xx are followed: to hosts of the trunk, or to whatever `prefixes` allow."""
    max_redirects: int = 3
    max_calls: int = 0
    """At once; 0 sets no limit."""
    max_cps: float = 0.0
    """New calls a second, with bursts of as many; 0 sets no limit."""


@dataclass(frozen=True, slots=True)
class Match:
    trunk: Trunk | None
    reasons: tuple[str, ...]
    """One comparison each, in order: `compared 203.0.113.9 with twilio 54.172.60.0/23: no`."""

    def __str__(self) -> str:
        return "; ".join(self.reasons) or "no trunk has addresses"


@dataclass(slots=True)
class _Load:
    calls: int = 0
    tokens: float = 0.0
    filled_at: float | None = None


class Trunks:
    """Raises ConfigError for a table that cannot be meant."""

    def __init__(self, trunks: Iterable[Trunk] = ()) -> None:
        self._trunks: dict[str, Trunk] = {}
        self._networks: dict[str, tuple[IpNetwork, ...]] = {}
        for trunk in trunks:
            if trunk.name in self._trunks:
                raise ConfigError(f"two trunks are called {trunk.name}", param="sip.trunks")
            self._trunks[trunk.name] = trunk
            self._networks[trunk.name] = tuple(_network(trunk, text) for text in trunk.addresses)
            _check(trunk)
        self._compared: dict[str, tuple[list[tuple[int, Trunk]], tuple[str, ...]]] = {}
        """Of late, by the address: three questions about each call, and the same few callers."""
        self._loads = {name: _Load() for name in self._trunks}

    def __iter__(self) -> Iterator[Trunk]:
        return iter(self._trunks.values())

    def __len__(self) -> int:
        return len(self._trunks)

    def get(self, name: str) -> Trunk | None:
        return self._trunks.get(name)

    def match(self, source: str, request: Request | None = None) -> Match:
        """The trunk `source` belongs to; the request decides when several trunks share it.

        Among those the one whose credentials' user or host the Request-URI names comes first,
        then the one with the narrowest network.
        """
        compared = self._compared.get(source)
        if compared is None:
            if len(self._compared) >= REMEMBERED:
                self._compared.clear()
            compared = self._compared[source] = self._compare(source)
        return _best(*compared, request)

    def _compare(self, source: str) -> tuple[list[tuple[int, Trunk]], tuple[str, ...]]:
        """The trunks that `source` belongs to, by the length of their prefix, and why."""
        try:
            address = parse_address(source)
        except ValueError:
            return [], (f"{source!r} is not an IP address",)
        reasons: list[str] = []
        found: list[tuple[int, Trunk]] = []
        for trunk in self._trunks.values():
            for network in self._networks[trunk.name]:
                inside = address.version == network.version and address in network
                verdict = "yes" if inside else "no"
                reasons.append(f"compared {address} with {trunk.name} {network}: {verdict}")
                if inside:
                    found.append((network.prefixlen, trunk))
        return found, tuple(reasons)

    def admit(self, trunk: Trunk, now: float) -> None:
        """Count a new call in either direction. Raises OverloadedError past the trunk's caps."""
        load = self._loads[trunk.name]
        if trunk.max_calls and load.calls >= trunk.max_calls:
            raise OverloadedError(
                f"trunk {trunk.name} carries its {trunk.max_calls} calls", code="trunk_calls"
            )
        if trunk.max_cps:
            burst = max(1.0, trunk.max_cps)
            since = 0.0 if load.filled_at is None else now - load.filled_at
            full = burst if load.filled_at is None else load.tokens + since * trunk.max_cps
            load.tokens, load.filled_at = min(burst, full), now
            if load.tokens < 1.0:
                raise OverloadedError(
                    f"trunk {trunk.name} has had its {trunk.max_cps:g} calls a second",
                    code="trunk_cps",
                )
            load.tokens -= 1.0
        load.calls += 1

    def release(self, trunk: Trunk) -> None:
        """A call that was admitted is over."""
        load = self._loads[trunk.name]
        load.calls = max(0, load.calls - 1)

    def calls(self, trunk: Trunk) -> int:
        return self._loads[trunk.name].calls


def destination_allowed(trunk: Trunk, number: str) -> bool:
    """Whether the policy lets a number, or the name of an extension, be called.

    Separators in numbers do not count; what is neither number nor name may not be called.
    """
    digits = _SEPARATORS.sub("", number)
    called = digits if _NUMBER.fullmatch(digits) else number
    if not _NAME.fullmatch(called):
        return False
    return any(prefix == "*" or called.startswith(prefix) for prefix in trunk.prefixes)


def check_number(trunk: Trunk, number: str, param: str) -> None:
    """Raises RequestError naming `param`. Whatever is called or transferred to passes here."""
    if not destination_allowed(trunk, number):
        raise RequestError(
            f"{param} is not among the prefixes that trunk {trunk.name} may call",
            code="destination_not_allowed",
            param=param,
        )


def check_target(
    trunk: Trunk, target: str, *, param: str = "destination", by_peer: bool = False
) -> SipUri:
    """The URI to call for a `tel:` or `sip:` target. Raises RequestError that names `param`.

    A peer may use parameters of its own (`by_peer`), but none that would lead elsewhere.

    Whatever the host, the user part comes under the trunk's number policy; hosts other than the
    trunk's own must be public unless `private_hosts`. Names are judged as written: who resolves
    one has to ask `is_private_host` about its addresses as well.
    """
    uri = parse_target(target, param=param)
    home = SipUri.parse(trunk.uri) if trunk.uri else None
    if uri.scheme == "tel":
        return _tel(trunk, uri, home, param)
    if not uri.is_sip:
        raise RequestError(f"{param} must begin with tel:, sip: or sips:", param=param)
    if "?" in target or uri.password is not None:
        raise RequestError(f"{param} may hold neither headers nor a password", param=param)
    if uri.user and not _USER.fullmatch(uri.user):
        raise RequestError(f"{param} has a user part that cannot be called", param=param)
    names = {name.lower() for name, _ in uri.params}
    if names & _LEADING_AWAY or not (by_peer or names <= {"transport", "user"}):
        raise RequestError(f"{param} may have no parameters but transport and user", param=param)
    check_number(trunk, uri.username, param)
    at_home = home is not None and uri.host.lower() == home.host.lower()
    if not at_home and not trunk.private_hosts and is_private_host(uri.host):
        raise RequestError(f"{param} is inside a private network", param=param)
    return uri


def is_home(trunk: Trunk, target: SipUri) -> bool:
    """Whether a host is the trunk's own: one that it is called at, or an address it calls from."""
    homes = {SipUri.parse(uri).host.lower() for uri in (trunk.uri, *trunk.backups) if uri}
    networks = (_network(trunk, text) for text in trunk.addresses)
    return target.host.lower() in homes or any(is_inside(target.host, each) for each in networks)


def backups(trunk: Trunk, target: SipUri) -> tuple[SipUri, ...]:
    """The same number elsewhere; who is called at a host of its own has no other."""
    if not is_home(trunk, target):
        return ()
    homes = (SipUri.parse(uri) for uri in trunk.backups)
    return tuple(
        SipUri(home.scheme, target.user, home.host, home.port, home.params) for home in homes
    )


def parse_target(target: str, *, param: str) -> SipUri:
    """Raises RequestError."""
    refuse_control(target, param)
    if len(target) > MAX_TARGET:
        raise RequestError(f"{param} is too long", param=param)
    try:
        return SipUri.parse(target)
    except SipError as error:
        raise RequestError(f"{param} is not a tel: or sip: URI", param=param) from error


def check_headers(headers: Mapping[str, str], *, param: str = "headers") -> None:
    """Raises RequestError naming the header that may not be sent."""
    for name, value in headers.items():
        field_name = f"{param}.{name}" if _HEADER.fullmatch(name) else param
        if not _HEADER.fullmatch(name):
            raise RequestError(f"{param} has a name that is no header's", param=param)
        if name.lower() in _OWN_HEADERS:
            raise RequestError(f"{field_name} is written by the server", param=field_name)
        refuse_control(value, field_name)


def refuse_control(text: str, param: str) -> None:
    """Raises RequestError when `text` could break out of its line."""
    for character, words in _CONTROL.items():
        if character in text:
            raise RequestError(f"{param} contains {words}", param=param)


def is_inside(address: str, network: IpNetwork) -> bool:
    """False for what is no address."""
    try:
        found = parse_address(address)
    except ValueError:
        return False
    return found.version == network.version and found in network


def _best(
    found: list[tuple[int, Trunk]], compared: tuple[str, ...], request: Request | None
) -> Match:
    if not found:
        return Match(None, compared)
    if all(trunk is found[0][1] for _, trunk in found):
        return Match(found[0][1], compared)
    reasons = [*compared]
    try:
        asked = None if request is None else request.request_uri
    except SipError:
        asked = None
    ranked: list[tuple[bool, int, Trunk]] = []
    for length, trunk in found:
        named = asked is not None and _named(trunk, asked)
        if asked is not None:
            verdict = "yes" if named else "no"
            reasons.append(f"compared the Request-URI with {trunk.name}: {verdict}")
        ranked.append((named, length, trunk))
    chosen = max(ranked, key=lambda entry: entry[:2])[2]
    reasons.append(f"took {chosen.name}")
    return Match(chosen, tuple(reasons))


def _named(trunk: Trunk, asked: SipUri) -> bool:
    if trunk.credentials is not None and asked.username == trunk.credentials.username:
        return True
    return asked.username in trunk.caller_ids and bool(asked.username)


def _tel(trunk: Trunk, uri: SipUri, home: SipUri | None, param: str) -> SipUri:
    if uri.params:
        raise RequestError(f"{param} may have no parameters after its number", param=param)
    check_number(trunk, uri.user, param)
    if home is None:
        raise RequestError(f"trunk {trunk.name} has no uri to send calls to", param=param)
    number = _SEPARATORS.sub("", uri.user)
    return SipUri(home.scheme, number, home.host, home.port, home.params)


def _check(trunk: Trunk) -> None:
    where = f"sip.trunks.{trunk.name}"
    if trunk.uri:
        _check_home(trunk.uri, f"{where}.uri")
    for uri in trunk.backups:
        _check_home(uri, f"{where}.backups")
    if trunk.backups and not trunk.uri:
        raise ConfigError("backups need a uri before them", param=f"{where}.backups")
    if trunk.register and not (trunk.uri and trunk.credentials):
        raise ConfigError("register needs uri and credentials", param=f"{where}.register")
    if trunk.max_calls < 0 or trunk.max_cps < 0:
        raise ConfigError("caps cannot be negative", param=f"{where}.max_calls")
    for prefix in trunk.prefixes:
        if not _NAME.fullmatch(prefix):
            raise ConfigError(f"{prefix!r} is no prefix: write +49 or *", param=f"{where}.prefixes")
    try:
        check_headers(trunk.header_out, param=f"{where}.header_out")
        for number in trunk.caller_ids:
            refuse_control(number, f"{where}.caller_ids")
    except RequestError as error:
        raise ConfigError(error.message, param=error.param) from error


def _check_home(text: str, param: str) -> None:
    try:
        home = SipUri.parse(text)
    except SipError as error:
        raise ConfigError(f"{text!r} is not a SIP URI", param=param) from error
    if not home.is_sip or home.headers or not home.host:
        raise ConfigError(f"{text!r} is not a SIP URI", param=param)


def _network(trunk: Trunk, text: str) -> IpNetwork:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no network: write 192.0.2.0/24 or 192.0.2.7",
            param=f"sip.trunks.{trunk.name}.addresses",
        ) from error

"""Who may call, and who may be called: sources, trunks and destinations."""

import ipaddress
import logging
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.calls.extensions import Extensions
from bridge.calls.trunks import (
    Match,
    Trunk,
    Trunks,
    check_headers,
    check_target,
    destination_allowed,
    is_inside,
    parse_target,
    refuse_control,
)
from bridge.errors import RequestError
from bridge.legs.sip import DialOrder
from bridge.legs.sip_leg import LegTerms
from bridge.sip.digest_gate import DigestGate
from bridge.sip.events import Flow
from bridge.sip.message import Rejection, Request
from bridge.sip.registrar import Registrar

log = logging.getLogger(__name__)

MAX_RING_S = 600
_CALLER = re.compile(r"[A-Za-z0-9+_.\-]{1,64}")
WRONG_PASSWORD = {
    "status": 401,
    "why": "the password is not the one of that user",
    "change": "sip.trunks.<name>.digest.users, or what the caller is configured with",
}
DROPPED_EVERY_S = 10.0  # scanners knock all day: one line in that time says enough


class SourcePolicy:
    """Sources outside `trusted` are met with silence unless `admits_unknown`."""

    def __init__(self, trusted: Iterable[str], *, admits_unknown: bool) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in trusted)
        self.admits_unknown = admits_unknown

    def admits(self, address: str) -> bool:
        return self.admits_unknown or self.trusts(address)

    def trusts(self, address: str) -> bool:
        return any(is_inside(address, network) for network in self._networks)


@dataclass(frozen=True, slots=True)
class Dial:
    """A call that somebody asks for. `caller` is a number of the trunk, its first by default; a
    `ring_timeout_s` of 0 leaves it to the service. No `trunk`: to a phone that is registered."""

    trunk: str
    destination: str
    caller: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    ring_timeout_s: float = 0.0


class CallPolicy:
    """`now` is monotonic; `insecure_keys` allows SRTP keys over signalling that is not TLS."""

    def __init__(
        self,
        sources: SourcePolicy,
        trunks: Trunks,
        *,
        now: Callable[[], float],
        insecure_keys: bool = False,
        rng: random.Random | None = None,
        extensions: Extensions | None = None,
    ) -> None:
        self._sources = sources
        self._trunks = trunks
        self._now = now
        self._insecure_keys = insecure_keys
        self.extensions = extensions
        self._gates = {
            trunk.name: DigestGate(
                trunk.realm or trunk.name,
                trunk.users.get,
                rng or random.SystemRandom(),
                algorithms=trunk.algorithms,
            )
            for trunk in trunks
            if trunk.users
        }
        self._told_at: float | None = None
        self._dropped = 0

    @property
    def registrar(self) -> Registrar | None:
        return None if self.extensions is None else self.extensions.registrar

    def admits(self, address: str) -> bool:
        match = self._trunks.match(address)
        gate = self._gate(match, address)
        if gate is not None and gate.blocked(address, self._now()):
            return False
        if match.trunk is not None or gate is not None or self._sources.admits(address):
            return True
        self._dropped += 1
        now = self._now()
        if self._told_at is None or now - self._told_at >= DROPPED_EVERY_S:
            log.warning(
                "dropped in silence: no trunk's address",
                extra={
                    "from": address,
                    "why": str(match),
                    "change": "sip.trunks.<name>.addresses or sip.trusted_sources",
                    "dropped": self._dropped,
                },
            )
            self._told_at, self._dropped = now, 0
        return False

    def authenticate(self, request: Request, flow: Flow, now: float) -> Rejection | None:
        """What to answer an INVITE whose caller has not proven who it is."""
        gate = self._gate(self._trunks.match(flow.remote[0], request), flow.remote[0])
        if gate is None:
            return None
        failed = gate.stats.failed
        rejection = gate.check(request, flow.remote[0], now)
        if gate.stats.failed > failed:
            log.warning("INVITE refused", extra={"from": flow.remote[0]} | WRONG_PASSWORD)
        return rejection

    def _gate(self, match: Match, address: str) -> DigestGate | None:
        """That callers from there must pass."""
        if match.trunk is not None:
            return self._gates.get(match.trunk.name)
        phones = self.extensions
        if phones is None or self._sources.trusts(address) or not phones.cover(address):
            return None
        return phones.gate

    def terms(self, request: Request, flow: Flow, now: float) -> LegTerms:
        """Raises OverloadedError past the caps of the trunk."""
        match = self._trunks.match(flow.remote[0], request)
        if match.trunk is None:
            return LegTerms(srtp="optional", allow_insecure_keys=self._insecure_keys)
        self._trunks.admit(match.trunk, now)
        return self._terms(match.trunk)

    def _terms(self, trunk: Trunk) -> LegTerms:
        return LegTerms(
            trunk=trunk.name,
            codecs=trunk.codecs,
            srtp=trunk.srtp,
            allow_insecure_keys=self._insecure_keys,
            trusted=True,
            header_in=trunk.header_in,
        )

    def released(self, terms: LegTerms) -> None:
        trunk = self._trunks.get(terms.trunk)
        if trunk is not None:
            self._trunks.release(trunk)

    def order(self, dial: Dial) -> DialOrder:
        """Raises RequestError with `param`, or OverloadedError past the caps of the trunk."""
        trunk = self._trunks.get(dial.trunk)
        if not dial.trunk:
            return self._to_extension(dial)
        if trunk is None:
            known = ", ".join(sorted(each.name for each in self._trunks)) or "none is configured"
            raise RequestError(
                f"There is no trunk '{dial.trunk}' ({known}).", param="transport.trunk"
            )
        refuse_control(dial.caller, "transport.caller")
        check_headers(dial.headers, param="transport.headers")
        # A bare number is one, as in OpenAI's own SIP transport.
        bare = dial.destination[:1] == "+"
        destination = f"tel:{dial.destination}" if bare else dial.destination
        target = check_target(trunk, destination, param="transport.destination")
        caller = dial.caller or next(iter(trunk.caller_ids), "")
        if dial.caller and dial.caller not in trunk.caller_ids:
            raise RequestError(
                f"trunk {trunk.name} may not show the number given; see its caller_ids",
                code="caller_not_allowed",
                param="transport.caller",
            )
        self._trunks.admit(trunk, self._now())
        return DialOrder(
            target=target,
            caller=caller,
            terms=self._terms(trunk),
            headers=tuple({**trunk.header_out, **dial.headers}.items()),
            credentials=trunk.credentials,
        )

    def _to_extension(self, dial: Dial) -> DialOrder:
        refuse_control(dial.caller, "transport.caller")
        refuse_control(dial.destination, "transport.destination")
        check_headers(dial.headers, param="transport.headers")
        target = parse_target(dial.destination, param="transport.destination")
        if self.extensions is None or not self.extensions.own(target):
            raise RequestError(
                "transport.trunk is needed: the destination is no phone of ours",
                code="missing_required_parameter",
                param="transport.trunk",
            )
        if dial.caller and not _CALLER.fullmatch(dial.caller):
            raise RequestError("transport.caller is no user part", param="transport.caller")
        return DialOrder(
            target=target,
            caller=dial.caller,
            terms=LegTerms(srtp="optional", allow_insecure_keys=self._insecure_keys),
            headers=tuple(dial.headers.items()),
            registered=True,
        )

    def transfer_target(self, terms: LegTerms, target: str) -> str:
        """What may stand in Refer-To. Raises RequestError naming `target_uri`.

        Calls of no trunk have no prefixes: they may go anywhere in development, and else nowhere.
        """
        open_to = ("*",) if self._sources.admits_unknown else ()
        no_trunk = Trunk("", prefixes=open_to, private_hosts=self._sources.admits_unknown)
        trunk = self._trunks.get(terms.trunk) or no_trunk
        refuse_control(target, "target_uri")
        if not target.strip():
            raise RequestError("target_uri is blank", param="target_uri")
        if target.lower().startswith("tel:"):
            if not destination_allowed(trunk, target[4:]):
                raise RequestError(
                    f"target_uri is not among the prefixes that trunk {trunk.name} may call",
                    code="destination_not_allowed",
                    param="target_uri",
                )
        else:
            check_target(trunk, target, param="target_uri")
        return target

    def transfer_order(
        self, terms: LegTerms, target: str, replaces: str, referred_by: str
    ) -> DialOrder:
        """The call that somebody on these terms asks us to make in its place.

        Raises RequestError, or OverloadedError past the caps of the trunk.
        """
        trunk = self._trunks.get(terms.trunk)
        if trunk is None:
            raise RequestError("callers of no trunk may not transfer us")
        uri = check_target(trunk, target, param="Refer-To", by_peer=True)
        self._trunks.admit(trunk, self._now())
        return DialOrder(
            target=uri,
            caller=next(iter(trunk.caller_ids), ""),
            terms=self._terms(trunk),
            headers=(
                *trunk.header_out.items(),
                *((("Referred-By", referred_by),) if referred_by else ()),
            ),
            credentials=trunk.credentials,
            replaces=replaces,
        )


def read_dial(transport: Mapping[str, Any]) -> Dial:
    """The `transport` object of a call to make. Raises RequestError with the dotted param."""
    known = {"type", "trunk", "destination", "caller", "headers", "ring_timeout_s", "dtmf"}
    for name in transport:
        if name not in known:
            param = f"transport.{name}"
            raise RequestError(
                f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param
            )
    if transport.get("type") != "sip":
        raise RequestError("transport.type must be 'sip'", param="transport.type")
    if not isinstance(transport.get("destination"), str):
        raise RequestError(
            "Missing required parameter: 'transport.destination'.",
            code="missing_required_parameter",
            param="transport.destination",
        )
    trunk = transport.get("trunk") or ""
    if not isinstance(trunk, str):
        raise RequestError("transport.trunk must be text", param="transport.trunk")
    headers = transport.get("headers") or {}
    caller = transport.get("caller") or ""
    if not isinstance(headers, Mapping) or not all(isinstance(v, str) for v in headers.values()):
        raise RequestError("transport.headers must map names to text", param="transport.headers")
    if not isinstance(caller, str):
        raise RequestError("transport.caller must be text", param="transport.caller")
    return Dial(
        trunk,
        transport["destination"],
        caller,
        dict(headers),
        _ring_timeout(transport.get("ring_timeout_s")),
    )


def _ring_timeout(value: object) -> float:
    if value is None:
        return 0.0
    if isinstance(value, int | float) and value is not True and 1 <= value <= MAX_RING_S:
        return float(value)
    raise RequestError(
        f"transport.ring_timeout_s must be a number from 1 to {MAX_RING_S}",
        param="transport.ring_timeout_s",
    )

"""Who may call, and who may be called: sources, trunks and destinations."""

import logging
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from bridge.calls.extensions import Extensions
from bridge.calls.sources import SourcePolicy, Strangers
from bridge.calls.trunks import (
    IpNetwork,
    Trunk,
    Trunks,
    backups,
    check_headers,
    check_number,
    check_target,
    is_home,
    is_inside,
    parse_target,
    refuse_control,
)
from bridge.errors import RequestError
from bridge.legs.exits import DialOrder, Goal
from bridge.legs.refusals import BY_STATUS, Caller, Refusal
from bridge.legs.sip_leg import LegTerms
from bridge.sip.digest_gate import DigestGate
from bridge.sip.events import Flow
from bridge.sip.message import Rejection, Request
from bridge.sip.registrar import Registrar
from bridge.sip.uri import SipUri

__all__ = ["DROPPED", "CallPolicy", "Dial", "SourcePolicy", "Standing", "read_dial"]

log = logging.getLogger(__name__)

DROPPED = "sip.trunks.<name>.addresses, sip.trusted_sources or sip.registrar.addresses"
MAX_RING_S = 600
_UNKNOWN = "sip.unknown_sources"
_CALLER = re.compile(r"[A-Za-z0-9+_.\-]{1,64}")


@dataclass(frozen=True, slots=True)
class Standing:
    """What the settings make of somebody who calls; `gate` is what must be passed first."""

    trunk: Trunk | None
    gate: DigestGate | None
    caller: Caller


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
    """`now` is monotonic; `insecure_keys` allows SRTP keys over signalling that is not TLS.
    `any_nonce` is for captured requests, as in DigestGate."""

    def __init__(
        self,
        sources: SourcePolicy,
        trunks: Trunks,
        *,
        now: Callable[[], float],
        insecure_keys: bool = False,
        rng: random.Random | None = None,
        extensions: Extensions | None = None,
        any_nonce: bool = False,
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
                any_nonce=any_nonce,
            )
            for trunk in trunks
            if trunk.users
        }
        self._strangers = Strangers()

    @property
    def registrar(self) -> Registrar | None:
        return None if self.extensions is None else self.extensions.registrar

    def standing(self, address: str, request: Request | None = None) -> Standing:
        """Every decision about a caller is made by this, and so is the account of it."""
        match = self._trunks.match(address, request)
        compared = [*match.reasons] if len(self._trunks) else []
        if (trunk := match.trunk) is not None:
            caller = Caller(f"sip.trunks.{trunk.name}", tuple(compared))
            return Standing(trunk, self._gates.get(trunk.name), caller)
        gate, setting = None, ""
        if self._is_among(address, "sip.trusted_sources", self._sources.trusted, compared):
            setting = "sip.trusted_sources"
        elif (phones := self.extensions) is not None and self._is_among(
            address, "sip.registrar.addresses", phones.networks, compared
        ):
            gate, setting = phones.gate, "sip.registrar"
        else:
            compared.append(f"{_UNKNOWN} may call: {_yes(self._sources.admits_unknown)}")
            setting = _UNKNOWN if self._sources.admits_unknown else ""
        return Standing(None, gate, Caller(setting, tuple(compared)))

    def _is_among(
        self, address: str, setting: str, networks: Sequence[IpNetwork], compared: list[str]
    ) -> bool:
        found = any(is_inside(address, network) for network in networks)
        if networks:
            names = ", ".join(map(str, networks))
            compared.append(f"compared {address} with {setting} {names}: {_yes(found)}")
        return found

    def caller(self, request: Request, flow: Flow) -> Caller:
        return self.standing(flow.remote[0], request).caller

    def admits(self, address: str) -> bool:
        standing, now = self.standing(address), self._now()
        if standing.gate is not None and standing.gate.blocked(address, now):
            self._drop(address, now, "shut out for wrong passwords", standing.caller)
            return False
        if not standing.caller.is_known:
            self._drop(address, now, "an address of nobody's", standing.caller)
        return standing.caller.is_known

    def trusts(self, address: str) -> bool:
        """Named in the settings: it may speak in a call that came from another host."""
        return self.standing(address).caller.setting not in ("", _UNKNOWN)

    def _drop(self, address: str, now: float, why: str, caller: Caller) -> None:
        if dropped := self._strangers.dropped(address, now):
            change = DROPPED if not caller.is_known else BY_STATUS[403]
            found = Refusal(0, why, change, caller, address)
            log.warning("dropped in silence", extra=found.fields | {"dropped": dropped})

    def authenticate(self, request: Request, flow: Flow, now: float) -> Rejection | None:
        """What to answer an INVITE whose caller has not proven who it is."""
        gate = self.standing(flow.remote[0], request).gate
        return None if gate is None else gate.check(request, flow.remote[0], now)

    def terms(self, request: Request, flow: Flow, now: float) -> LegTerms:
        """Raises OverloadedError past the caps of the trunk."""
        trunk = self.standing(flow.remote[0], request).trunk
        if trunk is None:
            return LegTerms(srtp="optional", allow_insecure_keys=self._insecure_keys)
        self._trunks.admit(trunk, now)
        return self._terms(trunk)

    def _terms(self, trunk: Trunk) -> LegTerms:
        return LegTerms(
            trunk=trunk.name,
            codecs=trunk.codecs,
            srtp=trunk.srtp,
            late_offer=trunk.late_offer,
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
            **_beyond(trunk, target),
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
            check_number(trunk, target[4:], "target_uri")
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
            **_beyond(trunk, uri),
        )

    def redirected(self, terms: LegTerms, target: str) -> Goal:
        """Raises RequestError when the trunk does not follow there, or may not call it."""
        trunk = self._trunks.get(terms.trunk)
        if trunk is None or trunk.redirects == "never":
            raise RequestError(f"sip.trunks.{terms.trunk or '<name>'}.redirects is never")
        uri = check_target(trunk, target, param="Contact", by_peer=True)
        own = is_home(trunk, uri)
        if not own and trunk.redirects == "trunk":
            raise RequestError(f"{uri.host} is no host of trunk {trunk.name}")
        return Goal(uri, own=own, public_only=not (own or trunk.private_hosts))


class _Beyond(TypedDict):
    own: bool
    public_only: bool
    backups: tuple[SipUri, ...]
    failover_s: float
    max_redirects: int


def _beyond(trunk: Trunk, target: SipUri) -> _Beyond:
    """What else may be tried than the target, and what its name may lead to."""
    at_home = is_home(trunk, target)
    return {
        "own": at_home or not trunk.uri,
        "public_only": not (at_home or trunk.private_hosts),
        "backups": backups(trunk, target),
        "failover_s": trunk.failover_s,
        "max_redirects": trunk.max_redirects,
    }


def _yes(found: object) -> str:
    return "yes" if found else "no"


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

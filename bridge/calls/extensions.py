"""Phones that register with us: their names and passwords, and where they may be."""

import ipaddress
import random
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.config import Sip
from bridge.sip.digest_gate import ALGORITHMS, DigestGate
from bridge.sip.registrar import Registrar, RegistrarLimits
from bridge.sip.uri import SipUri


@dataclass(frozen=True, slots=True)
class ExtensionSettings:
    users: Mapping[str, str]
    """Names and passwords."""
    domains: tuple[str, ...]
    """What stands after the @ of their addresses; the first is the realm."""
    addresses: tuple[str, ...] = ()
    """Networks that they call from; what else may call does so without registering."""
    algorithms: tuple[str, ...] = ALGORITHMS
    min_expires_s: int = 60
    max_expires_s: int = 3600


class Extensions:
    def __init__(
        self, settings: ExtensionSettings, rng: random.Random, *, any_nonce: bool = False
    ) -> None:
        """`any_nonce` is for captured requests, as in DigestGate."""
        self.networks = tuple(ipaddress.ip_network(each) for each in settings.addresses)
        self._domains = frozenset(domain.lower() for domain in settings.domains)
        self.gate = DigestGate(
            settings.domains[0],
            settings.users.get,
            rng,
            algorithms=settings.algorithms,
            any_nonce=any_nonce,
        )
        limits = RegistrarLimits(
            min_expires_s=settings.min_expires_s,
            default_expires_s=min(max(600, settings.min_expires_s), settings.max_expires_s),
            max_expires_s=settings.max_expires_s,
        )
        self.registrar = Registrar(self._domains, self.gate, limits=limits)

    def own(self, uri: SipUri) -> bool:
        """Whether this is the address of one of our phones, registered or not."""
        return uri.is_sip and bool(uri.user) and uri.host.lower() in self._domains


def extensions_of(sip: Sip, *, any_nonce: bool = False) -> Extensions | None:
    registrar = sip.registrar
    if not registrar.users:
        return None
    names = (registrar.realm, sip.advertised_address, sip.host)
    # Wildcard addresses are nobody's name.
    domains = dict.fromkeys(name for name in names if name not in ("", "0.0.0.0", "::"))
    settings = ExtensionSettings(
        registrar.users,
        tuple(domains),
        addresses=tuple(registrar.addresses),
        algorithms=tuple(registrar.algorithms),
        min_expires_s=registrar.min_expires_s,
        max_expires_s=registrar.max_expires_s,
    )
    return Extensions(settings, random.SystemRandom(), any_nonce=any_nonce)

"""The settings of phones and trunks, in the terms of those who deal with them."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

from bridge import __version__
from bridge.calls.extensions import extensions_of
from bridge.calls.policy import CallPolicy, SourcePolicy
from bridge.calls.trunks import Trunk, Trunks
from bridge.config import Config, Trunk as TrunkSettings, registration_transport
from bridge.errors import ConfigError, SipError
from bridge.legs.sip import SipLegs
from bridge.legs.sip_leg import MediaPatience, SipLeg
from bridge.legs.sip_settings import SipSettings
from bridge.legs.webrtc_path import Paths
from bridge.legs.webrtc_servers import IceServer
from bridge.media.plane import MediaPlane
from bridge.rtp.transport import PortPool, RtpPoller
from bridge.settings import is_loopback
from bridge.sip.auth import Credentials
from bridge.sip.grammar import Params
from bridge.sip.register import RegistrationConfig
from bridge.sip.uri import SipUri

COUNTERPARTS = {"127.0.0.1": "::1", "::1": "127.0.0.1", "0.0.0.0": "::", "::": "0.0.0.0"}
WILDCARDS = ("0.0.0.0", "::")


def phones_without_ports(
    config: Config, on_incoming: Callable[[SipLeg], None]
) -> tuple[SipLegs, CallPolicy]:
    """As they are when the service runs, but for looking at captured calls: they listen nowhere,
    and take the answers to challenges of another day."""
    settings = replace(sip_settings(config), udp_port=0, tcp_port=0, tls_port=0)
    settings = replace(settings, ws_port=0, wss_port=0, tls_certificate="", tls_authority="")
    _, others = media_ports(config)
    ports = PortPool("127.0.0.1", config.rtp.port_min, config.rtp.port_max)
    policy = call_policy(config, asyncio.get_running_loop().time, any_nonce=True)
    phones = SipLegs(
        settings,
        plane=MediaPlane(),
        poller=RtpPoller(),
        ports=ports,
        policy=policy,
        on_incoming=on_incoming,
        rng=random.SystemRandom(),
    )
    phones.use_other_ports(None if others is None else ports)
    phones.use_paths(Paths(loopback=True))
    return phones, policy


def ice_servers(config: Config) -> tuple[IceServer, ...]:
    """Raises ConfigError."""
    return tuple(
        IceServer.parse(each) if isinstance(each, str) else IceServer(**each.model_dump())
        for each in config.webrtc.ice_servers
    )


def call_policy(config: Config, now: Callable[[], float], *, any_nonce: bool = False) -> CallPolicy:
    trunks = [
        Trunk(
            name=name,
            addresses=tuple(trunk.addresses),
            uri=trunk.uri,
            credentials=_credentials(trunk),
            codecs=tuple(trunk.codecs),
            srtp=trunk.srtp,
            late_offer=trunk.late_offer,
            users=trunk.digest.users,
            realm=trunk.digest.realm,
            algorithms=tuple(trunk.digest.algorithms),
            header_in=tuple(trunk.header_in),
            header_out=trunk.header_out,
            caller_ids=tuple(trunk.caller_ids),
            prefixes=tuple(trunk.prefixes),
            private_hosts=trunk.private_hosts,
            backups=tuple(trunk.backups),
            failover_s=trunk.failover_s,
            redirects=trunk.redirects,
            max_redirects=trunk.max_redirects,
            max_calls=trunk.max_calls,
            max_cps=trunk.max_cps,
        )
        for name, trunk in config.sip.trunks.items()
    ]
    sources = SourcePolicy(config.sip.trusted_sources, admits_unknown=config.admits_unknown_sources)
    return CallPolicy(
        sources,
        Trunks(trunks),
        now=now,
        insecure_keys=config.sip.insecure_srtp_keys,
        extensions=extensions_of(config.sip, any_nonce=any_nonce),
        any_nonce=any_nonce,
    )


def registrations(config: Config) -> dict[str, RegistrationConfig]:
    wanted = {}
    settings = sip_settings(config)
    for name, trunk in config.sip.trunks.items():
        if not trunk.registers:
            continue
        target, transport = trunk.registrar or trunk.uri, registration_transport(trunk)
        try:
            server = SipUri.parse(target)
            if not server.host:
                raise SipError("no SIP URI")
            user = SipUri.parse(f"sip:{trunk.username}@{server.host}").user
        except SipError as error:
            raise ConfigError(
                f"sip.trunks.{name}: {target} as {trunk.username}: {error.message}",
                param=f"sip.trunks.{name}.registrar",
            ) from None
        host, port = settings.advertised_address, settings.ports[transport]
        suffix = Params([] if transport == "udp" else [("transport", transport)])
        wanted[name] = RegistrationConfig(
            str(SipUri("sip", user, server.host)),
            str(SipUri("sip", user, host, port, suffix)),
            (target,),
            registrar=str(SipUri(server.scheme, "", server.host, server.port)),
            credentials=_credentials(trunk),
            transport=transport,
            user_agent=settings.user_agent,
            # Who has written down where we are knows better.
            learns=not config.sip.advertised_address,
        )
    return wanted


def media_ports(config: Config) -> tuple[PortPool, PortPool | None]:
    """Those of rtp.host, and those of the other IP version, as far as this machine has it. Raises
    ConfigError."""
    rtp = config.rtp
    ports = PortPool(rtp.host or config.sip.host, rtp.port_min, rtp.port_max)
    alternate = _alternate_host(config)
    if not alternate:
        return ports, None
    others = PortPool(alternate, rtp.port_min, rtp.port_max)
    if others.is_local:
        return ports, others
    if rtp.alternate_host:
        raise ConfigError(
            f"rtp.alternate_host {alternate} is not an address of this machine",
            param="rtp.alternate_host",
        )
    return ports, None


def _alternate_host(config: Config) -> str:
    host = config.rtp.host or config.sip.host
    return config.rtp.alternate_host or COUNTERPARTS.get(host, "")


def _credentials(trunk: TrunkSettings) -> Credentials | None:
    if not trunk.username:
        return None
    return Credentials(trunk.username, trunk.password, trunk.realm or None)


def sip_settings(config: Config) -> SipSettings:
    advertised = config.sip.advertised_address or config.sip.host
    alternate = _alternate_host(config)
    return SipSettings(
        host=config.sip.host,
        udp_port=config.sip.udp_port,
        tcp_port=config.sip.tcp_port,
        tls_port=config.sip.tls_port,
        ws_port=config.sip.ws_port,
        wss_port=config.sip.wss_port,
        tls_certificate=config.sip.tls_certificate,
        tls_private_key=config.sip.tls_private_key,
        tls_authority=config.sip.tls_ca,
        ws_origins=_ws_origins(config),
        advertised_address=advertised,
        media_address=config.rtp.advertised_address
        or config.sip.advertised_address
        or config.rtp.host
        or config.sip.host,
        other_media_address=config.rtp.alternate_advertised_address
        or ("" if alternate in WILDCARDS else alternate),
        # Of another host than SIP's a registrar knows nothing.
        media_learns=not config.rtp.advertised_address and config.rtp.host in ("", config.sip.host),
        codecs=tuple(config.rtp.codecs),
        patience=MediaPatience(
            first_s=config.limits.media_timeout_s,
            gap_s=config.limits.media_gap_timeout_s,
            held_s=config.limits.hold_timeout_s,
        ),
        max_calls=config.limits.max_calls,
        user_agent=f"bridge/{__version__}",
        transfers=config.sip.inbound_transfer == "allow",
    )


def _ws_origins(config: Config) -> tuple[str, ...] | None:
    """Pages elsewhere have no business here, whoever has them open in a browser."""
    if "*" in config.http.cors_origins:
        return None
    scheme = "https" if config.http.tls_certificate else "http"
    host = f"[{config.http.host}]" if ":" in config.http.host else config.http.host
    names = {host, "localhost"} if is_loopback(config.http.host) else {host}
    usual = 443 if config.http.tls_certificate else 80
    suffix = "" if config.http.port == usual else f":{config.http.port}"
    own = (f"{scheme}://{name}{suffix}" for name in sorted(names))
    return (*config.http.cors_origins, *own)

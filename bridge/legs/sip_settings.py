"""What phones are listened for with: the settings, and who decides about callers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bridge.legs.exits import Goal
from bridge.legs.refusals import Caller
from bridge.legs.sip_leg import LegTerms, MediaPatience
from bridge.sip.events import Flow
from bridge.sip.message import Rejection, Request
from bridge.sip.registrar import Registrar
from bridge.sip.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class SipSettings:
    """`advertised_address` goes into Contact, `media_address` into SDP, `other_media_address` where
    the far end wants the other IP version (empty: as it is reached from here); port 0 is off.
    `ws_origins` are the web pages that may connect by WebSocket, None for all."""

    host: str = "127.0.0.1"
    udp_port: int = 5060
    tcp_port: int = 5060
    tls_port: int = 0
    ws_port: int = 0
    wss_port: int = 0
    tls_certificate: str = ""
    tls_private_key: str = ""
    tls_authority: str = ""
    ws_origins: tuple[str, ...] | None = ()
    advertised_address: str = "127.0.0.1"
    media_address: str = "127.0.0.1"
    other_media_address: str = ""
    media_learns: bool = False
    """To whoever sees us elsewhere SDP names that address, as Contact does."""
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    patience: MediaPatience = field(default_factory=MediaPatience)
    max_calls: int = 1000
    user_agent: str = "bridge"
    transfers: bool = False
    """REFER of those we talk to, and INVITEs that replace a call, are for the owner to judge."""

    @property
    def ports(self) -> dict[str, int]:
        """By transport, those that are on."""
        wanted = {
            "udp": self.udp_port,
            "tcp": self.tcp_port,
            "tls": self.tls_port,
            "ws": self.ws_port,
            "wss": self.wss_port,
        }
        return {transport: port for transport, port in wanted.items() if port}

    @property
    def tls_files(self) -> TlsFiles | None:
        if not (self.tls_certificate or self.tls_authority):
            return None
        return TlsFiles(
            certificate=Path(self.tls_certificate) if self.tls_certificate else None,
            private_key=Path(self.tls_private_key) if self.tls_private_key else None,
            authority=Path(self.tls_authority) if self.tls_authority else None,
        )


class Policy(Protocol):
    """Who may call, and on what terms."""

    @property
    def registrar(self) -> Registrar | None:
        """Where phones register with us, if they may."""
        ...

    def admits(self, address: str, /) -> bool:
        """False: met with silence."""
        ...

    def trusts(self, address: str, /) -> bool:
        """True: may speak in a call though it is none of the call's peers."""
        ...

    def terms(self, request: Request, flow: Flow, now: float, /) -> LegTerms:
        """Of a new call. Raises BridgeError, which refuses it."""
        ...

    def caller(self, request: Request, flow: Flow, /) -> Caller:
        """Who sent it, and what that was found by."""
        ...

    def authenticate(self, request: Request, flow: Flow, now: float, /) -> Rejection | None:
        """What a new INVITE is answered whose caller has not proven who it is."""
        ...

    def released(self, terms: LegTerms, /) -> None:
        """A call on these terms is over."""
        ...

    def redirected(self, terms: LegTerms, target: str, /) -> Goal:
        """Whom to call for a Contact of a 3xx. Raises RequestError when it is not followed."""
        ...

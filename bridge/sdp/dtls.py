"""DTLS-SRTP over ICE in session descriptions (RFC 5763, RFC 8839): where each end can be reached,
and by which certificate it is known.

No key passes here. Who can change these lines on their way can still put itself between the ends;
who can only read them learns nothing of what is said.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal, Self, get_args

from bridge.errors import SdpError
from bridge.sdp.description import Attribute, MediaDescription, SessionDescription

DTLS_PROTOCOLS = ("UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF")
MAX_CANDIDATES = 32
INCOMPLETE = "dtls_incomplete"

Setup = Literal["active", "passive"]
CandidateType = Literal["host", "srflx", "prflx", "relay"]
OURS: dict[str, Setup] = {"actpass": "active", "passive": "active", "active": "passive"}
"""RFC 8842 section 5.3: active, unless the offerer insists on being it."""

# RFC 8839 section 5.4 allows fewer characters; browsers have sent others.
CREDENTIAL = re.compile(r"[!-~]{4,256}")
HASHES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
"""Octets of the fingerprints that count."""

_HEX_PAIRS = re.compile(r"[0-9A-F]{2}(?::[0-9A-F]{2})*")
_TOKEN = re.compile(r"[A-Za-z0-9+/]{1,32}")
_MID = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
_DIGITS = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """The value of one a=candidate: an address of UDP where its writer may be reached."""

    foundation: str
    component: int
    protocol: str
    priority: int
    host: str
    port: int
    type: CandidateType
    related: tuple[str, int] | None = None

    @classmethod
    def parse(cls, value: str) -> Self | None:
        """None for what is malformed; extensions are passed over."""
        fields = value.split()
        if len(fields) < 8 or fields[6] != "typ" or fields[7] not in get_args(CandidateType):
            return None
        foundation, component, protocol, priority, host, port = fields[:6]
        numbers = (component, priority, port)
        if not _TOKEN.fullmatch(foundation) or not all(map(_DIGITS.fullmatch, numbers)):
            return None
        kind: CandidateType = fields[7]  # type: ignore[assignment]
        more = dict(zip(fields[8::2], fields[9::2], strict=False))
        related = None
        if "raddr" in more and _DIGITS.fullmatch(more.get("rport", "")):
            related = more["raddr"], int(more["rport"])
        numbers_read = int(component), protocol.lower(), int(priority)
        return cls(foundation, *numbers_read, host, int(port), kind, related)

    def __str__(self) -> str:
        text = f"{self.foundation} {self.component} {self.protocol} {self.priority}"
        text += f" {self.host} {self.port} typ {self.type}"
        if self.related is not None:
            text += f" raddr {self.related[0]} rport {self.related[1]}"
        return text

    @property
    def usable(self) -> bool:
        """Nothing that needs DNS (a browser's .local names find us by themselves: its checks come
        from the address behind them), nothing that would make us send to a whole network."""
        try:
            address = ip_address(self.host)
        except ValueError:
            return False
        return (
            self.protocol == "udp"
            and self.component == 1
            and 0 < self.port < 65536
            and 0 < self.priority < 2**32
            and not (address.is_multicast or address.is_unspecified or address.is_link_local)
            and self.host != "255.255.255.255"
        )


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`value` in upper case: AB:CD:…"""

    algorithm: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for a hash that nobody should trust, and for what is malformed."""
        algorithm, _, value = text.strip().partition(" ")
        algorithm, value = algorithm.lower(), value.strip().upper()
        octets = HASHES.get(algorithm)
        if octets is None or len(value) != 3 * octets - 1 or not _HEX_PAIRS.fullmatch(value):
            return None
        return cls(algorithm, value)


@dataclass(frozen=True, slots=True)
class LocalPath:
    """What we say of our end. The first candidate is for peers that know no ICE."""

    username: str
    password: str = field(repr=False)
    fingerprint: Fingerprint
    candidates: tuple[Candidate, ...]

    @property
    def host(self) -> str:
        return self.candidates[0].host

    @property
    def port(self) -> int:
        return self.candidates[0].port


NOWHERE = "0.0.0.0"
ANYWHERE = LocalPath("", "", Fingerprint("", ""), (Candidate("", 1, "udp", 1, NOWHERE, 9, "host"),))
"""In place of an end that is not there yet."""


@dataclass(frozen=True, slots=True)
class RemotePath:
    """What the other end says of its own; `setup` is ours, `candidates` the usable ones."""

    username: str
    password: str = field(repr=False)
    lite: bool
    fingerprints: tuple[Fingerprint, ...]
    setup: Setup
    candidates: tuple[Candidate, ...]

    def keeps_keys(self, before: "RemotePath") -> bool:
        """Whether DTLS goes on (RFC 8842 section 5.1), on whatever ground."""
        same_certificate = set(self.fingerprints) == set(before.fingerprints)
        return same_certificate and self.setup == before.setup

    def restarts(self, before: "RemotePath") -> bool:
        """Whether ICE begins again (RFC 8839 section 4.4.1.1)."""
        return (self.username, self.password) != (before.username, before.password)


def offers_dtls(line: MediaDescription, description: SessionDescription) -> bool:
    """Whether the line could be carried by DTLS-SRTP. A plain profile with a fingerprint asks for
    it where possible (RFC 8643)."""
    if line.protocol.upper() in DTLS_PROTOCOLS:
        return True
    return _find(line, description, "fingerprint") is not None


def read_path(
    line: MediaDescription, description: SessionDescription, before: RemotePath | None = None
) -> RemotePath:
    """Of an offered line; `before` is what was agreed in this call. Raises SdpError, which says
    what is lacking."""
    source = _transport_of(line, description)
    if line.attribute("rtcp-mux") is None:
        raise SdpError("DTLS-SRTP is offered, but not rtcp-mux", code=INCOMPLETE)
    username = _find(source, description, "ice-ufrag")
    password = _find(source, description, "ice-pwd")
    if username is None or password is None:
        raise SdpError("DTLS-SRTP is offered, but not ICE", code=INCOMPLETE)
    if not (CREDENTIAL.fullmatch(username) and CREDENTIAL.fullmatch(password)):
        raise SdpError("ice-ufrag or ice-pwd is malformed")
    return RemotePath(
        username,
        password,
        lite=_find(line, description, "ice-lite") is not None,
        fingerprints=_fingerprints(source, description),
        setup=_setup(_find(source, description, "setup"), before),
        candidates=tuple(_candidates(source)),
    )


def path_attributes(
    ours: LocalPath, setup: Literal["active", "passive", "actpass"], mid: str
) -> Iterator[Attribute]:
    """What goes under our line."""
    if mid:
        yield "mid", mid
        # A page that asks for the stream of a track finds one only if it is named here.
        yield "msid", "realtime audio"
    yield "rtcp-mux", None
    yield "ice-ufrag", ours.username
    yield "ice-pwd", ours.password
    for candidate in ours.candidates:
        yield "candidate", str(candidate)
    yield "end-of-candidates", None
    yield "fingerprint", f"{ours.fingerprint.algorithm} {ours.fingerprint.value}"
    yield "setup", setup


def mid_of(line: MediaDescription) -> str:
    """Empty unless there is one that can be repeated."""
    mid = line.attribute("mid") or ""
    return mid if _MID.fullmatch(mid) else ""


def bundle_of_one(line: MediaDescription, offer: SessionDescription) -> tuple[Attribute, ...]:
    """For the answer: what is refused has left the bundle (RFC 9143 section 7.3.3)."""
    return (("group", f"BUNDLE {mid_of(line)}"),) if mid_of(line) in _bundle(offer) else ()


def _bundle(description: SessionDescription) -> list[str]:
    """The a=mid values that share one transport, the offerer's tagged one first (RFC 9143)."""
    for name, value in description.attributes:
        fields = (value or "").split()
        if name.lower() == "group" and fields[:1] == ["BUNDLE"]:
            return fields[1:]
    return []


def _transport_of(line: MediaDescription, description: SessionDescription) -> MediaDescription:
    """The line that says where the bundle of this one is, if it does not itself."""
    if line.attribute("ice-ufrag") is None and mid_of(line) in _bundle(description):
        tagged = _bundle(description)[0]
        return next((each for each in description.media if mid_of(each) == tagged), line)
    return line


def _find(line: MediaDescription, description: SessionDescription, name: str) -> str | None:
    own = line.attribute(name)
    return description.attribute(name) if own is None else own


def _fingerprints(
    line: MediaDescription, description: SessionDescription
) -> tuple[Fingerprint, ...]:
    own = [value or "" for name, value in line.attributes if name.lower() == "fingerprint"]
    session = [v or "" for name, v in description.attributes if name.lower() == "fingerprint"]
    found = tuple(filter(None, map(Fingerprint.parse, (own or session)[:8])))
    if not found:
        raise SdpError("DTLS-SRTP is offered, but no SHA-2 fingerprint", code=INCOMPLETE)
    return found


def _setup(offered: str | None, before: RemotePath | None) -> Setup:
    # RFC 4145 section 4: active is what an offer means that says nothing.
    offered = "active" if offered is None else offered.strip().lower()
    if offered not in OURS:
        raise SdpError(f"a=setup:{offered} opens no connection")
    if before is not None and offered in ("actpass", OURS[before.setup]):
        return before.setup
    return OURS[offered]


def _candidates(line: MediaDescription) -> Iterator[Candidate]:
    values = [value or "" for name, value in line.attributes if name.lower() == "candidate"]
    for value in values[:MAX_CANDIDATES]:
        candidate = Candidate.parse(value)
        if candidate is not None and candidate.usable:
            yield candidate

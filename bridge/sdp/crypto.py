"""SRTP keys in session descriptions (RFC 4568): a=crypto lines, and whether a call uses them, or
DTLS instead.

A key is as secret as the path that carries it, so none is taken or given unless the caller of this
module vouches for the signalling. Where both are offered DTLS goes first: its keys pass nobody.
"""

import binascii
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Self

from bridge.errors import SdpError
from bridge.sdp.description import Attribute, MediaDescription, SessionDescription
from bridge.sdp.dtls import DTLS_PROTOCOLS, LocalPath, RemotePath, offers_dtls, read_path

SrtpPolicy = Literal["off", "optional", "required", "dtls"]

SUITES = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}
"""Octets of master key and salt: RFC 4568 section 6.2, RFC 7714 section 14.2. Every peer with SRTP
has the first, and some look no further, so it leads our offers."""

SECURE_PROTOCOLS = ("RTP/SAVP", "RTP/SAVPF")
MAX_ATTRIBUTES = 32

_LIFETIME = re.compile(r"(2\^)?\d{1,20}")
_MKI = re.compile(r"\d{1,39}:(\d{1,3})")
_WINDOW = re.compile(r"-?WSH=\d{1,9}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Crypto:
    """One a=crypto line: how its writer encrypts what it sends. `key` is master key and salt."""

    tag: int
    suite: str
    key: bytes = field(repr=False)

    @classmethod
    def parse(cls, value: str) -> Self | None:
        """The value of a=crypto; None for what is malformed, or asks for more than we can do."""
        fields = value.split()
        if len(fields) < 3:
            return None
        tag, suite, keys, *parameters = fields
        size = SUITES.get(suite.upper())
        if size is None or not re.fullmatch(r"[0-9]{1,9}", tag):
            return None
        # A `-` marks what the other side may ignore (RFC 4568 section 6.3.7).
        if not all(each.startswith("-") or _WINDOW.fullmatch(each) for each in parameters):
            return None
        key = _key(keys)
        return cls(int(tag), suite.upper(), key) if key is not None and len(key) == size else None

    def attribute(self) -> Attribute:
        """With the key in it: for the wire only."""
        return "crypto", f"{self.tag} {self.suite} inline:{b64encode(self.key).decode()}"


CryptoPair = tuple[Crypto, Crypto]
"""Ours, under which we send, and the peer's."""

Security = CryptoPair | RemotePath


def _key(text: str) -> bytes | None:
    method, _, info = text.partition(":")
    # Several keys need an MKI to tell them apart; one of length zero tells nothing apart.
    if method.lower() != "inline" or ";" in info:
        return None
    encoded, *rest = info.split("|")
    if rest and _LIFETIME.fullmatch(rest[0]):
        rest = rest[1:]
    if rest:
        mki = _MKI.fullmatch(rest[0])
        if len(rest) > 1 or mki is None or int(mki[1]) != 0:
            return None
    try:
        return b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def cryptos(line: MediaDescription) -> Iterator[Crypto]:
    """What can be used of a line's a=crypto, most preferred first."""
    values = [value or "" for name, value in line.attributes if name.lower() == "crypto"]
    for value in values[:MAX_ATTRIBUTES]:
        crypto = Crypto.parse(value)
        if crypto is not None:
            yield crypto


def is_secure(line: MediaDescription) -> bool:
    """Whether the line promises SRTP; a plain one may still carry a key."""
    return line.protocol.upper() in SECURE_PROTOCOLS


@dataclass(frozen=True, slots=True)
class MediaSecurity:
    """What one call does about SRTP.

    "optional" encrypts whenever both sides can, "dtls" is "required" without keys in SDP; what is
    encrypted once (`current`, or `agreed` for DTLS) stays so. Keys are exchanged only if the
    signalling is encrypted up to the peer, or if told to anyway. `path` is our end of DTLS-SRTP;
    without one there is none in this call.
    """

    policy: SrtpPolicy = "off"
    secure_signalling: bool = False
    allow_insecure_keys: bool = False
    suites: tuple[str, ...] = tuple(SUITES)
    current: CryptoPair | None = None
    path: LocalPath | None = None
    agreed: RemotePath | None = None
    new_key: Callable[[int], bytes] = field(default=secrets.token_bytes, repr=False)

    @property
    def required(self) -> bool:
        return self.policy in ("required", "dtls") or bool(self.current or self.agreed)

    @property
    def keys_allowed(self) -> bool:
        return self.secure_signalling or self.allow_insecure_keys

    def offered(self) -> tuple[Crypto, ...]:
        """A line for each suite. Raises SdpError when SRTP is required and keys are not allowed."""
        if self.policy == "dtls":
            raise SdpError("DTLS-SRTP is required, and there is no path for it")
        if not self.keys_allowed and self.required:
            raise SdpError("SRTP is required, and the signalling is not encrypted")
        if not self.keys_allowed or (self.policy == "off" and self.current is None):
            return ()
        return tuple(
            Crypto(tag, suite, self.new_key(SUITES[suite]))
            for tag, suite in enumerate(self.suites, 1)
        )

    def answer(self, line: MediaDescription, offer: SessionDescription) -> Security | None:
        """For a line of this offer: the keys, or the way to them, None for plain RTP. Raises
        SdpError when it can be neither."""
        path = self._answer_dtls(line, offer)
        if path is not None:
            return path
        if self.agreed is not None:
            raise SdpError("the keys of the call are by DTLS, which is not offered any more")
        if self.policy == "dtls":
            raise SdpError("DTLS-SRTP is required, and not offered", code="dtls_required")
        why, code = "SRTP is off", "srtp_off"
        if self.policy != "off" or self.current is not None:
            bare = line.attribute("crypto") is None
            why = "no key is offered" if bare else "no a=crypto line can be used"
            code = "srtp_no_key"
            theirs = next((each for each in cryptos(line) if each.suite in self.suites), None)
            if theirs is not None and self.keys_allowed:
                return self._ours(theirs), theirs
            if theirs is not None:
                why, code = "the signalling is not encrypted", "srtp_in_the_clear"
        if is_secure(line):
            raise SdpError(f"SRTP is offered, but {why}", code=code)
        if self.required:
            raise SdpError(f"SRTP is required, but {why}", code=code)
        return None

    def _answer_dtls(self, line: MediaDescription, offer: SessionDescription) -> RemotePath | None:
        if not offers_dtls(line, offer):
            return None
        try:
            if self.policy == "off" and self.agreed is None:
                raise SdpError("DTLS-SRTP is offered, but SRTP is off", code="srtp_off")
            path = read_path(line, offer, self.agreed)
            if self.path is None:
                raise SdpError("DTLS-SRTP is offered, but not from the beginning of the call")
        except SdpError:
            # Of the other profiles a fingerprint is but one of the ways.
            if line.protocol.upper() in DTLS_PROTOCOLS:
                raise
            return None
        return path

    def accept(
        self, ours: MediaDescription, theirs: MediaDescription, answer: SessionDescription
    ) -> Security | None:
        """For our offered line and its answer: the keys, or the way to them, None for plain RTP.
        Raises SdpError."""
        if self.path is not None:
            return read_path(theirs, answer, self.agreed)
        offered = {crypto.tag: crypto for crypto in cryptos(ours)}
        for answered in cryptos(theirs):
            local = offered.get(answered.tag)
            if local is not None and local.suite == answered.suite:
                return local, answered
        secured = is_secure(theirs) or theirs.attribute("crypto") is not None
        if secured or is_secure(ours) or self.required:
            raise SdpError("the answer brings no key that fits the offer", code="invalid_answer")
        return None

    def _ours(self, theirs: Crypto) -> Crypto:
        """The key in use as long as the peer keeps its own: a peer that repeats its offer would
        otherwise lose count of the packets."""
        if self.current is not None:
            local, remote = self.current
            if (remote.key, remote.suite) == (theirs.key, theirs.suite):
                return Crypto(theirs.tag, local.suite, local.key)
        return Crypto(theirs.tag, theirs.suite, self.new_key(SUITES[theirs.suite]))


PLAIN = MediaSecurity()

"""SRTP and SRTCP (RFC 3711, RFC 7714) under keys agreed in signalling; pylibsrtp does the work.

A context counts packets beyond 16 bits, so a direction whose key stays keeps its context: starting
anew under the same key would lose that count, and use a key stream twice.
"""

from collections.abc import Callable

import pylibsrtp
from pylibsrtp import Policy

from bridge.errors import RtpError

PROFILES: dict[str, int] = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
"""By the names of RFC 4568 and RFC 7714."""

KEY_BYTES = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}
"""Master key and salt."""

REPLAY_WINDOW = 1024
"""Packets: a stall of ours, after which 20 s of them come at once, is no replay."""

SHORTEST = 12
"""Neither an RTP header nor an SRTCP packet with its trailer is shorter."""


class SrtpSession:
    """Both directions of one call, any SSRC. Raises RtpError for an unknown suite, or a key of the
    wrong length."""

    def __init__(self, local_key: bytes, remote_key: bytes, suite: str) -> None:
        self._local = (local_key, suite)
        self._remote = (remote_key, suite)
        self._sending = _context(local_key, suite, Policy.SSRC_ANY_OUTBOUND)
        self._receiving = _context(remote_key, suite, Policy.SSRC_ANY_INBOUND)
        self._outgoing: pylibsrtp.Session | None = None

    @property
    def suite(self) -> str:
        return self._local[1]

    def rekey(self, local_key: bytes, remote_key: bytes, suite: str) -> None:
        """From now on send under `local_key`; what the peer had under way is still read until its
        first packet under the new key. A key that did not change goes on. Raises RtpError, and
        changes nothing then."""
        local, remote = (local_key, suite), (remote_key, suite)
        sending, receiving = self._sending, self._receiving
        if local != self._local:
            sending = _context(local_key, suite, Policy.SSRC_ANY_OUTBOUND)
        if remote != self._remote:
            receiving = _context(remote_key, suite, Policy.SSRC_ANY_INBOUND)
            self._outgoing = self._receiving
        self._local, self._remote = local, remote
        self._sending, self._receiving = sending, receiving

    def protect(self, packet: bytes) -> bytes:
        """RTP to SRTP. Raises RtpError: too large, or a sequence number used before."""
        return _run(self._sending.protect, packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """RTCP to SRTCP. Raises RtpError."""
        return _run(self._sending.protect_rtcp, packet)

    def unprotect(self, packet: bytes) -> bytes:
        """SRTP to RTP. Raises RtpError: forged, of another key, or seen before."""
        if self._outgoing is None:
            return _run(self._receiving.unprotect, packet)
        try:
            plain = _run(self._receiving.unprotect, packet)
        except RtpError:
            return _run(self._outgoing.unprotect, packet)
        self._outgoing = None
        return plain

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """SRTCP to RTCP. Raises RtpError."""
        try:
            return _run(self._receiving.unprotect_rtcp, packet)
        except RtpError:
            if self._outgoing is None:
                raise
            return _run(self._outgoing.unprotect_rtcp, packet)


def _context(key: bytes, suite: str, direction: int) -> pylibsrtp.Session:
    profile = PROFILES.get(suite)
    if profile is None or len(key) != KEY_BYTES[suite]:
        raise RtpError("SRTP suite or length of its key not known")
    policy = Policy(key=key, ssrc_type=direction, srtp_profile=profile)
    policy.window_size = REPLAY_WINDOW
    try:
        return pylibsrtp.Session(policy)
    except pylibsrtp.Error as error:
        raise RtpError(f"SRTP context refused: {error}") from None


def _run(operation: Callable[[bytes], bytes], packet: bytes) -> bytes:
    if len(packet) < SHORTEST:
        raise RtpError("packet is too short for SRTP")
    try:
        return operation(packet)
    except (pylibsrtp.Error, ValueError) as error:
        raise RtpError(f"SRTP: {error}") from None

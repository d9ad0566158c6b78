"""Media of one phone call: its ports, keys and stream, led by the descriptions that pass."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from bridge.audio import codecs
from bridge.errors import SdpError
from bridge.legs import base
from bridge.legs.one_way import NO_MICROPHONE, Unheard
from bridge.legs.sip_path import SipPath
from bridge.media.outbound import BITRATE, OpusTerms
from bridge.media.stream import AudioStream
from bridge.rtp.secure import SecureWire
from bridge.rtp.srtp import SrtpSession
from bridge.rtp.transport import RtpSocket
from bridge.sdp.crypto import MediaSecurity, SrtpPolicy
from bridge.sdp.description import SessionDescription
from bridge.sdp.negotiation import (
    NegotiatedMedia,
    accept_answer,
    answer,
    offer,
    reoffer,
    takes_dtls,
)


@dataclass(frozen=True, slots=True)
class SipMediaSettings:
    """`address` goes into SDP; `signalling` is the host that the far end signals from. Keys are
    exchanged if `secure_signalling` (the flow of the call is TLS or WSS), or
    `allow_insecure_keys`."""

    address: str
    cname: str
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    srtp: SrtpPolicy = "off"
    secure_signalling: bool = False
    allow_insecure_keys: bool = False
    signalling: str = ""

    @property
    def security(self) -> MediaSecurity:
        return MediaSecurity(
            self.srtp,
            secure_signalling=self.secure_signalling,
            allow_insecure_keys=self.allow_insecure_keys,
        )


def takes_path(body: bytes, settings: SipMediaSettings) -> bool:
    """Whether an offer is to be answered with a path."""
    if b"fingerprint:" not in body.lower():
        return False
    try:
        offered = SessionDescription.parse(body)
    except SdpError:
        return False
    return takes_dtls(
        offered,
        address=settings.address,
        codecs=settings.codecs,
        security=settings.security,
    )


class SipMedia:
    """Negotiates and follows what was negotiated; owns the socket, or the path where the call is
    one by DTLS. `stream` is None until then.

    Each method raises SdpError for a description that cannot be used, and changes nothing then:
    media goes on as it was.
    """

    def __init__(
        self, ground: RtpSocket | SipPath, settings: SipMediaSettings, *, rng: random.Random
    ) -> None:
        self.stream: AudioStream | None = None
        self.negotiated: NegotiatedMedia | None = None
        self.on_digit: Callable[[str], None] | None = None
        self.path = ground if isinstance(ground, SipPath) else None
        self._ground = ground
        self._settings = settings
        self._session_id = rng.getrandbits(62)
        self._local: SessionDescription | None = None
        self._wire: SecureWire | None = None

    @property
    def socket(self) -> RtpSocket:
        """Of a call without a path."""
        assert not isinstance(self._ground, SipPath)
        return self._ground

    @property
    def security(self) -> base.MediaSecurity:
        if self.path is not None:
            return "dtls"
        return "none" if self._wire is None else "sdes"

    @property
    def secure(self) -> bool:
        """Whether the call is encrypted; once it is, it stays so."""
        return self.security != "none"

    @property
    def ready(self) -> bool:
        """Whether packets could pass."""
        return self.path is None or self.path.ready

    def connect(self) -> None:
        """Descriptions have been exchanged, as far as it depends on us."""
        if self.path is not None and self.stream is not None and self.negotiated is not None:
            assert self.negotiated.path is not None
            self.path.connect(self.negotiated.path, self.stream)

    def close(self) -> None:
        self._ground.close()
        self.on_digit = None

    @property
    def rejected_packets(self) -> int:
        """From the peer's address under no key of this call."""
        wire = self._wire
        return 0 if wire is None else wire.stats.rejected + wire.stats.rejected_rtcp

    @property
    def source(self) -> tuple[str, int] | None:
        """Where packets go, if that is known here: a path has its own ways."""
        return None if self.path is not None else self.socket.source

    def why_unheard(self, waited_s: float) -> str:
        """On a call on which nothing is heard."""
        return NO_MICROPHONE if self.path is not None else self.unheard(waited_s).explain()

    def unheard(self, waited_s: float) -> Unheard:
        """What is known of it, where there is no path."""
        stats, stream = self.socket.stats, self.stream
        return Unheard(
            waited_s,
            0 if stream is None else stream.packets_sent,
            self.socket.remote,
            self._settings.address,
            self._settings.signalling,
            strange=stats.dropped_source,
            stranger=stats.stranger,
            undecipherable=self.rejected_packets,
            unreadable=stats.malformed + (0 if stream is None else stream.stats.bad_packets),
            refused=stats.refused,
        )

    def signalled_from(self, host: str) -> None:
        """The far end is there, and not where the call was sent first."""
        self._settings = replace(self._settings, signalling=host)

    def answer(self, body: bytes) -> bytes:
        """To an offer, the first or another one."""
        answered = answer(
            SessionDescription.parse(body),
            address=self._settings.address,
            port=self._port,
            codecs=self._settings.codecs,
            session_id=self._session_id,
            version=1,
            previous=self._local,
            security=self._security(),
        )
        self._check_path(answered.media)
        written = bytes(answered.description)
        self._use(answered.media)
        self._local = answered.description
        return written

    def offer(self) -> bytes:
        """Our first offer, or the last description again (RFC 3264 section 8)."""
        if self._local is None:
            self._local = offer(
                address=self._settings.address,
                port=self._port,
                codecs=self._settings.codecs,
                session_id=self._session_id,
                version=1,
                security=self._security(),
            )
        else:
            self._local = reoffer(self._local)
        return bytes(self._local)

    def accept(self, body: bytes) -> None:
        """The answer to what `offer` gave."""
        assert self._local is not None
        description = SessionDescription.parse(body)
        media = accept_answer(self._local, description, security=self._security())
        self._check_path(media)
        self._use(media)

    @property
    def _port(self) -> int:
        return self.path.local.port if self.path is not None else self.socket.address[1]

    def _check_path(self, media: NegotiatedMedia) -> None:
        before = self.negotiated.path if self.negotiated is not None else None
        if before is not None and (media.path is None or not media.path.continues(before)):
            raise SdpError("ICE or DTLS of this call cannot begin again")

    def _security(self) -> MediaSecurity:
        agreed = self.negotiated
        return replace(
            self._settings.security,
            path=self.path.local if self.path is not None else None,
            current=agreed.crypto if agreed is not None else None,
            agreed=agreed.path if agreed is not None else None,
        )

    def _use(self, media: NegotiatedMedia) -> None:
        if self.path is None:
            self.socket.set_remote(media.remote, media.remote_rtcp, near=self._settings.signalling)
        codec = codecs.by_name(media.codec)
        opus = OpusTerms(repairs=media.fec, bitrate=media.bitrate or BITRATE)
        if self.stream is None:
            self.stream = AudioStream(
                codec,
                payload_type=media.payload_type,
                wire=self.socket if self.path is None else self.path.wire,
                cname=self._settings.cname,
                telephone_event=media.telephone_event,
                telephone_event_rate=media.telephone_event_rate,
                ptime_ms=media.ptime_ms,
            )
            self.stream.on_digit = self._digit
            self.stream.opus = opus
            if self.path is None:
                self.socket.on_rtp = self.stream.receive_rtp
                self.socket.on_rtcp = self.stream.receive_rtcp
        else:
            self.stream.opus = opus
            self.stream.renegotiate(
                codec,
                payload_type=media.payload_type,
                telephone_event=media.telephone_event,
                telephone_event_rate=media.telephone_event_rate,
                ptime_ms=media.ptime_ms,
            )
        self._encrypt(self.stream, media)
        self.stream.held = media.direction != "sendrecv"
        self.negotiated = media

    def _encrypt(self, stream: AudioStream, media: NegotiatedMedia) -> None:
        if media.crypto is None:
            return
        local, remote = media.crypto
        if self._wire is not None:
            self._wire.session.rekey(local.key, remote.key, local.suite)
            return
        stream.wire = self._wire = SecureWire(
            self.socket,
            SrtpSession(local.key, remote.key, local.suite),
            on_rtp=stream.receive_rtp,
            on_rtcp=stream.receive_rtcp,
        )

    def _digit(self, digit: str) -> None:
        if self.on_digit is not None:
            self.on_digit(digit)

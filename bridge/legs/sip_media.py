"""Media of one phone call: its ports, keys and stream, led by the descriptions that pass."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from bridge.audio import codecs
from bridge.errors import SdpError
from bridge.legs import base
from bridge.legs.one_way import NO_MICROPHONE, Unheard
from bridge.legs.sip_path import SipPath
from bridge.legs.webrtc_path import Lost
from bridge.media.outbound import BITRATE, OpusTerms
from bridge.media.stream import AudioStream
from bridge.rtp.secure import SecureWire
from bridge.rtp.srtp import SrtpSession
from bridge.rtp.transport import RtpSocket
from bridge.sdp.crypto import MediaSecurity, SrtpPolicy
from bridge.sdp.description import SessionDescription
from bridge.sdp.negotiation import (
    Answer,
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
        self.on_ready: Callable[[], None] | None = None
        """There is a path, where one is needed: audio can pass from now on."""
        self.on_lost: Callable[[Lost], None] | None = None
        self.path: SipPath | None = None
        self._former_path: SipPath | None = None
        self._ground = ground
        if isinstance(ground, SipPath):
            self._follow(ground)
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
        for each in (self._former_path, self.path, self._ground):
            if each is not None:
                each.close()
        self.on_digit = self.on_ready = self.on_lost = None

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

    def answer(self, body: bytes, path: SipPath | None = None) -> bytes:
        """To an offer, the first or another one; `path` is for one that `begins_again`."""
        answered = self._answered(body, path or self.path)
        if path is not None:
            self._leave(path)
        elif self.path is not None and self._restarts(answered.media):
            self.path.restart()
            answered = self._answered(body, self.path)
        written = bytes(answered.description)
        self._use(answered.media)
        self._local = answered.description
        return written

    def begins_again(self, body: bytes) -> bool:
        """Whether another offer is of another DTLS: media goes by the path there was until there is
        another."""
        if self.negotiated is None or self.negotiated.path is None:
            return False
        try:
            wanted = self._answered(body, self.path).media.path
        except SdpError:
            return False
        return wanted is not None and not wanted.keeps_keys(self.negotiated.path)

    def _answered(self, body: bytes, path: SipPath | None) -> Answer:
        return answer(
            SessionDescription.parse(body),
            address=self._settings.address,
            port=path.local.port if path is not None else self.socket.address[1],
            codecs=self._settings.codecs,
            session_id=self._session_id,
            version=1,
            previous=self._local,
            security=self._security(path),
        )

    def _leave(self, path: SipPath) -> None:
        """For this one. The far end may end the former before we do."""
        if self.path is not None:
            self.path.on_ready = self.path.on_lost = None
            if self._former_path is None:
                self._former_path = self.path
            else:
                self.path.close()
        self._follow(path)

    def _follow(self, path: SipPath) -> None:
        self.path = path
        path.on_ready = self._path_ready
        path.on_lost = self._path_lost

    def _path_ready(self) -> None:
        if self.stream is not None and self.path is not None:
            self.stream.wire = self.path.wire
        if self._former_path is not None:
            self._former_path.close()
            self._former_path = None
        if self.on_ready is not None:
            self.on_ready()

    def _path_lost(self, why: Lost) -> None:
        if self.on_lost is not None:
            self.on_lost(why)

    def offer(self) -> bytes:
        """Our first offer, or the last description again (RFC 3264 section 8)."""
        if self._local is None:
            self._local = offer(
                address=self._settings.address,
                port=self.path.local.port if self.path else self.socket.address[1],
                codecs=self._settings.codecs,
                session_id=self._session_id,
                version=1,
                security=self._security(self.path),
            )
        else:
            self._local = reoffer(self._local)
        return bytes(self._local)

    def accept(self, body: bytes) -> None:
        """The answer to what `offer` gave."""
        assert self._local is not None
        description = SessionDescription.parse(body)
        media = accept_answer(self._local, description, security=self._security(self.path))
        if self._restarts(media):
            raise SdpError("ICE begins again in an answer", code="invalid_answer")
        self._use(media)

    def _restarts(self, media: NegotiatedMedia) -> bool:
        """Whether ICE begins again where it is; raises SdpError where it cannot."""
        before = self.negotiated.path if self.negotiated is not None else None
        if before is None or media.path is None or self.path is None:
            return False
        if not media.path.keeps_keys(before):
            raise SdpError("another DTLS, where there is no other path")
        if not media.path.restarts(before):
            return False
        if not self.path.ready:
            raise SdpError("ICE cannot begin again before it has ended")
        return True

    def _security(self, path: SipPath | None) -> MediaSecurity:
        agreed = self.negotiated
        return replace(
            self._settings.security,
            path=path.local if path is not None else None,
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

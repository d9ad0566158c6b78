"""The offer of a browser read, the answer to it written.

aiortc's parser reads; it sees only the lines that matter here, because some of the others cost it
quadratic time, and it raises whatever comes to hand at a line it does not like. The answer is
written by hand: what a browser does with it depends on lines that aiortc leaves out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from aiortc import RTCDtlsFingerprint, RTCDtlsParameters, RTCIceCandidate, RTCIceParameters
from aiortc.rtcdtlstransport import X509_DIGEST_ALGORITHMS
from aiortc.sdp import MediaDescription, SessionDescription, candidate_to_sdp

from bridge.audio import codecs
from bridge.audio.codecs import Codec
from bridge.errors import PayloadTooLarge, SdpError
from bridge.sdp.dtls import CREDENTIAL, MAX_CANDIDATES, Candidate

MAX_OFFER_BYTES = 64 * 1024
MAX_MEDIA = 32
MAX_MESSAGE_BYTES = 256 * 1024

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
REVERSED: dict[str | None, Direction] = {
    None: "sendrecv",
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}

_READ_ATTRIBUTES = {
    "candidate",
    "fingerprint",
    "group",
    "ice-lite",
    "ice-pwd",
    "ice-ufrag",
    "max-message-size",
    "mid",
    "rtcp-mux",
    "rtpmap",
    "sctp-port",
    "sctpmap",
    "setup",
    "sendrecv",
    "sendonly",
    "recvonly",
    "inactive",
}
# What the parser was seen to raise, and its kin.
_PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    StopIteration,
    TypeError,
    ValueError,
)
# Payload types that need no rtpmap (RFC 3551 section 6).
_STATIC = {0: codecs.PCMU, 8: codecs.PCMA, 9: codecs.G722}
# RFC 4566 section 9; what is echoed must not break out of its line.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~/-]{1,64}")


_BITRATE = re.compile(r"^a=fmtp:(\d{1,3}) [^\r\n]*\bmaxaveragebitrate=(\d{1,9})\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """One m-line as it must come back."""

    kind: str
    profile: str
    mid: str
    formats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """`audio` and `data` index `sections`; `candidates` are the usable ones; `bitrate` is what the
    browser wants of Opus at most, 0 if it does not say."""

    sections: tuple[Section, ...]
    audio: int
    data: int | None
    codec: Codec
    payload_type: int
    telephone_event: int | None
    telephone_event_rate: int
    direction: Direction  # ours
    ice: RTCIceParameters
    dtls: RTCDtlsParameters
    candidates: tuple[RTCIceCandidate, ...]
    sctp_port: int
    max_message_bytes: int
    bitrate: int

    @property
    def setup(self) -> Literal["active", "passive"]:
        """Ours. RFC 8842 section 5.3: active, unless the offerer insists."""
        return "passive" if self.dtls.role == "client" else "active"


@dataclass(frozen=True, slots=True)
class Local:
    """What of ours goes into the answer."""

    ice: RTCIceParameters
    fingerprint: RTCDtlsFingerprint
    candidates: tuple[RTCIceCandidate, ...]
    ssrc: int
    cname: str
    session_id: int


def read_offer(text: str) -> Offer:
    """Raises SdpError for every offer that cannot become a call, PayloadTooLarge over 64 KiB."""
    if len(text.encode(errors="replace")) > MAX_OFFER_BYTES:
        raise PayloadTooLarge(f"the SDP offer is larger than {MAX_OFFER_BYTES} bytes", param="sdp")
    try:
        session = SessionDescription.parse("\n".join(_relevant(text)))
    except _PARSER_ERRORS as error:
        raise SdpError("the SDP offer is malformed", param="sdp") from error
    if not 0 < len(session.media) <= MAX_MEDIA:
        raise SdpError(f"the SDP offer has {len(session.media)} media sections", param="sdp")
    sections = tuple(_section(media) for media in session.media)
    audio = next((i for i, m in enumerate(session.media) if m.kind == "audio" and m.port), None)
    if audio is None:
        raise SdpError("the SDP offer has no audio section", param="sdp")
    media = session.media[audio]
    if not media.rtcp_mux:
        raise SdpError("the audio section must offer rtcp-mux", param="sdp")
    bundle = next((group.items for group in session.group if group.semantic == "BUNDLE"), [])
    bundled = [m for mid in bundle for m in session.media if m.rtp.muxId == mid]
    data = next((i for i, m in enumerate(session.media) if m.kind == "application"), None)
    # Without BUNDLE the data channel would need ICE and DTLS of its own, which no browser asks for.
    if data is not None and not (media in bundled and session.media[data] in bundled):
        data = None
    transport = bundled[0] if media in bundled else media
    codec, payload_type = _choose_codec(media)
    event, event_rate = _telephone_event(media, codec)
    sctp = session.media[data] if data is not None else None
    return Offer(
        sections=sections,
        audio=audio,
        data=data,
        codec=codec,
        payload_type=payload_type,
        telephone_event=event,
        telephone_event_rate=event_rate,
        direction=REVERSED[media.direction],
        ice=_ice(transport),
        dtls=_dtls(transport),
        candidates=tuple(c for c in transport.ice_candidates if _usable(c))[:MAX_CANDIDATES],
        sctp_port=_sctp_port(sctp),
        max_message_bytes=_max_message(sctp),
        bitrate=_max_bitrate(text, payload_type) if codec is codecs.OPUS else 0,
    )


def _relevant(text: str) -> Iterator[str]:
    """The lines that are read below. Candidates beyond any sense are not even parsed."""
    candidates = 0
    for line in text.splitlines():
        kind, value = line[:2], line[2:].strip()
        if kind == "m=":
            yield kind + value
        elif kind == "a=" and (name := value.partition(":")[0]) in _READ_ATTRIBUTES:
            candidates += name == "candidate"
            if name != "candidate" or candidates <= 8 * MAX_CANDIDATES:
                yield kind + value


def _section(media: MediaDescription) -> Section:
    formats = tuple(str(item) for item in media.fmt)
    if media.kind == "application":
        formats = formats[:1]
    words = (media.kind, media.profile, *formats)
    if media.rtp.muxId:
        words = (*words, media.rtp.muxId)
    if not all(_TOKEN.fullmatch(word) for word in words):
        raise SdpError("the SDP offer is malformed", param="sdp")
    return Section(media.kind, media.profile, media.rtp.muxId, formats)


def _max_bitrate(text: str, payload_type: int) -> int:
    """RFC 7587 section 6.1. The parser is not given such lines."""
    found = {int(each[1]): int(each[2]) for each in _BITRATE.finditer(text)}
    return found.get(payload_type, 0)


def _choose_codec(media: MediaDescription) -> tuple[Codec, int]:
    """In the offer's order: a browser that puts PCMU first was told to."""
    described = {codec.payloadType: codec for codec in media.rtp.codecs}
    for payload_type in media.fmt:
        if (offered := described.get(payload_type)) is not None:
            for codec in (codecs.OPUS, codecs.G722, codecs.PCMU, codecs.PCMA):
                if (offered.name.lower(), offered.clockRate) == (
                    codec.name.lower(),
                    codec.clock_rate,
                ):
                    return codec, payload_type
        elif (static := _STATIC.get(payload_type)) is not None:
            return static, payload_type
    raise SdpError("the SDP offer has none of opus, G722, PCMU and PCMA", param="sdp")


def _telephone_event(media: MediaDescription, codec: Codec) -> tuple[int | None, int]:
    for offered in media.rtp.codecs:
        if (
            offered.name.lower() == "telephone-event"
            and offered.clockRate == codec.clock_rate
            and offered.payloadType in media.fmt
        ):
            return offered.payloadType, offered.clockRate
    return None, codec.clock_rate


def _ice(media: MediaDescription) -> RTCIceParameters:
    words = (media.ice.usernameFragment, media.ice.password) if media.ice else (None,)
    if not all(word and CREDENTIAL.fullmatch(word) for word in words) or media.ice is None:
        raise SdpError("the SDP offer has no ice-ufrag and ice-pwd", param="sdp")
    return media.ice


def _dtls(media: MediaDescription) -> RTCDtlsParameters:
    if media.dtls is None or not any(
        fingerprint.algorithm.lower() in X509_DIGEST_ALGORITHMS
        for fingerprint in media.dtls.fingerprints
    ):
        raise SdpError("the SDP offer has no setup and SHA-2 fingerprint", param="sdp")
    return media.dtls


def _sctp_port(media: MediaDescription | None) -> int:
    if media is None or media.sctp_port is None:
        port = next(iter(media.sctpmap), 5000) if media is not None else 5000
    else:
        port = media.sctp_port
    if not 0 < port < 65536:
        raise SdpError("the SDP offer has no valid sctp-port", param="sdp")
    return port


def _max_message(media: MediaDescription | None) -> int:
    if media is None or media.sctpCapabilities is None:
        # RFC 8841 section 6.1.
        return 64 * 1024
    return max(0, media.sctpCapabilities.maxMessageSize)


def as_candidate(candidate: RTCIceCandidate) -> Candidate | None:
    """None for what is malformed."""
    return Candidate.parse(candidate_to_sdp(candidate))


def as_rtc_candidate(candidate: Candidate) -> RTCIceCandidate:
    return RTCIceCandidate(
        candidate.component,
        candidate.foundation,
        candidate.host,
        candidate.port,
        candidate.priority,
        candidate.protocol,
        candidate.type,
    )


def _usable(candidate: RTCIceCandidate) -> bool:
    read = as_candidate(candidate)
    return read is not None and read.usable


def write_answer(offer: Offer, local: Local) -> str:
    """One section per m-line of the offer, in its order; the refused ones have port 0."""
    accepted = [i for i in (offer.audio, offer.data) if i is not None]
    lines = [
        "v=0",
        f"o=- {local.session_id} 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
    ]
    if mids := [s.mid for i, s in enumerate(offer.sections) if i in accepted and s.mid]:
        lines.append(f"a=group:BUNDLE {' '.join(mids)}")
    lines.append("a=msid-semantic: WMS *")
    for index, section in enumerate(offer.sections):
        if index == offer.audio:
            lines += [*_audio_lines(offer, local), *_transport_lines(offer, local)]
        elif index == offer.data:
            lines += [*_data_lines(section, local), *_transport_lines(offer, local)]
        else:
            lines += [
                f"m={section.kind} 0 {section.profile} {' '.join(section.formats)}",
                "c=IN IP4 0.0.0.0",
                "a=inactive",
            ]
        if section.mid:
            lines.append(f"a=mid:{section.mid}")
    return "\r\n".join(lines) + "\r\n"


def write_plain_offer(offer: Offer) -> str:
    """What of an offer is taken up, for a reader that would take up more of it."""
    codec, role = offer.codec, "active" if offer.setup == "passive" else "actpass"
    audio = [
        f"m=audio 9 UDP/TLS/RTP/SAVPF {offer.payload_type}",
        "a=mid:0",
        "a=rtcp-mux",
        f"a={REVERSED[offer.direction]}",
        f"a=rtpmap:{offer.payload_type} {codec.name}/{codec.clock_rate}"
        + ("/2" if codec is codecs.OPUS else ""),
    ]
    data = [
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:1",
        f"a=sctp-port:{offer.sctp_port}",
        f"a=max-message-size:{offer.max_message_bytes}",
    ]
    path = [
        "c=IN IP4 0.0.0.0",
        f"a=ice-ufrag:{offer.ice.usernameFragment}",
        f"a=ice-pwd:{offer.ice.password}",
        *(f"a=fingerprint:{each.algorithm} {each.value}" for each in offer.dtls.fingerprints),
        f"a=setup:{role}",
        *(f"a=candidate:{candidate_to_sdp(each)}" for each in offer.candidates),
    ]
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    lines += ["a=ice-lite"] if offer.ice.iceLite else []
    lines.append("a=group:BUNDLE 0" if offer.data is None else "a=group:BUNDLE 0 1")
    for section in (audio, data if offer.data is not None else []):
        lines += [section[0], *path, *section[1:]] if section else []
    return "\r\n".join(lines) + "\r\n"


def _audio_lines(offer: Offer, local: Local) -> Iterator[str]:
    codec, payload_type, event = offer.codec, offer.payload_type, offer.telephone_event
    formats = f"{payload_type}" if event is None else f"{payload_type} {event}"
    yield f"m=audio {_port(local)} {offer.sections[offer.audio].profile} {formats}"
    yield from _address_lines(local)
    yield "a=rtcp:9 IN IP4 0.0.0.0"
    yield "a=rtcp-mux"
    yield f"a={offer.direction}"
    if codec is codecs.OPUS:
        # RFC 7587 section 7: always /2, whatever is sent.
        yield f"a=rtpmap:{payload_type} opus/48000/2"
        yield f"a=fmtp:{payload_type} minptime=10;useinbandfec=1;stereo=0;sprop-stereo=0"
    else:
        yield f"a=rtpmap:{payload_type} {codec.name}/{codec.clock_rate}"
    if event is not None:
        yield f"a=rtpmap:{event} telephone-event/{offer.telephone_event_rate}"
        yield f"a=fmtp:{event} 0-15"
    yield "a=ptime:20"
    # A page that reads `event.streams[0]` finds a stream only if one is named here.
    yield "a=msid:realtime audio"
    yield f"a=ssrc:{local.ssrc} cname:{local.cname}"
    yield f"a=ssrc:{local.ssrc} msid:realtime audio"


def _data_lines(section: Section, local: Local) -> Iterator[str]:
    if section.profile == "DTLS/SCTP":
        yield f"m=application {_port(local)} DTLS/SCTP 5000"
        yield from _address_lines(local)
        yield "a=sctpmap:5000 webrtc-datachannel 16"
    else:
        yield f"m=application {_port(local)} {section.profile} webrtc-datachannel"
        yield from _address_lines(local)
        yield "a=sctp-port:5000"
    yield f"a=max-message-size:{MAX_MESSAGE_BYTES}"


def _transport_lines(offer: Offer, local: Local) -> Iterator[str]:
    yield f"a=ice-ufrag:{local.ice.usernameFragment}"
    yield f"a=ice-pwd:{local.ice.password}"
    yield f"a=fingerprint:{local.fingerprint.algorithm} {local.fingerprint.value}"
    yield f"a=setup:{offer.setup}"
    for candidate in local.candidates:
        yield f"a=candidate:{candidate_to_sdp(candidate)}"
    yield "a=end-of-candidates"


def _port(local: Local) -> int:
    return local.candidates[0].port


def _address_lines(local: Local) -> Iterator[str]:
    address = local.candidates[0].ip
    yield f"c=IN IP{6 if ':' in address else 4} {address}"

"""Offer and answer (RFC 3264) for calls of one audio stream: what a telephone and we agree on.

An answer names one codec, so that the peer has none to change to without asking.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bridge.errors import SdpError
from bridge.sdp.crypto import (
    PLAIN,
    SECURE_PROTOCOLS,
    Crypto,
    CryptoPair,
    MediaSecurity,
    Security,
)
from bridge.sdp.description import (
    Attribute,
    Direction,
    MediaDescription,
    Origin,
    RtpMap,
    SessionDescription,
)
from bridge.sdp.dtls import (
    ANYWHERE,
    DTLS_PROTOCOLS,
    NOWHERE,
    LocalPath,
    RemotePath,
    bundle_of_one,
    mid_of,
    path_attributes,
)
from bridge.sdp.reach import Endpoint, control_endpoint, endpoints, is_unspecified

CODECS = {
    "PCMU": RtpMap("PCMU", 8000),
    "PCMA": RtpMap("PCMA", 8000),
    "G722": RtpMap("G722", 8000),  # 16 kHz audio, an 8 kHz clock: RFC 3551 section 4.5.2
    "opus": RtpMap("opus", 48000, 2),
}
OFFERED_PAYLOAD_TYPES = {"PCMU": 0, "PCMA": 8, "G722": 9, "opus": 96}

PROTOCOLS = ("RTP/AVP", "RTP/AVPF", *SECURE_PROTOCOLS, *DTLS_PROTOCOLS)
PTIMES_MS = (10, 20, 30, 40, 60)
DEFAULT_PTIME_MS = 20

TELEPHONE_EVENT = "telephone-event"
EVENTS = "0-15"  # no flash hook (16)
# RFC 7587 section 6.1: what is above 12 kHz would be thrown away here.
MIN_BITRATE = 6000
OPUS_PARAMETERS = "maxplaybackrate=24000;useinbandfec=1"

MIRRORED: dict[Direction, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}

NOT_RECEIVING: dict[Direction, Direction] = {
    "sendrecv": "sendonly",
    "sendonly": "sendonly",
    "recvonly": "inactive",
    "inactive": "inactive",
}
"""What a peer means that offers c=0.0.0.0, the hold of RFC 2543 (RFC 3264 section 8.4)."""


@dataclass(frozen=True, slots=True)
class NegotiatedMedia:
    """`payload_type` and `telephone_event` both ways; `direction` is ours; `remote` may be 0.0.0.0
    while the peer holds the call, and says nothing where there is a `path`, which ICE finds. No
    `crypto` and no `path`: plain RTP. `fec`: the peer mends losses with what Opus sends twice;
    `bitrate`: what it wants of Opus at most, 0 if it does not say."""

    codec: str
    payload_type: int
    clock_rate: int
    ptime_ms: int
    telephone_event: int | None
    telephone_event_rate: int
    remote: Endpoint
    remote_rtcp: Endpoint
    direction: Direction
    crypto: CryptoPair | None = None
    fec: bool = False
    path: RemotePath | None = None
    bitrate: int = 0

    @property
    def sends(self) -> bool:
        """Whether the peer wants to hear us."""
        return self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        return self.direction in ("sendrecv", "recvonly")


@dataclass(frozen=True, slots=True)
class Answer:
    description: SessionDescription
    media: NegotiatedMedia


def answer(
    offer: SessionDescription,
    *,
    address: str,
    port: int,
    codecs: Sequence[str] = ("PCMU", "PCMA"),
    session_id: int,
    version: int,
    previous: SessionDescription | None = None,
    security: MediaSecurity = PLAIN,
) -> Answer:
    """Take the first audio stream we can serve, an encrypted one if there is any, and refuse the
    rest at port 0.

    `previous` is our last description in this dialog: its o= is kept, its version raised by one
    when anything else changed (RFC 3264 section 8), and `session_id` and `version` are not used.
    Raises SdpError when nothing is in common, or when SRTP must be used and cannot.
    """
    index, negotiated = _choose(offer, address=address, codecs=codecs, security=security)
    ours = security.path if negotiated.path is not None else None
    media = tuple(
        _accepted(line, negotiated, port, ours)
        if position == index
        else _refused(line, named=ours is not None)
        for position, line in enumerate(offer.media)
    )
    description = SessionDescription(
        origin=Origin("-", str(session_id), str(version), address),
        connection=address,
        timing=offer.timing,
        attributes=bundle_of_one(offer.media[index], offer) if ours is not None else (),
        media=media,
    )
    if previous is not None:
        description = _succeeding(previous, description)
    return Answer(description, negotiated)


def takes_dtls(
    offer: SessionDescription,
    *,
    address: str,
    codecs: Sequence[str],
    security: MediaSecurity,
) -> bool:
    """Whether the answer to this offer would be DTLS-SRTP, once our end is there."""
    try:
        _, negotiated = _choose(
            offer, address=address, codecs=codecs, security=replace(security, path=ANYWHERE)
        )
    except SdpError:
        return False
    return negotiated.path is not None


def offer(
    *,
    address: str,
    port: int,
    codecs: Sequence[str] = ("PCMU", "PCMA"),
    session_id: int,
    version: int,
    telephone_event: int = 101,
    direction: Direction = "sendrecv",
    security: MediaSecurity = PLAIN,
) -> SessionDescription:
    """All of `codecs` in our order, with telephone-event/8000, and /48000 if Opus is among them.

    Optional SRTP is a plain line with keys: peers without SRTP pass them over. With a path it is
    DTLS-SRTP and nothing else. Raises SdpError when SRTP is required and keys must not be sent.
    """
    path = security.path
    keys = security.offered() if path is None else ()
    rtpmaps = {OFFERED_PAYLOAD_TYPES[name]: CODECS[name] for name in codecs}
    rtpmaps[telephone_event] = RtpMap(TELEPHONE_EVENT, 8000)
    if "opus" in codecs:
        # RFC 4733 section 2.1: at the clock rate of the audio.
        rtpmaps[telephone_event + 1] = RtpMap(TELEPHONE_EVENT, CODECS["opus"].clock_rate)
    line = MediaDescription(
        kind="audio",
        port=port,
        protocol="RTP/SAVP" if security.required else "RTP/AVP",
        formats=tuple(map(str, rtpmaps)),
        attributes=tuple(_attributes(rtpmaps, DEFAULT_PTIME_MS, direction, keys)),
    )
    bundle: tuple[Attribute, ...] = ()
    if path is not None:
        bundle = (("group", "BUNDLE 0"),)
        line = replace(
            line,
            port=path.port,
            protocol="UDP/TLS/RTP/SAVPF",
            connection=path.host,
            attributes=(*line.attributes, *path_attributes(path, "actpass", "0")),
        )
    return SessionDescription(
        origin=Origin("-", str(session_id), str(version), address),
        connection=address,
        attributes=bundle,
        media=(line,),
    )


def reoffer(
    previous: SessionDescription, *, direction: Direction = "sendrecv"
) -> SessionDescription:
    """Our last description offered again, for a re-INVITE that brings no offer; the m= lines have
    to stay in number and order (RFC 3264 section 8)."""
    media = tuple(
        replace(line, attributes=_with_direction(line.attributes, direction)) if line.port else line
        for line in previous.media
    )
    return _succeeding(previous, replace(previous, media=media))


def accept_answer(
    offer: SessionDescription, answer: SessionDescription, *, security: MediaSecurity = PLAIN
) -> NegotiatedMedia:
    """What the peer chose from our offer. Raises SdpError when it refused, answered something else,
    or left out the keys of SRTP that must be used."""
    for position, ours in enumerate(offer.media):
        if ours.port == 0 or position >= len(answer.media):
            continue
        theirs = answer.media[position]
        if theirs.port == 0 or not _is_audio(theirs):
            break
        agreed = security.accept(ours, theirs, answer)
        offered = {rtpmap.encoding.lower() for rtpmap in ours.rtpmaps().values()}
        codecs = [name for name in CODECS if name.lower() in offered]
        # An answer need not repeat the rtpmap of a dynamic type it took from the offer.
        formats = list(_formats(theirs, fallback=ours))
        negotiated = _negotiate(answer, theirs, formats, codecs, agreed, offer.connection)
        if negotiated is not None:
            return negotiated
    raise SdpError("the answer takes none of the streams and codecs offered", code="invalid_answer")


def _choose(
    offer: SessionDescription, *, address: str, codecs: Sequence[str], security: MediaSecurity
) -> tuple[int, NegotiatedMedia]:
    """The first of the most secure lines."""
    best: tuple[int, NegotiatedMedia] | None = None
    strength = -1
    refusal: SdpError | None = None
    for index, line in enumerate(offer.media):
        if line.port == 0 or not _is_audio(line):
            continue
        try:
            agreed = security.answer(line, offer)
            if _strength(agreed) <= strength:
                continue
            formats = list(line.rtpmaps().items())
            negotiated = _negotiate(offer, line, formats, codecs, agreed, address)
        except SdpError as error:
            # The same audio may be offered by another IP version too (RFC 4091).
            refusal = refusal or error
            continue
        if negotiated is not None:
            best, strength = (index, negotiated), _strength(agreed)
    if best is None:
        raise refusal or SdpError(
            "no audio stream with a common codec is offered", code="no_common_codec"
        )
    return best


def _strength(agreed: Security | None) -> int:
    return 2 if isinstance(agreed, RemotePath) else 1 if agreed is not None else 0


def _is_audio(line: MediaDescription) -> bool:
    return line.kind.lower() == "audio" and line.protocol.upper() in PROTOCOLS


def _formats(line: MediaDescription, *, fallback: MediaDescription) -> Iterator[tuple[int, RtpMap]]:
    known = {**fallback.rtpmaps(), **line.rtpmaps()}
    for name in line.formats:
        payload_type = int(name) if name.isascii() and name.isdigit() and len(name) <= 3 else -1
        if payload_type in known:
            yield payload_type, known[payload_type]


def _negotiate(
    description: SessionDescription,
    line: MediaDescription,
    formats: Sequence[tuple[int, RtpMap]],
    codecs: Sequence[str],
    agreed: Security | None,
    address: str | None,
) -> NegotiatedMedia | None:
    """None when no codec fits. Raises SdpError when there is no address to send to from ours."""
    path = agreed if isinstance(agreed, RemotePath) else None
    chosen = _first_common(formats, codecs)
    if chosen is None:
        return None
    payload_type, codec = chosen
    clock_rate = CODECS[codec].clock_rate
    if path is not None:
        remote, control = (NOWHERE, line.port), control_endpoint(line, NOWHERE)
    else:
        remote, control = endpoints(line, description, address)
    event, event_rate = _telephone_event(formats, clock_rate)
    direction = description.direction_of(line)
    if path is None and is_unspecified(remote[0]):
        direction = NOT_RECEIVING[direction]
    return NegotiatedMedia(
        codec=codec,
        payload_type=payload_type,
        clock_rate=clock_rate,
        ptime_ms=_ptime_ms(line),
        telephone_event=event,
        telephone_event_rate=event_rate,
        remote=remote,
        remote_rtcp=control,
        direction=MIRRORED[direction],
        crypto=None if isinstance(agreed, RemotePath) else agreed,
        path=path,
        fec=codec == "opus" and "useinbandfec=1" in _parameters(line, payload_type),
        bitrate=_max_bitrate(_parameters(line, payload_type)) if codec == "opus" else 0,
    )


def _first_common(
    formats: Sequence[tuple[int, RtpMap]], codecs: Sequence[str]
) -> tuple[int, str] | None:
    """Payload type and codec, in the peer's order."""
    for payload_type, offered in formats:
        for codec in codecs:
            ours = CODECS[codec]
            same_format = (offered.clock_rate, offered.channels) == (ours.clock_rate, ours.channels)
            if same_format and offered.encoding.lower() == ours.encoding.lower():
                return payload_type, codec
    return None


def _telephone_event(
    formats: Sequence[tuple[int, RtpMap]], clock_rate: int
) -> tuple[int | None, int]:
    """The one at the codec's clock rate (RFC 4733 section 2.1), else at 8000, else any."""
    events = [(pt, each.clock_rate) for pt, each in formats if _is_event(each)]
    for rate in (clock_rate, 8000):
        for payload_type, event_rate in events:
            if event_rate == rate:
                return payload_type, rate
    return events[0] if events else (None, clock_rate)


def _is_event(rtpmap: RtpMap) -> bool:
    return rtpmap.encoding.lower() == TELEPHONE_EVENT


def _parameters(line: MediaDescription, payload_type: int) -> list[str]:
    """Of a=fmtp, in lower case and without blanks."""
    for name, value in line.attributes:
        head, _, parameters = (value or "").partition(" ")
        if name.lower() == "fmtp" and head == str(payload_type):
            return "".join(parameters.lower().split()).split(";")
    return []


def _max_bitrate(parameters: Sequence[str]) -> int:
    """RFC 7587 section 6.1, which knows 6 to 510 kbit/s."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "maxaveragebitrate" and value.isdecimal() and len(value) < 10:
            return max(MIN_BITRATE, int(value))
    return 0


def _ptime_ms(line: MediaDescription) -> int:
    ptime_ms = line.milliseconds("ptime") or DEFAULT_PTIME_MS
    if ptime_ms not in PTIMES_MS:
        ptime_ms = DEFAULT_PTIME_MS
    longest = line.milliseconds("maxptime") or ptime_ms
    return max((each for each in PTIMES_MS if each <= min(ptime_ms, longest)), default=ptime_ms)


def _attributes(
    rtpmaps: dict[int, RtpMap],
    ptime_ms: int,
    direction: Direction,
    keys: Sequence[Crypto] = (),
) -> Iterator[Attribute]:
    for key in keys:
        yield key.attribute()
    for payload_type, rtpmap in rtpmaps.items():
        yield "rtpmap", f"{payload_type} {rtpmap}"
        if _is_event(rtpmap):
            yield "fmtp", f"{payload_type} {EVENTS}"
        elif rtpmap == CODECS["opus"]:
            yield "fmtp", f"{payload_type} {OPUS_PARAMETERS}"
    yield "ptime", str(ptime_ms)
    yield direction, None


def _with_direction(
    attributes: tuple[Attribute, ...], direction: Direction
) -> tuple[Attribute, ...]:
    kept = tuple(each for each in attributes if each[0] not in MIRRORED)
    return (*kept, (direction, None))


def _accepted(
    line: MediaDescription, chosen: NegotiatedMedia, port: int, ours: LocalPath | None
) -> MediaDescription:
    rtpmaps = {chosen.payload_type: CODECS[chosen.codec]}
    if chosen.telephone_event is not None:
        rtpmaps[chosen.telephone_event] = RtpMap(TELEPHONE_EVENT, chosen.telephone_event_rate)
    keys = () if chosen.crypto is None else chosen.crypto[:1]
    attributes = tuple(_attributes(rtpmaps, chosen.ptime_ms, chosen.direction, keys))
    connection = None
    if ours is not None and chosen.path is not None:
        connection, port = ours.host, ours.port
        attributes += tuple(path_attributes(ours, chosen.path.setup, mid_of(line)))
    return MediaDescription(
        kind=line.kind,
        port=port,
        protocol=line.protocol,
        formats=tuple(map(str, rtpmaps)),
        connection=connection,
        attributes=attributes,
    )


def _refused(line: MediaDescription, *, named: bool) -> MediaDescription:
    mid = mid_of(line) if named else ""
    attributes: tuple[Attribute, ...] = (("mid", mid),) if mid else ()
    formats = line.formats or ("0",)
    return MediaDescription(line.kind, 0, line.protocol, formats, attributes=attributes)


def _succeeding(
    previous: SessionDescription, description: SessionDescription
) -> SessionDescription:
    if replace(description, origin=previous.origin) == previous:
        return previous
    version = previous.origin.version
    following = str(int(version) + 1) if version.isdigit() else "1"
    return replace(description, origin=replace(previous.origin, version=following))

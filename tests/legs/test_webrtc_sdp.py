import random

import pytest
from aiortc import RTCDtlsFingerprint, RTCIceCandidate, RTCIceParameters
from aiortc.sdp import SessionDescription

from bridge.audio import codecs
from bridge.errors import PayloadTooLarge, SdpError
from bridge.legs.webrtc_sdp import Local, read_offer, write_answer
from bridge.sdp.dtls import MAX_CANDIDATES

FINGERPRINT = "AB:" * 31 + "CD"

# As Chromium 130 writes it before it has gathered, without half of its header extensions.
CHROMIUM = f"""v=0
o=- 2671830405414287245 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:xPbh
a=ice-pwd:PbMwLxwkkyk3gHHMdjt8YG9c
a=ice-options:trickle
a=fingerprint:sha-256 {FINGERPRINT}
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=sendrecv
a=msid:- 29d1d7a5-3f4f-44d4-8fbf-6b5e5f35a6f4
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
a=ssrc:2570133461 cname:b0cVmYAGOGwHfKJd
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:xPbh
a=ice-pwd:PbMwLxwkkyk3gHHMdjt8YG9c
a=ice-options:trickle
a=fingerprint:sha-256 {FINGERPRINT}
a=setup:actpass
a=mid:1
a=sctp-port:5000
a=max-message-size:262144
""".replace("\n", "\r\n")

LOCAL = Local(
    ice=RTCIceParameters(usernameFragment="abcd", password="p" * 22),
    fingerprint=RTCDtlsFingerprint("sha-256", FINGERPRINT),
    candidates=(
        RTCIceCandidate(1, "f1", "192.0.2.2", 40000, 2130706431, "udp", "host"),
        RTCIceCandidate(1, "f2", "127.0.0.1", 40001, 2130706175, "udp", "host"),
    ),
    ssrc=4711,
    cname="c",
    session_id=1,
)


def answer(offer: str) -> list[str]:
    return write_answer(read_offer(offer), LOCAL).split("\r\n")


def test_chromium_gets_opus_events_and_a_data_channel() -> None:
    offer = read_offer(CHROMIUM)
    assert (offer.codec, offer.payload_type) == (codecs.OPUS, 111)
    assert (offer.telephone_event, offer.telephone_event_rate) == (110, 48_000)
    assert (offer.direction, offer.setup) == ("sendrecv", "active")
    assert (offer.audio, offer.data) == (0, 1)
    assert (offer.sctp_port, offer.max_message_bytes) == (5000, 262144)
    assert offer.candidates == ()
    assert offer.ice.usernameFragment == "xPbh"


def test_how_much_opus_a_browser_wants_is_read_from_its_fmtp() -> None:
    assert read_offer(CHROMIUM).bitrate == 0
    wanted = CHROMIUM.replace("useinbandfec=1", "useinbandfec=1;maxaveragebitrate=20000")
    assert read_offer(wanted).bitrate == 20_000
    of_another = CHROMIUM.replace("a=fmtp:63 111/111", "a=fmtp:63 maxaveragebitrate=20000")
    assert read_offer(of_another).bitrate == 0


def test_the_answer_carries_what_browsers_need() -> None:
    lines = answer(CHROMIUM)
    assert "a=group:BUNDLE 0 1" in lines
    assert "m=audio 40000 UDP/TLS/RTP/SAVPF 111 110" in lines
    assert "m=application 40000 UDP/DTLS/SCTP webrtc-datachannel" in lines
    assert "a=msid:realtime audio" in lines
    assert "a=ssrc:4711 cname:c" in lines
    assert lines.count("a=setup:active") == 2
    assert lines.count("a=candidate:f2 1 udp 2130706175 127.0.0.1 40001 typ host") == 2
    assert lines.index("a=mid:0") < lines.index("a=mid:1")


def test_the_answer_parses_with_somebody_elses_parser() -> None:
    session = SessionDescription.parse(write_answer(read_offer(CHROMIUM), LOCAL))
    assert [(m.kind, m.port, m.rtp.muxId) for m in session.media] == [
        ("audio", 40000, "0"),
        ("application", 40000, "1"),
    ]
    assert session.media[0].rtp.codecs[0].name == "opus"


def test_a_video_section_is_refused_in_its_place() -> None:
    video = (
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:v\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"
    )
    head, audio, data = CHROMIUM.partition("m=application")
    lines = answer((head + video + audio + data).replace("BUNDLE 0 1", "BUNDLE 0 v 1"))
    assert "m=video 0 UDP/TLS/RTP/SAVPF 96 97" in lines
    assert "a=group:BUNDLE 0 1" in lines
    assert [line for line in lines if line.startswith("a=mid:")] == [
        "a=mid:0",
        "a=mid:v",
        "a=mid:1",
    ]


def test_media_alone_is_enough() -> None:
    only = CHROMIUM.partition("m=application")[0].replace("BUNDLE 0 1", "BUNDLE 0")
    assert read_offer(only).data is None
    assert not [line for line in answer(only) if line.startswith("m=application")]


def test_a_data_channel_outside_the_bundle_is_refused() -> None:
    lines = answer(CHROMIUM.replace("a=group:BUNDLE 0 1\r\n", ""))
    assert "m=application 0 UDP/DTLS/SCTP webrtc-datachannel" in lines


def test_the_order_of_the_offer_decides_the_codec() -> None:
    offer = read_offer(CHROMIUM.replace("SAVPF 111 63 9 0 8", "SAVPF 63 0 9 111 8"))
    assert (offer.codec, offer.payload_type) == (codecs.PCMU, 0)
    assert (offer.telephone_event, offer.telephone_event_rate) == (126, 8000)
    offer = read_offer(CHROMIUM.replace("SAVPF 111 63 9 0 8", "SAVPF 63 9 0 111 8"))
    assert (offer.codec, offer.payload_type) == (codecs.G722, 9)
    assert (offer.telephone_event, offer.telephone_event_rate) == (126, 8000)


def test_a_static_payload_type_needs_no_rtpmap() -> None:
    bare = CHROMIUM.replace("SAVPF 111 63 9 0 8", "SAVPF 8").replace("a=rtpmap:8 PCMA/8000\r\n", "")
    assert read_offer(bare).codec is codecs.PCMA
    other = bare.replace("SAVPF 8", "SAVPF 9").replace("a=rtpmap:9 G722/8000\r\n", "")
    assert read_offer(other).codec is codecs.G722


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("sendrecv", "sendrecv"), ("sendonly", "recvonly"), ("recvonly", "sendonly")],
)
def test_direction_is_mirrored(theirs: str, ours: str) -> None:
    assert f"a={ours}" in answer(CHROMIUM.replace("a=sendrecv", f"a={theirs}"))


def test_an_active_offerer_leaves_us_passive() -> None:
    assert "a=setup:passive" in answer(CHROMIUM.replace("setup:actpass", "setup:active"))


def test_candidates_without_dns_tcp_or_multicast_and_no_more_than_the_cap() -> None:
    def candidates(*lines: str) -> tuple[RTCIceCandidate, ...]:
        text = "".join(f"a=candidate:{line}\r\n" for line in lines)
        return read_offer(CHROMIUM.replace("a=mid:0\r\n", f"a=mid:0\r\n{text}")).candidates

    usable = "1 1 udp 2122260223 192.0.2.7 5000 typ host"
    assert len(candidates(usable)) == 1
    for host in ("a.local", "example.com", "224.0.0.1", "255.255.255.255", "0.0.0.0", "fe80::1"):
        assert candidates(usable.replace("192.0.2.7", host)) == ()
    assert candidates(usable.replace("udp", "tcp") + " tcptype active") == ()
    assert candidates(usable.replace("5000", "0")) == ()
    assert candidates(usable.replace("1 1 udp", "1 2 udp")) == ()
    assert len(candidates(*[usable] * 1000)) == MAX_CANDIDATES


@pytest.mark.parametrize(
    "spoiled",
    [
        "",
        "hello",
        "v=0\r\n",
        CHROMIUM.replace("m=audio 9", "m=audio 0"),
        CHROMIUM.partition("m=audio")[0] + "m=application" + CHROMIUM.partition("m=application")[2],
        CHROMIUM.replace("a=rtcp-mux\r\n", ""),
        CHROMIUM.replace("a=ice-pwd:PbMwLxwkkyk3gHHMdjt8YG9c\r\n", ""),
        CHROMIUM.replace("a=setup:actpass", "a=setup:holdconn"),
        CHROMIUM.replace(f"a=fingerprint:sha-256 {FINGERPRINT}\r\n", ""),
        CHROMIUM.replace("sha-256", "md5"),
        CHROMIUM.replace("a=fingerprint:sha-256 ", "a=fingerprint:"),
        CHROMIUM.replace("opus", "ilbc").replace("PCM", "XYZ").replace("G722", "XYZ"),
        CHROMIUM.replace("a=mid:0", "a=mid:0 <script>"),
        CHROMIUM.replace("a=mid:0", "a=mid:" + "m" * 65),
        CHROMIUM.replace("sctp-port:5000", "sctp-port:70000"),
        CHROMIUM.replace("m=application 9", "m=app\ud800 9"),
        CHROMIUM + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 40,
    ],
)
def test_an_unusable_offer_is_an_sdp_error(spoiled: str) -> None:
    with pytest.raises(SdpError):
        read_offer(spoiled)


def test_a_huge_offer_is_too_large() -> None:
    with pytest.raises(PayloadTooLarge):
        read_offer(CHROMIUM + "a=x\r\n" * 20_000)


def test_lines_that_cost_quadratic_time_are_not_parsed() -> None:
    stuffed = CHROMIUM.replace("a=sendrecv\r\n", "a=sendrecv\r\n" + "a=rtcp-fb:* x\r\n" * 4000)
    assert read_offer(stuffed) == read_offer(CHROMIUM)


def mutated(text: str, rng: random.Random) -> str:
    lines = text.split("\r\n")
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines))
        line = lines[at]
        match rng.randrange(7):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[rng.randrange(len(lines))])
            case 2:
                lines[at] = line[: rng.randint(0, len(line))]
            case 3 if line:
                where = rng.randrange(len(line))
                lines[at] = (
                    line[:where] + chr(rng.choice([0, 32, 45, 58, 255, 8232])) + line[where:]
                )
            case 4:
                lines[at] = line.replace("0", str(rng.choice([-1, 2**31, 10**30])), 1)
            case 5:
                lines[at] = line.replace(":", rng.choice(["", " ", "::"]), 1)
            case _:
                lines[at] = " ".join(reversed(line.split(" ")))
        lines = lines or [""]
    return "\r\n".join(lines)


def test_two_thousand_mutated_offers_raise_nothing_but_sdp_error() -> None:
    rng = random.Random(20261121)
    accepted = 0
    for _ in range(2000):
        try:
            offer = read_offer(mutated(CHROMIUM, rng))
        except SdpError:
            continue
        accepted += 1
        assert len(SessionDescription.parse(write_answer(offer, LOCAL)).media) == len(
            offer.sections
        )
    assert 100 < accepted < 1900

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from bridge.errors import SdpError
from bridge.sdp.description import DIRECTIONS, Direction, RtpMap, SessionDescription
from bridge.sdp.negotiation import (
    Answer,
    NegotiatedMedia,
    accept_answer,
    answer,
    offer,
    reoffer,
)

DATA = Path(__file__).parent.parent / "data" / "sdp"
SAMPLES = sorted(path.stem for path in DATA.glob("*.sdp"))

OURS = "192.0.2.200"
HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
AUDIO = "m=audio 4000 RTP/AVP 0\r\n"


def sample(name: str) -> SessionDescription:
    return SessionDescription.parse((DATA / f"{name}.sdp").read_bytes())


def answered(
    offered: str | SessionDescription,
    *,
    address: str = OURS,
    port: int = 20000,
    codecs: tuple[str, ...] = ("PCMU", "PCMA"),
    previous: SessionDescription | None = None,
) -> Answer:
    if isinstance(offered, str):
        offered = SessionDescription.parse(offered)
    return answer(
        offered,
        address=address,
        port=port,
        codecs=codecs,
        session_id=77,
        version=1,
        previous=previous,
    )


def our_offer(*codecs: str) -> SessionDescription:
    return offer(
        address=OURS, port=20000, codecs=codecs or ("PCMU", "PCMA"), session_id=77, version=1
    )


def test_the_answer_to_twilio_word_for_word() -> None:
    result = answered(sample("twilio"))
    assert str(result.description).split("\r\n") == [
        "v=0",
        "o=- 77 1 IN IP4 192.0.2.200",
        "s=-",
        "c=IN IP4 192.0.2.200",
        "t=0 0",
        "m=audio 20000 RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        "a=sendrecv",
        "",
    ]
    assert result.media == NegotiatedMedia(
        codec="PCMU",
        payload_type=0,
        clock_rate=8000,
        ptime_ms=20,
        telephone_event=101,
        telephone_event_rate=8000,
        remote=("54.172.60.2", 17484),
        remote_rtcp=("54.172.60.2", 17485),
        direction="sendrecv",
    )


@pytest.mark.parametrize(
    ("name", "codec", "payload_type", "event", "lines"),
    [
        ("asterisk", "PCMA", 8, 101, ["audio 20000 RTP/AVP 8 101"]),
        ("baresip", "PCMU", 0, 101, ["audio 20000 RTP/AVP 0 101"]),
        ("fax-capable", "PCMA", 8, 127, ["audio 20000 RTP/AVP 8 127", "image 0 udptl t38"]),
        ("freeswitch", "PCMU", 0, 101, ["audio 20000 RTP/AVP 0 101"]),
        ("linphone", "PCMU", 0, 100, ["audio 20000 RTP/AVPF 0 100", "video 0 RTP/AVPF 96"]),
        ("microsip", "PCMA", 8, 101, ["audio 20000 RTP/AVP 8 101", "video 0 RTP/AVP 96"]),
        ("sipp", "PCMU", 0, None, ["audio 20000 RTP/AVP 0"]),
        ("srtp-or-plain", "PCMU", 0, 101, ["audio 0 RTP/SAVP 0 101", "audio 20000 RTP/AVP 0 101"]),
        ("telnyx", "PCMU", 0, 101, ["audio 20000 RTP/AVP 0 101"]),
        ("twilio", "PCMU", 0, 101, ["audio 20000 RTP/AVP 0 101"]),
    ],
)
def test_answers_to_peers(
    name: str, codec: str, payload_type: int, event: int | None, lines: list[str]
) -> None:
    result = answered(sample(name))
    media = result.media
    assert (media.codec, media.payload_type, media.telephone_event) == (codec, payload_type, event)
    written = str(result.description).split("\r\n")
    assert [line[2:] for line in written if line.startswith("m=")] == lines
    assert SessionDescription.parse(str(result.description)) == result.description


@pytest.mark.parametrize("name", ["t38", "microsip-srtp"])
def test_what_we_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(SdpError) as refusal:
        answered(sample(name))
    assert refusal.value.sip_status == 488
    assert ("SRTP" in refusal.value.message) is (name == "microsip-srtp")


def test_payload_types_of_the_offer_are_kept() -> None:
    result = answered(sample("ipv6"), address="2001:db8::1")
    assert result.media.codec == "PCMA"
    assert result.media.payload_type == 97
    assert result.media.telephone_event == 98
    assert "m=audio 20000 RTP/AVP 97 98\r\n" in str(result.description)
    assert "a=rtpmap:97 PCMA/8000\r\n" in str(result.description)
    assert "o=- 77 1 IN IP6 2001:db8::1\r\n" in str(result.description)
    assert "c=IN IP6 2001:db8::1\r\n" in str(result.description)


def test_a_static_number_with_another_meaning() -> None:
    media = answered(HEAD + AUDIO + "a=rtpmap:0 PCMA/8000\r\n").media
    assert (media.codec, media.payload_type) == ("PCMA", 0)


def test_the_order_of_the_offer_decides() -> None:
    assert answered(HEAD + "m=audio 4000 RTP/AVP 18 8 0\r\n").media.codec == "PCMA"
    assert answered(HEAD + "m=audio 4000 RTP/AVP 0 8\r\n", codecs=("PCMA",)).media.codec == "PCMA"


def test_wideband_when_asked_for() -> None:
    media = answered(sample("freeswitch"), codecs=("opus", "PCMU")).media
    assert (media.codec, media.payload_type, media.clock_rate) == ("opus", 102, 48000)
    assert (media.telephone_event, media.telephone_event_rate) == (103, 48000)
    media = answered(sample("telnyx"), codecs=("PCMU", "G722")).media
    assert (media.codec, media.payload_type, media.clock_rate) == ("G722", 9, 8000)


def test_telephone_event_at_another_clock_is_better_than_none() -> None:
    text = HEAD + "m=audio 4000 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/16000\r\n"
    result = answered(text)
    assert (result.media.telephone_event, result.media.telephone_event_rate) == (96, 16000)
    assert "a=rtpmap:96 telephone-event/16000\r\n" in str(result.description)


def test_codec_names_have_no_case() -> None:
    text = HEAD + "m=AUDIO 4000 rtp/avp 96\r\na=RTPMAP:96 pcmu/8000/1\r\n"
    result = answered(text)
    assert result.media.payload_type == 96
    assert "m=AUDIO 20000 rtp/avp 96\r\n" in str(result.description)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", 20),
        ("a=ptime:10\r\n", 10),
        ("a=ptime:20\r\n", 20),
        ("a=ptime:30\r\n", 30),
        ("a=ptime:40\r\n", 40),
        ("a=ptime:60\r\n", 60),
        ("a=ptime:0\r\n", 20),
        ("a=ptime:1000000000\r\n", 20),
        ("a=ptime:25\r\n", 20),
        ("a=maxptime:150\r\n", 20),
        ("a=maxptime:10\r\n", 10),
        ("a=ptime:60\r\na=maxptime:40\r\n", 40),
        ("a=maxptime:5\r\n", 20),
    ],
)
def test_ptime(attributes: str, expected: int) -> None:
    result = answered(HEAD + AUDIO + attributes)
    assert result.media.ptime_ms == expected
    assert f"a=ptime:{expected}\r\n" in str(result.description)


@pytest.mark.parametrize(
    ("offered", "ours"),
    [
        ("sendrecv", "sendrecv"),
        ("sendonly", "recvonly"),
        ("recvonly", "sendonly"),
        ("inactive", "inactive"),
    ],
)
def test_direction_is_mirrored(offered: str, ours: str) -> None:
    for text in (
        HEAD + AUDIO + f"a={offered}\r\n",
        HEAD + f"a={offered}\r\n" + AUDIO,
    ):
        result = answered(text)
        assert result.media.direction == ours
        assert f"a={ours}\r\n" in str(result.description)
        assert result.media.sends is (ours in ("sendrecv", "sendonly"))
        assert result.media.receives is (ours in ("sendrecv", "recvonly"))


@pytest.mark.parametrize(
    ("attribute", "ours"),
    [
        ("", "recvonly"),
        ("a=sendonly\r\n", "recvonly"),
        ("a=recvonly\r\n", "inactive"),
        ("a=inactive\r\n", "inactive"),
    ],
)
def test_an_address_of_zeros_is_hold(attribute: str, ours: str) -> None:
    media = answered(HEAD + AUDIO + "c=IN IP4 0.0.0.0\r\n" + attribute).media
    assert media.direction == ours
    assert media.remote == ("0.0.0.0", 4000)
    assert not media.sends


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("", ("192.0.2.1", 4001)),
        ("a=rtcp:53020\r\n", ("192.0.2.1", 53020)),
        ("a=rtcp:53020 IN IP4 192.0.2.9\r\n", ("192.0.2.9", 53020)),
        ("a=rtcp:53020 IN IP4 elsewhere.example\r\n", ("192.0.2.1", 53020)),
        ("a=rtcp:99999\r\n", ("192.0.2.1", 4001)),
        ("a=rtcp:0\r\n", ("192.0.2.1", 4001)),
        ("a=rtcp:\r\n", ("192.0.2.1", 4001)),
        ("a=rtcp:\u0664\r\n", ("192.0.2.1", 4001)),
    ],
)
def test_where_rtcp_goes(attribute: str, expected: tuple[str, int]) -> None:
    assert answered(HEAD + AUDIO + attribute).media.remote_rtcp == expected


def test_no_rtcp_beside_the_last_port() -> None:
    media = answered(HEAD + "m=audio 65535 RTP/AVP 0\r\n").media
    assert media.remote_rtcp == ("192.0.2.1", 0)


def test_rtcp_mux_is_not_taken() -> None:
    result = answered(
        HEAD + AUDIO + "a=rtcp-mux\r\na=candidate:1 1 UDP 1 192.0.2.1 4000 typ host\r\n"
    )
    assert "mux" not in str(result.description)
    assert "candidate" not in str(result.description)


def test_lines_are_mirrored_in_order() -> None:
    text = (
        HEAD
        + "m=video 4002 RTP/AVP 96 97\r\nm=audio 0 RTP/AVP 0\r\nm=audio 4004 RTP/AVP 18\r\n"
        + "m=application 4008 UDP/TLS/BFCP *\r\n"
        + "m=audio 4006 RTP/AVP 8\r\nm=audio 4010 RTP/AVP 0\r\nm=text 0 RTP/AVP\r\n"
    )
    result = answered(text)
    assert [(m.kind, m.port, m.formats) for m in result.description.media] == [
        ("video", 0, ("96", "97")),
        ("audio", 0, ("0",)),
        ("audio", 0, ("18",)),
        ("application", 0, ("*",)),
        ("audio", 20000, ("8",)),
        ("audio", 0, ("0",)),
        ("text", 0, ("0",)),
    ]
    assert result.media.remote == ("192.0.2.1", 4006)


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        HEAD + "m=audio 0 RTP/AVP 0\r\n",
        HEAD + "m=audio 4000 RTP/AVP\r\n",
        HEAD + "m=audio 4000 RTP/AVP 3 18\r\n",
        HEAD + "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/16000\r\n",
        HEAD + "m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n",
        HEAD + "m=audio 4000 TCP/RTP/AVP 0\r\n",
        HEAD + AUDIO + "c=IN IP4 media.example.com\r\n",
        HEAD + AUDIO + "c=IN IP4 224.2.1.1/127\r\n",
        HEAD + AUDIO + "c=IN IP4 255.255.255.255\r\n",
        HEAD + AUDIO + "c=IN IP6 2001:db8::1\r\n",
        HEAD + AUDIO + "c=IN IP4 999.1.1.1\r\n",
        HEAD + AUDIO + "c=IN IP6 fe80::1%eth0\r\n",
        HEAD.replace("c=IN IP4 192.0.2.1\r\n", "") + AUDIO,
    ],
)
def test_nothing_in_common(text: str) -> None:
    with pytest.raises(SdpError):
        answered(text)


def test_a_session_refresh_gets_the_same_answer() -> None:
    first = answered(sample("asterisk")).description
    assert answered(sample("asterisk"), previous=first).description == first


def test_the_version_rises_with_each_change() -> None:
    first = answered(sample("asterisk")).description
    held = answered(sample("asterisk-hold"), previous=first)
    assert held.media.direction == "recvonly"
    assert (held.description.origin.session_id, held.description.origin.version) == ("77", "2")
    resumed = answered(sample("asterisk"), previous=held.description).description
    assert resumed.origin.version == "3"
    assert resumed.media == first.media


def test_our_offer_word_for_word() -> None:
    assert str(our_offer()).split("\r\n") == [
        "v=0",
        "o=- 77 1 IN IP4 192.0.2.200",
        "s=-",
        "c=IN IP4 192.0.2.200",
        "t=0 0",
        "m=audio 20000 RTP/AVP 0 8 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        "a=sendrecv",
        "",
    ]


def test_we_understand_ourselves() -> None:
    ours = our_offer("opus", "G722", "PCMA")
    theirs = answer(
        ours, address="192.0.2.1", port=4000, codecs=("PCMA", "G722"), session_id=5, version=5
    )
    media = accept_answer(ours, theirs.description)
    assert media.codec == theirs.media.codec == "G722"
    assert media.remote == ("192.0.2.1", 4000)
    assert theirs.media.remote == (OURS, 20000)
    assert media.telephone_event == theirs.media.telephone_event == 101


def test_an_answer_without_rtpmaps() -> None:
    theirs = SessionDescription.parse(HEAD + "m=audio 4000 RTP/AVP 8 101\r\na=sendonly\r\n")
    media = accept_answer(our_offer(), theirs)
    assert (media.codec, media.payload_type, media.telephone_event) == ("PCMA", 8, 101)
    assert media.direction == "recvonly"


def test_an_answer_that_numbers_anew() -> None:
    text = HEAD + "m=audio 4000 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/8000\r\n"
    assert accept_answer(our_offer(), SessionDescription.parse(text)).telephone_event == 96


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        HEAD + "m=audio 0 RTP/AVP 0\r\n",
        HEAD + "m=video 4000 RTP/AVP 0\r\n",
        HEAD + "m=audio 4000 RTP/SAVP 0\r\n",
        HEAD + "m=audio 4000 RTP/AVP 9\r\n",
        HEAD + "m=audio 4000 RTP/AVP \u00b2 x 12345 101\r\n",
        HEAD + AUDIO + "c=IN IP4 media.example.com\r\n",
        HEAD + AUDIO + "c=IN IP6 ::1\r\n",
    ],
)
def test_answers_that_take_nothing(text: str) -> None:
    with pytest.raises(SdpError):
        accept_answer(our_offer(), SessionDescription.parse(text))


def test_offering_again_keeps_the_lines() -> None:
    first = answered(sample("microsip")).description
    assert reoffer(first) == first
    held = answered(
        (DATA / "microsip.sdp").read_text().replace("a=sendrecv", "a=sendonly"), previous=first
    )
    again = reoffer(held.description)
    assert again.origin.version == "3"
    assert [(line.kind, line.port) for line in again.media] == [("audio", 20000), ("video", 0)]
    assert again.media == first.media
    theirs = answer(again, address="192.0.2.1", port=4008, session_id=1, version=1)
    assert accept_answer(again, theirs.description).codec == "PCMA"


@pytest.mark.parametrize("offered", DIRECTIONS)
def test_both_sides_agree_on_the_direction(offered: Direction) -> None:
    ours = offer(address=OURS, port=20000, session_id=1, version=1, direction=offered)
    theirs = answer(ours, address="192.0.2.1", port=4000, session_id=5, version=5)
    media = accept_answer(ours, theirs.description)
    assert media.direction == offered
    assert media.sends is theirs.media.receives


texts = [(DATA / f"{name}.sdp").read_text() for name in SAMPLES]
pieces = st.sampled_from(
    ["", "0", "-1", "65536", "\0", "\r\n", "a=", "m=audio", "c=IN IP4 ", "/", ":", " ", "\u0663"]
) | st.text(max_size=8)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        text = text[:start] + draw(pieces) + text[end:]
    return text


@settings(deadline=None, max_examples=300)
@given(mutated(), mutated())
def test_mutations_are_answered_or_raise_sdp_error(one: str, two: str) -> None:
    ours = our_offer()
    previous = ours
    for text in (one, two):
        try:
            result = answered(text, previous=previous)
        except SdpError:
            pass
        else:
            previous = SessionDescription.parse(str(result.description))
            assert previous == result.description
        with suppress(SdpError):
            accept_answer(ours, SessionDescription.parse(text))


OPUS_OFFER = HEAD + "m=audio 4000 RTP/AVP 107 0\r\na=rtpmap:107 opus/48000/2\r\n"


@pytest.mark.parametrize(
    ("fmtp", "fec"),
    [
        ("", False),
        ("a=fmtp:107 stereo=1; useinbandfec=1\r\n", True),
        ("a=fmtp:107 useinbandfec=0\r\n", False),
        ("a=fmtp:0 useinbandfec=1\r\n", False),
        ("a=fmtp\r\n", False),
    ],
)
def test_whether_the_peer_mends_opus_is_read_from_its_fmtp(fmtp: str, fec: bool) -> None:
    reply = answered(OPUS_OFFER + fmtp, codecs=("PCMU", "opus"))
    assert (reply.media.codec, reply.media.fec) == ("opus", fec)
    assert "a=fmtp:107 maxplaybackrate=24000;useinbandfec=1\r\n" in str(reply.description)
    assert not answered(OPUS_OFFER + fmtp, codecs=("PCMU",)).media.fec


@pytest.mark.parametrize(("value", "bitrate"), [("32000", 32_000), ("many", 0), ("9" * 5000, 0)])
def test_how_much_opus_the_peer_wants_is_read_from_its_fmtp(value: str, bitrate: int) -> None:
    offer = f"{OPUS_OFFER}a=fmtp:107 stereo=0;maxaveragebitrate={value}\r\n"
    assert answered(offer, codecs=("opus",)).media.bitrate == bitrate
    assert answered(offer, codecs=("PCMU",)).media.bitrate == 0
    assert answered(OPUS_OFFER, codecs=("opus",)).media.bitrate == 0


def test_g722_keeps_its_clock_of_8_khz() -> None:
    reply = answered(HEAD + "m=audio 4000 RTP/AVP 9\r\n", codecs=("G722",))
    assert (reply.media.codec, reply.media.payload_type, reply.media.clock_rate) == (
        "G722",
        9,
        8000,
    )
    assert "a=rtpmap:9 G722/8000\r\n" in str(reply.description)


def test_an_offer_of_opus_has_events_at_both_clock_rates() -> None:
    line = our_offer("opus", "PCMU").media[0]
    assert line.formats == ("96", "0", "101", "102")
    assert line.rtpmaps()[102] == RtpMap("telephone-event", 48000)
    theirs = SessionDescription.parse(HEAD + "m=audio 4000 RTP/AVP 96 102\r\n")
    media = accept_answer(our_offer("opus", "PCMU"), theirs)
    assert (media.codec, media.telephone_event, media.telephone_event_rate) == ("opus", 102, 48000)

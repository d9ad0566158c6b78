from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from bridge.errors import SdpError
from bridge.sdp.description import (
    MAX_FORMATS,
    MAX_LINES,
    MAX_MEDIA,
    MAX_SIZE,
    MediaDescription,
    Origin,
    RtpMap,
    SessionDescription,
)

DATA = Path(__file__).parent.parent / "data" / "sdp"
SAMPLES = sorted(DATA.glob("*.sdp"))

MINIMAL = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
AUDIO = "m=audio 4000 RTP/AVP 0\r\n"


def sample(name: str) -> SessionDescription:
    return SessionDescription.parse((DATA / f"{name}.sdp").read_bytes())


def test_there_are_samples() -> None:
    assert len(SAMPLES) > 10


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_of_peers_round_trip(path: Path) -> None:
    description = SessionDescription.parse(path.read_bytes())
    assert str(description).encode() == path.read_bytes()
    assert bytes(description) == path.read_bytes()


def test_reads_all_of_a_description() -> None:
    description = sample("microsip")
    assert description.origin == Origin("-", "3940925211", "3940925211", "192.168.178.30")
    assert description.name == "pjmedia"
    assert description.connection is None
    assert description.bandwidth == ("AS:352",)
    assert description.attribute("x-nat") == "0"
    assert description.attribute("sendonly") is None
    audio, video = description.media
    assert (audio.kind, audio.port, audio.protocol) == ("audio", 4008, "RTP/AVP")
    assert audio.formats == ("8", "0", "101")
    assert audio.bandwidth == ("TIAS:64000",)
    assert audio.direction == "sendrecv"
    assert description.host_of(audio) == "192.168.178.30"
    assert audio.rtpmaps() == {
        8: RtpMap("PCMA", 8000),
        0: RtpMap("PCMU", 8000),
        101: RtpMap("telephone-event", 8000),
    }
    assert video.rtpmaps() == {96: RtpMap("H264", 90000)}


def test_static_payload_types_need_no_rtpmap() -> None:
    line = MediaDescription.parse_line("audio 4000 RTP/AVP 0 8 13 18 77 x 200")
    names = [rtpmap.encoding for rtpmap in line.rtpmaps().values()]
    assert names == ["PCMU", "PCMA", "CN", "G729"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PCMU/8000", RtpMap("PCMU", 8000)),
        ("opus/48000/2", RtpMap("opus", 48000, 2)),
        ("PCMU/8000/1", RtpMap("PCMU", 8000)),
        ("PCMU/8000/x", RtpMap("PCMU", 8000)),
        ("PCMU", None),
        ("PCMU/", None),
        ("/8000", None),
        ("PCMU/0", None),
        ("PCMU/-8000", None),
        ("PCMU/8_000", None),
        ("PCMU/" + "9" * 5000, None),
        ("PCMU/\u0668\u0660", None),
    ],
)
def test_rtpmap(text: str, expected: RtpMap | None) -> None:
    assert RtpMap.parse(text) == expected
    if expected is not None:
        assert RtpMap.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL.replace("\r\n", "\n") + AUDIO,
        MINIMAL.replace("\r\n", "\r") + AUDIO,
        MINIMAL.replace("\r\n", "  \r\n") + AUDIO,
        MINIMAL.replace("t=0 0\r\n", "") + AUDIO,
        MINIMAL.replace("t=0 0", "t=now") + AUDIO,
        MINIMAL.replace("s=-\r\n", "") + AUDIO,
        MINIMAL + "\r\n\r\n" + AUDIO + "\r\n",
        MINIMAL
        + "i=lunch\r\nu=x\r\ne=x\r\np=x\r\nz=0\r\nk=prompt\r\ny=?\r\ngarbage\r\n=\r\n"
        + AUDIO,
        MINIMAL + "o=- 9 9 IN IP4 192.0.2.9\r\ns=again\r\nc=IN IP4 192.0.2.9\r\n" + AUDIO,
        MINIMAL + AUDIO.rstrip(),
        MINIMAL + " m=audio  4000\tRTP/AVP 0 \r\n",
        MINIMAL + AUDIO + "\0",
        MINIMAL + "a=\0\r\n" + AUDIO,
        MINIMAL.replace("192.0.2.1\r\nt", "192.0.2.1/127\r\nt") + AUDIO,
        MINIMAL + "m=audio 4000/2 RTP/AVP 0\r\n",
    ],
)
def test_forgives(text: str) -> None:
    assert str(SessionDescription.parse(text)) == MINIMAL + AUDIO


def test_forgives_a_missing_origin() -> None:
    description = SessionDescription.parse("v=0\nc=IN IP4 192.0.2.1\n" + AUDIO)
    assert description.origin == Origin()
    assert SessionDescription.parse("v=0\no=alice\n").origin == Origin()


def test_a_connection_without_address_is_none() -> None:
    assert SessionDescription.parse("v=0\nc=IN IP4\n").connection is None


def test_session_level_connection_and_direction_hold_for_media() -> None:
    description = SessionDescription.parse(
        MINIMAL + "a=sendonly\r\n" + AUDIO + AUDIO + "c=IN IP4 192.0.2.2\r\na=inactive\r\n" + AUDIO
    )
    one, two, three = description.media
    assert [description.direction_of(line) for line in description.media] == [
        "sendonly",
        "inactive",
        "sendonly",
    ]
    assert description.host_of(one) == description.host_of(three) == "192.0.2.1"
    assert description.host_of(two) == "192.0.2.2"


def test_direction_is_sendrecv_when_nobody_says() -> None:
    description = SessionDescription.parse(MINIMAL + AUDIO)
    assert description.direction_of(description.media[0]) == "sendrecv"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a=ptime:30", 30),
        ("a=ptime: 30 ", 30),
        ("a=ptime:20.0", 20),
        ("a=ptime:1000000000", None),
        ("a=ptime:-20", None),
        ("a=ptime:", None),
        ("a=ptime", None),
        ("a=x", None),
    ],
)
def test_milliseconds(line: str, expected: int | None) -> None:
    media = SessionDescription.parse(MINIMAL + AUDIO + line).media[0]
    assert media.milliseconds("ptime") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "\0" * 100,
        "v=1\r\n" + AUDIO,
        AUDIO,
        MINIMAL + "m=\r\n",
        MINIMAL + "m=audio\r\n",
        MINIMAL + "m=audio 4000\r\n",
        MINIMAL + "m=audio x RTP/AVP 0\r\n",
        MINIMAL + "m=audio -1 RTP/AVP 0\r\n",
        MINIMAL + "m=audio 65536 RTP/AVP 0\r\n",
        MINIMAL + "m=audio " + "9" * 5000 + " RTP/AVP 0\r\n",
        MINIMAL + "m=audio \u00b2 RTP/AVP 0\r\n",
        MINIMAL + "m=audio 4000 RTP/AVP" + " 0" * (MAX_FORMATS + 1),
        MINIMAL + AUDIO * (MAX_MEDIA + 1),
        MINIMAL + "a=x\r\n" * MAX_LINES,
        MINIMAL + "a=" + "x" * MAX_SIZE,
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(SdpError):
        SessionDescription.parse(text)


def test_caps_themselves_are_allowed() -> None:
    formats = " ".join(["0"] * MAX_FORMATS)
    text = MINIMAL + AUDIO * (MAX_MEDIA - 1) + f"m=audio 1 RTP/AVP {formats}\r\n"
    description = SessionDescription.parse(text)
    assert len(description.media) == MAX_MEDIA
    assert len(description.media[-1].formats) == MAX_FORMATS


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\rb", "a\0b"])
def test_does_not_write_what_breaks_out_of_its_line(value: str) -> None:
    with pytest.raises(SdpError):
        str(SessionDescription(name=value))
    with pytest.raises(SdpError):
        str(SessionDescription(attributes=(("tool", value),)))


def test_writes_octets_whatever_the_characters() -> None:
    assert b"s=?" in bytes(SessionDescription(name="\ud800"))


lines = st.sampled_from(
    [line for path in SAMPLES for line in path.read_text().splitlines()]
) | st.text(max_size=30)


@given(st.lists(lines, max_size=40))
def test_any_lines_parse_or_raise_sdp_error(parts: list[str]) -> None:
    try:
        description = SessionDescription.parse("v=0\n" + "\n".join(parts))
    except SdpError:
        return
    assert SessionDescription.parse(str(description)) == description


@given(st.binary(max_size=200))
def test_any_octets_parse_or_raise_sdp_error(data: bytes) -> None:
    for prefix in (b"", b"v=0\n", b"v=0\nm=audio 1 RTP/AVP "):
        try:
            SessionDescription.parse(prefix + data)
        except SdpError:
            continue

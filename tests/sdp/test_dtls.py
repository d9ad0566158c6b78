import pytest

from bridge.errors import SdpError
from bridge.sdp.crypto import MediaSecurity, SrtpPolicy
from bridge.sdp.description import SessionDescription
from bridge.sdp.dtls import (
    INCOMPLETE,
    MAX_CANDIDATES,
    Candidate,
    Fingerprint,
    LocalPath,
    RemotePath,
    offers_dtls,
    path_attributes,
    read_path,
)
from bridge.sdp.negotiation import Answer, accept_answer, answer, offer, reoffer, takes_dtls

DIGEST = "AB:" * 31 + "CD"
HOST = "1 1 udp 2122260223 192.0.2.7 40012 typ host"

# A browser with JsSIP: everything under the line, .local names in place of addresses.
BROWSER = f"""v=0
o=- 4611731 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=extmap-allow-mixed
a=msid-semantic: WMS
m=audio 53012 UDP/TLS/RTP/SAVPF 111 0 110 126
c=IN IP4 198.51.100.4
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2113937151 3f1b0d24-0c1c.local 53012 typ host generation 0 network-cost 999
a=candidate:2 1 udp 1677729535 198.51.100.4 53012 typ srflx raddr 0.0.0.0 rport 0 generation 0
a=candidate:3 1 tcp 1518280447 198.51.100.4 9 typ host tcptype active generation 0
a=ice-ufrag:xPbh
a=ice-pwd:PbMwLxwkkyk3gHHMdjt8YG9c
a=ice-options:trickle
a=fingerprint:sha-256 {DIGEST}
a=setup:actpass
a=mid:0
a=sendrecv
a=msid:- 7f6e
a=rtcp-mux
a=rtpmap:111 opus/48000/2
"""

# A carrier's media server: ICE-lite and the fingerprint said once for the session.
SERVER = f"""v=0
o=- 1 1 IN IP4 203.0.113.65
s=-
c=IN IP4 203.0.113.65
t=0 0
a=ice-lite
a=fingerprint:SHA-1 AB:CD
a=fingerprint:SHA-256 {DIGEST.lower()}
a=ice-ufrag:6O0H
a=ice-pwd:yYyYyYyYyYyYyYyYyYyYyY
m=audio 40012 UDP/TLS/RTP/SAVPF 111 126
a=candidate:1 1 udp 2122260223 203.0.113.65 40012 typ host
a=setup:actpass
a=rtcp-mux
"""

OURS = LocalPath(
    "abcd",
    "p" * 22,
    Fingerprint("sha-256", DIGEST),
    tuple(filter(None, map(Candidate.parse, (HOST, HOST.replace("1 1", "2 1"))))),
)


def path(text: str, before: RemotePath | None = None) -> RemotePath:
    description = SessionDescription.parse(text)
    return read_path(description.media[0], description, before)


def test_a_candidate_reads_and_writes() -> None:
    for text in (
        HOST,
        "a/+9 1 udp 1 2001:db8::1 1 typ relay raddr 192.0.2.1 rport 5000",
        "2 1 udp 1677729535 198.51.100.4 53012 typ srflx raddr 0.0.0.0 rport 0",
    ):
        candidate = Candidate.parse(text)
        assert candidate is not None
        assert (str(candidate), candidate.usable) == (text, True)
    assert str(Candidate.parse(HOST + " generation 0 network-cost 50 odd")) == HOST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 1 udp 1 192.0.2.7 40012 typ",
        HOST.replace("typ", "type"),
        HOST.replace(" host", " hostile"),
        HOST.replace("40012", "4\u0661"),
        HOST.replace("40012", "-1"),
        HOST.replace("2122260223", "1_0"),
        HOST.replace("1 1 udp", "a;b 1 udp"),
    ],
)
def test_a_malformed_candidate(text: str) -> None:
    assert Candidate.parse(text) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("192.0.2.7", "3f1b.local"),
        ("192.0.2.7", "224.0.0.1"),
        ("192.0.2.7", "0.0.0.0"),
        ("192.0.2.7", "255.255.255.255"),
        ("192.0.2.7", "fe80::1"),
        ("udp", "tcp"),
        ("1 1 udp", "1 2 udp"),
        ("40012", "0"),
        ("40012", "65536"),
        ("2122260223", "4294967296"),
    ],
)
def test_candidates_that_nothing_is_sent_to(old: str, new: str) -> None:
    candidate = Candidate.parse(HOST.replace(old, new))
    assert candidate is not None
    assert not candidate.usable


def test_fingerprints() -> None:
    assert Fingerprint.parse(f"SHA-256 {DIGEST.lower()}") == Fingerprint("sha-256", DIGEST)
    for bad in ("", "sha-256", f"sha-1 {DIGEST}", f"sha-512 {DIGEST}", f"sha-256 {DIGEST}:"):
        assert Fingerprint.parse(bad) is None
    assert Fingerprint.parse("sha-256 " + DIGEST.replace("AB", "XY")) is None


def test_a_browser() -> None:
    found = path(BROWSER)
    assert (found.username, found.password) == ("xPbh", "PbMwLxwkkyk3gHHMdjt8YG9c")
    assert found.fingerprints == (Fingerprint("sha-256", DIGEST),)
    assert (found.setup, found.lite) == ("active", False)
    assert [(each.host, each.type) for each in found.candidates] == [("198.51.100.4", "srflx")]
    assert found.password not in repr(found)


def test_a_server_that_says_it_for_the_whole_session() -> None:
    found = path(SERVER)
    assert (found.username, found.lite, found.setup) == ("6O0H", True, "active")
    assert found.fingerprints == (Fingerprint("sha-256", DIGEST),)
    assert len(found.candidates) == 1


def test_a_line_that_leaves_it_to_its_bundle() -> None:
    head, _, audio = BROWSER.partition("m=audio")
    tagged = "m=video 5000 UDP/TLS/RTP/SAVPF 96\na=mid:v\n" + "".join(
        f"{line}\n" for line in audio.splitlines() if "ice-" in line or "fingerprint" in line
    )
    bare = "".join(
        f"{line}\n" for line in audio.splitlines() if "ice-" not in line and "finger" not in line
    )
    description = SessionDescription.parse(
        head.replace("BUNDLE 0", "BUNDLE v 0") + tagged + "a=setup:active\nm=audio" + bare
    )
    found = read_path(description.media[1], description)
    assert (found.username, found.setup) == ("xPbh", "passive")


@pytest.mark.parametrize(
    ("setup", "ours"), [("actpass", "active"), ("passive", "active"), ("active", "passive")]
)
def test_the_part_in_dtls(setup: str, ours: str) -> None:
    assert path(BROWSER.replace("setup:actpass", f"setup:{setup}")).setup == ours
    assert path(BROWSER.replace("a=setup:actpass\n", "")).setup == "passive"


def test_a_part_once_taken_is_kept() -> None:
    first = path(BROWSER.replace("setup:actpass", "setup:active"))
    again = path(BROWSER, first)
    assert (again.setup, again.keeps_keys(first)) == ("passive", True)
    other = path(BROWSER.replace("setup:actpass", "setup:passive"), first)
    assert (other.setup, other.keeps_keys(first)) == ("active", False)


@pytest.mark.parametrize(
    ("old", "new", "restarts", "keeps"),
    [
        ("typ srflx", "typ relay", False, True),
        ("xPbh", "yPbh", True, True),
        ("PbMw", "QbMw", True, True),
        ("AB:AB", "BA:AB", False, False),
        (DIGEST, DIGEST[::-1], False, False),
    ],
)
def test_what_begins_again(old: str, new: str, *, restarts: bool, keeps: bool) -> None:
    again, before = path(BROWSER.replace(old, new)), path(BROWSER)
    assert (again.restarts(before), again.keeps_keys(before)) == (restarts, keeps)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("a=rtcp-mux\n", "", "rtcp-mux"),
        ("a=ice-ufrag:xPbh\n", "", "not ICE"),
        ("a=ice-pwd:PbMwLxwkkyk3gHHMdjt8YG9c\n", "", "not ICE"),
        ("xPbh", "xP bh", "malformed"),
        ("sha-256", "sha-1", "fingerprint"),
        (f"a=fingerprint:sha-256 {DIGEST}\n", "", "fingerprint"),
        ("actpass", "holdconn", "holdconn"),
        ("actpass", "", "a=setup:"),
    ],
)
def test_what_is_lacking(old: str, new: str, why: str) -> None:
    with pytest.raises(SdpError, match=why) as caught:
        path(BROWSER.replace(old, new))
    lacks = why in ("rtcp-mux", "not ICE", "fingerprint")
    assert (caught.value.code == INCOMPLETE) is lacks


def test_more_candidates_than_make_sense() -> None:
    many = "".join(f"a=candidate:1 1 udp 1 192.0.2.7 {n} typ host\n" for n in range(1, 1000))
    assert len(path(BROWSER + many).candidates) <= MAX_CANDIDATES


@pytest.mark.parametrize(
    ("profile", "fingerprint", "expected"),
    [
        ("UDP/TLS/RTP/SAVP", "", True),
        ("udp/tls/rtp/savpf", "", True),
        ("RTP/SAVPF", f"a=fingerprint:sha-256 {DIGEST}\n", True),
        ("RTP/AVP", f"a=fingerprint:sha-256 {DIGEST}\n", True),
        ("RTP/AVP", "", False),
        ("RTP/SAVP", "", False),
    ],
)
def test_lines_that_offer_it(profile: str, fingerprint: str, *, expected: bool) -> None:
    description = SessionDescription.parse(f"v=0\nm=audio 5004 {profile} 0\n{fingerprint}")
    assert offers_dtls(description.media[0], description) is expected


def test_our_end() -> None:
    assert (OURS.host, OURS.port) == ("192.0.2.7", 40012)
    assert OURS.password not in repr(OURS)
    lines = [n if v is None else f"{n}:{v}" for n, v in path_attributes(OURS, "active", "0")]
    assert lines == [
        "mid:0",
        "msid:realtime audio",
        "rtcp-mux",
        "ice-ufrag:abcd",
        f"ice-pwd:{'p' * 22}",
        f"candidate:{HOST}",
        f"candidate:2{HOST[1:]}",
        "end-of-candidates",
        f"fingerprint:sha-256 {DIGEST}",
        "setup:active",
    ]


# Offer and answer

PLAIN_LINE = "m=audio 5004 RTP/AVP 0\nc=IN IP4 192.0.2.7\n"
KEY_LINE = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40 + "\n"
KEYED_LINE = PLAIN_LINE.replace("AVP", "SAVP") + KEY_LINE


def answered(
    text: str,
    policy: SrtpPolicy = "optional",
    *,
    ours: LocalPath | None = OURS,
    before: Answer | None = None,
    tls: bool = True,
) -> Answer:
    security = MediaSecurity(
        policy,
        secure_signalling=tls,
        path=ours,
        agreed=before.media.path if before is not None else None,
    )
    return answer(
        SessionDescription.parse(text),
        address="192.0.2.1",
        port=20000,
        codecs=("opus", "PCMU"),
        session_id=1,
        version=1,
        previous=before.description if before is not None else None,
        security=security,
    )


def would_take(text: str, policy: SrtpPolicy = "optional") -> bool:
    description = SessionDescription.parse(text)
    security = MediaSecurity(policy, secure_signalling=True)
    return takes_dtls(description, address="192.0.2.1", codecs=("opus", "PCMU"), security=security)


def test_a_browser_is_answered() -> None:
    found = answered(BROWSER)
    text = str(found.description)
    assert text.startswith("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n")
    assert "a=group:BUNDLE 0\r\nm=audio 40012 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 192.0.2.7" in text
    assert "a=rtpmap:111 opus/48000/2\r\n" in text
    for line in ("rtcp-mux", "setup:active", "mid:0", "ice-ufrag:abcd", f"candidate:{HOST}"):
        assert text.count(f"\r\na={line}\r\n") == 1
    assert "crypto" not in text
    assert found.media.path is not None
    assert found.media.path.username == "xPbh"
    assert (found.media.codec, found.media.direction) == ("opus", "sendrecv")
    assert found.media.crypto is None


def test_a_browser_that_has_not_gathered_is_not_on_hold() -> None:
    bare = BROWSER.replace("m=audio 53012", "m=audio 9").replace(
        "198.51.100.4\na=rtcp:", "0.0.0.0\na="
    )
    assert answered(bare).media.direction == "sendrecv"


@pytest.mark.parametrize(
    ("direction", "ours"), [("sendonly", "recvonly"), ("inactive", "inactive")]
)
def test_hold_keeps_the_path(direction: str, ours: str) -> None:
    first = answered(BROWSER)
    held = answered(BROWSER.replace("sendrecv", direction), before=first)
    assert held.media.direction == ours
    assert held.media.path == first.media.path
    assert held.description.origin.version == "2"
    resumed = answered(BROWSER, before=held)
    assert resumed.description.media == first.description.media


def test_all_but_the_audio_leaves_the_bundle() -> None:
    video = "m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:1\na=rtcp-mux\n"
    found = answered(BROWSER.replace("BUNDLE 0", "BUNDLE 0 1") + video).description
    assert found.attributes == (("group", "BUNDLE 0"),)
    assert (found.media[1].port, found.media[1].attributes) == (0, (("mid", "1"),))


def test_without_a_bundle_there_is_none_in_the_answer() -> None:
    found = answered(SERVER.replace("111 126", "0")).description
    assert found.attributes == ()
    assert found.media[0].attribute("mid") is None


@pytest.mark.parametrize("policy", ["optional", "required", "dtls"])
@pytest.mark.parametrize("tls", [True, False])
def test_both_profiles(policy: SrtpPolicy, *, tls: bool) -> None:
    """The most secure one, wherever it stands."""
    head, _, audio = BROWSER.partition("m=audio")
    for text in (
        BROWSER + PLAIN_LINE + KEYED_LINE,
        head + PLAIN_LINE + KEYED_LINE + "m=audio" + audio,
    ):
        assert would_take(text, policy)
        found = answered(text, policy, tls=tls)
        assert found.media.path is not None
        assert [line.port > 0 for line in found.description.media].count(True) == 1


def test_both_ways_in_one_line() -> None:
    both = BROWSER.replace("UDP/TLS/RTP/SAVPF", "RTP/SAVPF") + KEY_LINE
    assert would_take(both)
    assert answered(both).media.path is not None
    lame = both.replace("a=rtcp-mux\n", "")
    assert not would_take(lame)
    found = answered(lame, ours=None).media
    assert found.path is None
    assert found.crypto is not None


def test_what_cannot_be_carried_leaves_the_others() -> None:
    for text in (BROWSER.replace("a=ice-ufrag:xPbh\n", ""), BROWSER.replace("111 0", "112")):
        assert not would_take(text)
        assert not would_take(text + PLAIN_LINE)
        assert answered(text + PLAIN_LINE, ours=None).media.path is None
        with pytest.raises(SdpError):
            answered(text, ours=None)


@pytest.mark.parametrize(
    ("text", "policy", "why"),
    [
        (BROWSER, "off", "SRTP is off"),
        (BROWSER.replace("a=rtcp-mux\n", ""), "optional", "rtcp-mux"),
        (BROWSER.replace("a=ice-pwd:PbMwLxwkkyk3gHHMdjt8YG9c\n", ""), "required", "not ICE"),
        (PLAIN_LINE.replace("m=", "v=0\nm="), "required", "SRTP is required"),
        ("v=0\n" + PLAIN_LINE, "dtls", "DTLS-SRTP is required, and not offered"),
        ("v=0\n" + KEYED_LINE, "dtls", "DTLS-SRTP is required, and not offered"),
    ],
)
def test_policies_that_do_not_meet(text: str, policy: SrtpPolicy, why: str) -> None:
    assert not would_take(text, policy)
    with pytest.raises(SdpError, match=why):
        answered(text, policy, ours=None)


@pytest.mark.parametrize("policy", ["off", "optional", "required", "dtls"])
@pytest.mark.parametrize("text", ["v=0\n" + PLAIN_LINE, "v=0\n" + KEYED_LINE])
def test_a_call_with_dtls_keeps_it(policy: SrtpPolicy, text: str) -> None:
    first = answered(BROWSER)
    with pytest.raises(SdpError, match="DTLS"):
        answered(text, policy, before=first)


def test_a_call_without_dtls_gets_none() -> None:
    first = answered("v=0\n" + PLAIN_LINE, ours=None)
    with pytest.raises(SdpError, match="from the beginning"):
        answered(BROWSER, ours=None, before=first)


def test_our_offer_and_its_answer() -> None:
    ours = MediaSecurity("optional", path=OURS)
    made = offer(
        address="192.0.2.1", port=1, codecs=("opus", "PCMU"), session_id=1, version=1, security=ours
    )
    assert (made.media[0].protocol, made.media[0].port) == ("UDP/TLS/RTP/SAVPF", 40012)
    assert made.media[0].attribute("setup") == "actpass"
    back = answered(str(made))
    assert back.media.path is not None
    assert back.description.attributes == (("group", "BUNDLE 0"),)
    taken = accept_answer(made, SessionDescription.parse(str(back.description)), security=ours)
    assert taken.path is not None
    assert (back.media.path.setup, taken.path.setup) == ("active", "passive")
    assert (taken.codec, taken.path.fingerprints) == ("opus", (OURS.fingerprint,))
    again = reoffer(back.description)
    assert answered(str(again)).media.path is not None
    with pytest.raises(SdpError):
        accept_answer(made, answered("v=0\n" + PLAIN_LINE, ours=None).description, security=ours)

import pytest

from bridge.errors import SdpError
from bridge.sdp.description import SessionDescription
from bridge.sdp.dtls import (
    MAX_CANDIDATES,
    Candidate,
    Fingerprint,
    LocalPath,
    RemotePath,
    offers_dtls,
    path_attributes,
    read_path,
)

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
    assert (again.setup, again.continues(first)) == ("passive", True)
    other = path(BROWSER.replace("setup:actpass", "setup:passive"), first)
    assert (other.setup, other.continues(first)) == ("active", False)


@pytest.mark.parametrize(
    ("old", "new"), [("xPbh", "yPbh"), ("PbMw", "QbMw"), ("AB:AB", "BA:AB"), (DIGEST, DIGEST[::-1])]
)
def test_what_begins_again(old: str, new: str) -> None:
    assert path(BROWSER).continues(path(BROWSER.replace("typ srflx", "typ relay")))
    assert not path(BROWSER.replace(old, new)).continues(path(BROWSER))


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
    with pytest.raises(SdpError, match=why):
        path(BROWSER.replace(old, new))


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
    candidates = tuple(filter(None, map(Candidate.parse, (HOST, HOST.replace("1 1", "2 1")))))
    ours = LocalPath("abcd", "p" * 22, Fingerprint("sha-256", DIGEST), candidates)
    assert (ours.host, ours.port) == ("192.0.2.7", 40012)
    assert ours.password not in repr(ours)
    line = SessionDescription.parse(BROWSER).media[0]
    lines = [n if v is None else f"{n}:{v}" for n, v in path_attributes(ours, path(BROWSER), line)]
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

"""`bridge check --invite`: captured calls before the code that takes live ones."""

import random
from pathlib import Path
from typing import Any

import pytest

from bridge.cli import main
from bridge.sip.auth import Challenge, Credentials, answer
from bridge.sip.message import Request
from tests.sip.playbook import caller_request

SDP = (
    "v=0\r\no=- 1 1 IN IP4 203.0.113.9\r\ns=-\r\nc=IN IP4 203.0.113.9\r\nt=0 0\r\n"
    "m=audio 4000 RTP/AVP 0 8\r\n"
)
KEY = "B" * 40
SECURE_SDP = (
    SDP.replace("RTP/AVP", "RTP/SAVP") + f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n"
)
CARRIER = """
[auth]
api_keys = ["k"]
[sip.trunks.carrier]
addresses = ["203.0.113.0/24"]
"""
Said = pytest.CaptureFixture[str]


def check(
    folder: Path, capsys: Said, invite: object, settings: str = CARRIER, *flags: str
) -> tuple[int, str]:
    """The status, and what is said."""
    file, config = folder / "invite.txt", folder / "bridge.toml"
    file.write_bytes(bytes(invite) if isinstance(invite, Request) else str(invite).encode())
    config.write_text(settings)
    status = main(["check", "--config", str(config), "--invite", str(file), *flags])
    said = capsys.readouterr()
    text = said.out + said.err
    assert KEY not in text
    assert "wonderland" not in text
    return status, text


def invite(body: str = SDP, **how: Any) -> Request:
    via = "SIP/2.0/UDP 203.0.113.9:5062;branch={branch};rport"
    return caller_request(body=body.encode(), via=via, **how)


def test_a_call_that_is_taken(tmp_path: Path, capsys: Said) -> None:
    status, said = check(tmp_path, capsys, invite())
    assert status == 0
    assert said.splitlines() == [
        "INVITE from 203.0.113.9:5062 by udp",
        "compared 203.0.113.9 with carrier 203.0.113.0/24: yes",
        "taken as  sip.trunks.carrier",
        "verdict   accepted by trunk carrier with codec PCMU, SRTP none",
        "then      answered with the default session",
    ]


def test_the_offer_may_be_ours(tmp_path: Path, capsys: Said) -> None:
    status, said = check(tmp_path, capsys, invite(body=""), CARRIER + 'codecs = ["PCMA"]\n')
    assert (status, "our offer of PCMA" in said) == (0, True)


def test_a_stranger(tmp_path: Path, capsys: Said) -> None:
    status, said = check(tmp_path, capsys, invite(), CARRIER, "--from", "198.51.100.7")
    assert status == 1
    assert "compared 198.51.100.7 with carrier 203.0.113.0/24: no" in said
    assert "sip.unknown_sources may call: no" in said
    assert "verdict   met with silence" in said
    assert "change    sip.trunks.<name>.addresses" in said


@pytest.mark.parametrize(
    ("body", "settings", "flags", "verdict", "change"),
    [
        (SDP, 'codecs = ["opus"]', (), "refused 488", "sip.trunks.carrier.codecs"),
        (SDP, 'srtp = "required"', (), "refused 488", 'sip.trunks.carrier.srtp = "optional"'),
        (SECURE_SDP, "", (), "refused 488", 'sip.trunks.carrier.srtp = "optional"'),
        (SECURE_SDP, 'srtp = "optional"', (), "refused 488", "let the caller come by TLS"),
        ("nonsense\r\n", "", (), "refused 488", "the session description of the caller"),
    ],
)
def test_media_that_does_not_fit(
    tmp_path: Path,
    capsys: Said,
    body: str,
    settings: str,
    flags: tuple[str, ...],
    verdict: str,
    change: str,
) -> None:
    status, said = check(tmp_path, capsys, invite(body=body), CARRIER + settings, *flags)
    assert status == 1
    assert f"verdict   {verdict} because " in said
    assert f"change    {change}" in said


def test_keys_by_tls(tmp_path: Path, capsys: Said) -> None:
    settings = CARRIER + 'srtp = "required"'
    status, said = check(tmp_path, capsys, invite(body=SECURE_SDP), settings, "--transport", "tls")
    assert status == 0
    assert "codec PCMU, SRTP AES_CM_128_HMAC_SHA1_80" in said


BROWSER_SDP = (
    "v=0\r\no=- 1 1 IN IP4 203.0.113.9\r\ns=-\r\nt=0 0\r\n"
    "m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 203.0.113.9\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n"
    f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}\r\na=setup:actpass\r\na=rtcp-mux\r\n"
    "a=candidate:1 1 udp 1 203.0.113.9 4000 typ host\r\n"
)


def test_keys_by_dtls(tmp_path: Path, capsys: Said) -> None:
    settings = CARRIER + 'srtp = "required"'
    status, said = check(tmp_path, capsys, invite(body=BROWSER_SDP), settings)
    assert (status, "codec PCMU, SRTP dtls" in said) == (0, True), said
    status, said = check(tmp_path, capsys, invite(body=BROWSER_SDP))
    assert status == 1
    assert "(PCMU/8000); taken: opus G722 PCMU PCMA, SRTP off" in said


GUARDED = CARRIER + '[sip.trunks.carrier.digest]\nusers = {alice = "wonderland"}\n'


def answered(password: str, user: str = "alice") -> Request:
    """To a challenge of a week ago."""
    challenge = Challenge("carrier", "f" * 60, "SHA-256", ("auth",), None)
    plain = invite()
    given = answer(
        challenge,
        "INVITE",
        plain.uri,
        plain.body,
        Credentials(user, password),
        random.Random(1),
        1,
    )
    return invite(headers=[("Authorization", str(given))])


def test_passwords(tmp_path: Path, capsys: Said) -> None:
    assert check(tmp_path, capsys, answered("wonderland"), GUARDED)[0] == 0
    status, said = check(tmp_path, capsys, answered("guess"), GUARDED)
    assert status == 1
    assert "refused 401 because realm carrier: the password is not the one of that user" in said
    assert "no such user" in check(tmp_path, capsys, answered("x", "bob"), GUARDED)[1]
    status, said = check(tmp_path, capsys, invite(), GUARDED)
    assert status == 1
    assert "no Authorization" in said
    assert "capture that one" in said


def test_captures_are_made_good(tmp_path: Path, capsys: Said) -> None:
    """Lines before it, line ends of Unix, and the last one lost."""
    length = ("Content-Length", str(len(SDP)))
    text = bytes(invite(headers=[length])).decode().replace("\r\n", "\n").rstrip("\n")
    captured = "2026/11/21 10:00:00 203.0.113.9:5062 -> 192.0.2.1:5060\n" + text
    status, said = check(tmp_path, capsys, captured)
    assert status == 0, said


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("REGISTER sip:x SIP/2.0\r\n\r\n", (), "no line like 'INVITE "),
        ("", (), "no line like 'INVITE "),
        ("INVITE sip:x SIP/2.0\r\nTo: x\r\n\r\n", (), "cannot be read as SIP: no Via"),
        ("INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP pbx;branch=x\r\n\r\n", (), "names pbx"),
        (invite(), ("--from", "carrier.example"), "write an IP address"),
        (invite(), ("--from", "192.0.2.1:99999"), "from 1 to 65535"),
    ],
)
def test_what_cannot_be_looked_at(
    tmp_path: Path, capsys: Said, text: object, flags: tuple[str, ...], said: str
) -> None:
    status, told = check(tmp_path, capsys, text, CARRIER, *flags)
    assert status == 2
    assert told.startswith("bridge: ")
    assert said in told
    assert told.count("\n") == 1


def test_no_file(tmp_path: Path, capsys: Said) -> None:
    missing = tmp_path / "nothing.txt"
    assert main(["check", "--invite", str(missing)]) == 2
    assert capsys.readouterr().err == f"bridge: --invite {missing}: No such file or directory\n"


def test_a_broken_invite_is_refused_as_it_would_be(tmp_path: Path, capsys: Said) -> None:
    broken = bytes(invite()).replace(b"CSeq: 1 INVITE\r\n", b"").decode()
    status, said = check(tmp_path, capsys, broken)
    assert (status, "refused 400 because Missing Cseq" in said) == (1, True)


def test_ipv6(tmp_path: Path, capsys: Said) -> None:
    settings = CARRIER.replace("203.0.113.0/24", "2001:db8::/32")
    settings += '[rtp]\nadvertised_address = "2001:db8::1"\n'
    body = SDP.replace("IP4 203.0.113.9", "IP6 2001:db8::9")
    flags = ("--from", "[2001:db8::9]:5062", "--transport", "tcp")
    status, said = check(tmp_path, capsys, invite(body=body), settings, *flags)
    assert status == 0, said


def test_help_says_how(capsys: Said) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    said = capsys.readouterr().out
    assert "--invite FILE" in said
    assert "1 it would be refused" in said

from base64 import b64encode

import pytest
from hypothesis import given, strategies as st

from bridge.errors import SdpError
from bridge.sdp.crypto import SUITES, Crypto, CryptoPair, MediaSecurity, SrtpPolicy, cryptos
from bridge.sdp.description import SessionDescription
from bridge.sdp.negotiation import Answer, accept_answer, answer, offer, reoffer

HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
THEIR_KEY = bytes(range(30))
OTHER_KEY = bytes(range(1, 31))
OUR_KEY = b"\xa5" * 30
INLINE = "inline:" + b64encode(THEIR_KEY).decode()
CRYPTO = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 {INLINE}\r\n"
OTHER = CRYPTO.replace(INLINE, "inline:" + b64encode(OTHER_KEY).decode())
SECURE = HEAD + "m=audio 4000 RTP/SAVP 0\r\n"
PLAIN = HEAD + "m=audio 4000 RTP/AVP 0\r\n"


def security(
    policy: SrtpPolicy = "optional", *, tls: bool = True, current: CryptoPair | None = None
) -> MediaSecurity:
    return MediaSecurity(
        policy, secure_signalling=tls, current=current, new_key=lambda size: b"\xa5" * size
    )


def answered(text: str, rules: MediaSecurity, previous: SessionDescription | None = None) -> Answer:
    return answer(
        SessionDescription.parse(text),
        address="192.0.2.200",
        port=20000,
        session_id=1,
        version=1,
        previous=previous,
        security=rules,
    )


def offered(rules: MediaSecurity) -> SessionDescription:
    return offer(address="192.0.2.200", port=20000, session_id=1, version=1, security=rules)


@pytest.mark.parametrize(("suite", "size"), SUITES.items())
def test_round_trip(suite: str, size: int) -> None:
    crypto = Crypto(7, suite, bytes(range(size)))
    name, value = crypto.attribute()
    assert name == "crypto"
    assert value is not None
    assert Crypto.parse(value) == crypto


@pytest.mark.parametrize(
    "value",
    [
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE}",
        f"1 aes_cm_128_hmac_sha1_80 {INLINE.replace('inline', 'INLINE')}",
        f"000000001 AES_CM_128_HMAC_SHA1_80 {INLINE.rstrip('=')}",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE}|2^20",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE}|1048576",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE}|2^31|1:0",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE} WSH=128",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE} -KDR=4 -UNKNOWN",
    ],
)
def test_lines_taken(value: str) -> None:
    assert Crypto.parse(value) == Crypto(1, "AES_CM_128_HMAC_SHA1_80", THEIR_KEY)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        "1 AES_CM_128_HMAC_SHA1_80",
        f"x AES_CM_128_HMAC_SHA1_80 {INLINE}",
        f"1 AES_CM_256_NOT_YET {INLINE}",
        f"1 AEAD_AES_256_GCM {INLINE}",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE}|2^20|1:4",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE}|1:4",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE}|2^20|1",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE};{INLINE}",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE} UNENCRYPTED_SRTP",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE} UNAUTHENTICATED_SRTP",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE} KDR=4",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE[:-4]}",
        "1 AES_CM_128_HMAC_SHA1_80 inline:%%%%",
        "1 AES_CM_128_HMAC_SHA1_80 inline:\u00e9",
        "1 AES_CM_128_HMAC_SHA1_80 uri:https://192.0.2.1/key",
    ],
)
def test_lines_passed_over(value: str) -> None:
    assert Crypto.parse(value) is None


@given(st.text(max_size=120))
def test_rubbish_is_no_key(value: str) -> None:
    assert Crypto.parse(value) is None


def test_keys_are_in_no_repr() -> None:
    result = answered(SECURE + CRYPTO, security())
    shown = repr((result, SessionDescription.parse(SECURE + CRYPTO), security()))
    assert INLINE not in shown
    assert repr(THEIR_KEY)[2:-1] not in shown
    assert b64encode(OUR_KEY).decode() not in shown
    assert repr(OUR_KEY)[2:-1] not in shown
    assert INLINE not in str(result.media)


AVP_KEYS = PLAIN + CRYPTO
SAVP_KEYS = SECURE + CRYPTO
BOTH = SECURE + CRYPTO + "m=audio 4002 RTP/AVP 0\r\n"
PLAIN_FIRST = PLAIN + "m=audio 4002 RTP/SAVP 0\r\n" + CRYPTO
SAVPF = SECURE.replace("SAVP", "SAVPF") + CRYPTO


@pytest.mark.parametrize(
    ("text", "policy", "tls", "outcome"),
    [
        (PLAIN, "off", True, "plain"),
        (PLAIN, "optional", True, "plain"),
        (PLAIN, "required", True, "refused"),
        (AVP_KEYS, "off", True, "plain"),
        (AVP_KEYS, "optional", True, "secure"),
        (AVP_KEYS, "optional", False, "plain"),
        (AVP_KEYS, "required", True, "secure"),
        (AVP_KEYS, "required", False, "refused"),
        (SAVP_KEYS, "off", True, "refused"),
        (SAVP_KEYS, "optional", True, "secure"),
        (SAVP_KEYS, "optional", False, "refused"),
        (SAVP_KEYS, "required", True, "secure"),
        (SAVP_KEYS, "required", False, "refused"),
        (SAVPF, "required", True, "secure"),
        (SECURE, "optional", True, "refused"),
        (BOTH, "off", True, "plain"),
        (BOTH, "optional", True, "secure"),
        (BOTH, "optional", False, "plain"),
        (BOTH, "required", True, "secure"),
        (PLAIN_FIRST, "optional", True, "secure"),
        (PLAIN_FIRST, "optional", False, "plain"),
        (PLAIN_FIRST, "required", True, "secure"),
    ],
)
def test_policies(text: str, policy: SrtpPolicy, tls: bool, outcome: str) -> None:
    rules = security(policy, tls=tls)
    if outcome == "refused":
        with pytest.raises(SdpError, match="SRTP") as refusal:
            answered(text, rules)
        assert refusal.value.sip_status == 488
        return
    result = answered(text, rules)
    written = str(result.description)
    if outcome == "plain":
        assert result.media.crypto is None
        assert "crypto" not in written
        return
    assert result.media.crypto == (
        Crypto(1, "AES_CM_128_HMAC_SHA1_80", OUR_KEY),
        Crypto(1, "AES_CM_128_HMAC_SHA1_80", THEIR_KEY),
    )
    assert f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{b64encode(OUR_KEY).decode()}" in written
    taken = next(line for line in result.description.media if line.port)
    lines = SessionDescription.parse(text).media
    assert taken.protocol == lines[result.description.media.index(taken)].protocol


def test_keys_over_open_signalling_when_told_to() -> None:
    rules = MediaSecurity("required", allow_insecure_keys=True)
    assert answered(SAVP_KEYS, rules).media.crypto is not None
    assert "RTP/SAVP" in str(offered(rules))


def test_the_first_suite_of_the_offer_that_we_have() -> None:
    gcm = b64encode(bytes(44)).decode()
    text = SECURE + (
        f"a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:{b64encode(bytes(46)).decode()}\r\n"
        f"a=crypto:2 AEAD_AES_256_GCM inline:{gcm}|2^48|1:1\r\n"
        f"a=crypto:3 AEAD_AES_256_GCM inline:{gcm}|2^48\r\n"
    ) + CRYPTO.replace(":1", ":4")  # fmt: skip
    crypto = answered(text, security()).media.crypto
    assert crypto is not None
    assert [(each.tag, each.suite) for each in crypto] == [(3, "AEAD_AES_256_GCM")] * 2
    narrow = MediaSecurity("required", secure_signalling=True, suites=("AES_CM_128_HMAC_SHA1_80",))
    crypto = answered(text, narrow).media.crypto
    assert crypto is not None
    assert crypto[0].tag == 4


def test_a_repeated_offer_keeps_our_key_and_description() -> None:
    first = answered(SAVP_KEYS, MediaSecurity("optional", secure_signalling=True))
    rules = MediaSecurity("optional", secure_signalling=True, current=first.media.crypto)
    again = answered(SAVP_KEYS, rules, first.description)
    assert again.media.crypto == first.media.crypto
    assert again.description is first.description


def test_a_new_key_of_theirs_makes_one_of_ours() -> None:
    first = answered(SAVP_KEYS, MediaSecurity("optional", secure_signalling=True))
    assert first.media.crypto is not None
    rules = MediaSecurity("optional", secure_signalling=True, current=first.media.crypto)
    again = answered(SECURE + OTHER, rules, first.description)
    assert again.media.crypto is not None
    assert again.media.crypto[1].key == OTHER_KEY
    assert again.media.crypto[0].key != first.media.crypto[0].key
    assert again.description.origin.version == "2"


@pytest.mark.parametrize("policy", ["off", "optional", "required"])
def test_what_is_encrypted_stays_encrypted(policy: SrtpPolicy) -> None:
    current = answered(SAVP_KEYS, security()).media.crypto
    with pytest.raises(SdpError, match="SRTP is required"):
        answered(PLAIN, security(policy, current=current))
    assert answered(AVP_KEYS, security(policy, current=current)).media.crypto is not None


def test_offers_by_policy() -> None:
    assert offered(security("off")) == offered(MediaSecurity())
    (line,) = offered(security("optional")).media
    assert line.protocol == "RTP/AVP"
    assert [each.suite for each in cryptos(line)] == list(SUITES)
    assert [each.tag for each in cryptos(line)] == [1, 2, 3, 4]
    (line,) = offered(security("required")).media
    assert line.protocol == "RTP/SAVP"
    assert offered(security("optional", tls=False)) == offered(MediaSecurity())
    with pytest.raises(SdpError, match="signalling"):
        offered(security("required", tls=False))
    with pytest.raises(SdpError, match="no path"):
        offered(security("dtls"))


GCM = "a=crypto:3 AEAD_AES_128_GCM inline:" + b64encode(bytes(28)).decode() + "\r\n"


@pytest.mark.parametrize(
    ("policy", "reply", "suite"),
    [
        ("required", SAVP_KEYS, "AES_CM_128_HMAC_SHA1_80"),
        ("required", SECURE + GCM, "AEAD_AES_128_GCM"),
        ("required", PLAIN, None),
        ("required", SECURE, None),
        ("required", SECURE + CRYPTO.replace(":1", ":2"), None),
        ("required", SECURE + CRYPTO.replace(":1", ":9"), None),
        ("optional", AVP_KEYS, "AES_CM_128_HMAC_SHA1_80"),
        ("optional", SAVP_KEYS, "AES_CM_128_HMAC_SHA1_80"),
        ("optional", PLAIN, ""),
        ("optional", SECURE, None),
        ("optional", PLAIN + CRYPTO.replace(":1", ":9"), None),
        ("off", PLAIN, ""),
        ("off", AVP_KEYS, None),
    ],
)
def test_answers_to_our_offer(policy: SrtpPolicy, reply: str, suite: str | None) -> None:
    rules = security(policy)
    ours = offered(rules)
    theirs = SessionDescription.parse(reply)
    if suite is None:
        with pytest.raises(SdpError) as refusal:
            accept_answer(ours, theirs, security=rules)
        assert refusal.value.code == "invalid_answer"
        return
    crypto = accept_answer(ours, theirs, security=rules).crypto
    assert (crypto[0].suite if crypto else "") == suite
    if crypto:
        assert crypto[0] in list(cryptos(ours.media[0]))


def test_a_repeated_offer_of_ours_repeats_the_keys() -> None:
    rules = security("required")
    first = offered(rules)
    crypto = accept_answer(first, SessionDescription.parse(SAVP_KEYS), security=rules).crypto
    again = reoffer(first)
    assert again.origin == first.origin
    held = security("required", current=crypto)
    assert accept_answer(again, SessionDescription.parse(SAVP_KEYS), security=held).crypto == crypto
    with pytest.raises(SdpError):
        accept_answer(again, SessionDescription.parse(PLAIN), security=security(current=crypto))

"""SIP messages that went wrong: the torture messages and our own, bent in all the usual ways."""

import random
import re
from collections.abc import Callable, Iterator, Sequence

from bridge.sip.agent import AgentConfig
from bridge.sip.events import Reoffer, TransferRequested
from bridge.sip.framing import MAX_HEAD, MAX_MESSAGE
from bridge.sip.grammar import MAX_PARAMS
from bridge.sip.message import MAX_VIAS
from tests.sip import torture
from tests.sip.pair import Pair
from tests.sip.playbook import ANSWER, OFFER

# What a call of ours does not say by itself: credentials, lists, multiparts.
_MORE = (
    b"REGISTER sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.1;branch=z9hG4bKr;rport;alias"
    b"\r\nMax-Forwards: 70\r\nFrom: <sip:1000@pbx.example>;tag=1\r\nTo: <sip:1000@pbx.example>"
    b"\r\nCall-ID: r@h\r\nCSeq: 2 REGISTER\r\nContact: <sip:1000@192.0.2.1;ob>;q=0.5;expires=60"
    b';+sip.instance="<urn:uuid:0>", "B, \\"b" <sip:b@h>;reg-id=1\r\nPath: <sip:p@h;lr>\r\n'
    b'Authorization: Digest username="1000", realm="pbx, x", nonce="n", uri="sip:pbx.example", '
    b'response="0", algorithm=SHA-256, qop=auth, nc=00000001, cnonce="c"\r\nExpires: 3600\r\n'
    b"Supported: path, outbound, gruu\r\nContent-Length: 0\r\n\r\n",
    b"SIP/2.0 401 Unauthorized\r\nv: SIP/2.0/UDP [2001:db8::1]:5070;branch=z9hG4bKa;received="
    b"2001:db8::2;rport=5080\r\nf: <sip:a@b>;tag=1\r\nt: <sip:a@b>;tag=2\r\ni: 1\r\nCSeq: 1 "
    b'INVITE\r\nWWW-Authenticate: Digest realm="r", nonce="n", qop="auth,auth-int"\r\nRetry-After'
    b': 5 (busy);duration=9\r\nMin-SE: 90\r\nWarning: 399 h "x, y"\r\nl: 0\r\n\r\n',
    b"INVITE sip:+4930@h:5060;transport=tcp;user=phone?Subject=x SIP/2.0\r\nVia: SIP / 2.0 / TCP "
    b"h:5060;branch=z9hG4bKb\r\nRoute: <sip:a;lr>, <sip:b;lr>\r\nRoute: <sip:c;lr>\r\nFrom: A B "
    b"<sip:a:pw@h>;tag=1\r\nTo: <tel:+4930;phone-context=h>\r\nCall-ID: x\r\nCSeq: 7 INVITE\r\n"
    b"Record-Route: <sip:[::1]:5060;lr>,\r\n\t<sip:r2;lr>\r\nContact: <sips:a@h>\r\nRequire: "
    b"100rel, timer\r\nSession-Expires: 1800 ; refresher = uas\r\nReplaces: c@h;to-tag=1;"
    b"from-tag=2;early-only\r\nRefer-To: <sip:c@h?Replaces=1%40h%3Bto-tag%3D1%3Bfrom-tag%3D2&X=%"
    b"00>\r\nRAck: 1 2 INVITE\r\nRSeq: 1\r\nAccept: application/sdp;level=1, */*;q=0.1\r\n"
    b'Content-Type: multipart/mixed;boundary="b 1"\r\nContent-Length: 97\r\n\r\n--b 1\r\n'
    b"Content-Type: text/plain\r\n\r\nx\r\n--b 1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n"
    b"--b 1--\r\n",
)

PIECES = (
    *(bytes([octet]) for octet in b"\r\n\0 \t,;:\"<>@\\%=\xff[]()?*/'&.-_~09aA{|\x7f"),
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"\n\t",
    b"\r\r\n",
    b"\\\0",
    b'\\"',
    b'"",',
    b"<>",
    b"()",
    b"%41",
    b"\xc2\xa0",
    b"\xc3\xb6",
    b"\xe2\x80\xa8",
    b"\xed\xa0\x80",
    b";a",
    b";a=b",
    b';a="b"',
    b",a",
    b", <sip:a@b>",
    b", <sip:%d>",
    b', "a" <sip:a@b>;q=1',
    b", SIP/2.0/UDP h",
    b", SIP/2.0/UDP h;branch=1",
    b"\r\nVia: SIP/2.0/UDP h;a=b",
    b"\r\nv:a",
    b"\r\nContact: <sip:a@b>",
    b"\r\nRoute: <sip:a;lr>,<sip:b;lr>",
    b"\r\nRecord-Route: <sip:[::1];lr>",
    b"\r\nRequire: a,b",
    b"\r\nAccept: a/b",
    b"\r\nContent-Length: 0",
    b"\r\nl:9",
    b"\r\nX: y",
    b"\r\n:",
    b"\r\nSession-Expires: 90;refresher=uac",
    b"\r\n--b 1\r\nContent-Type: application/sdp\r\n\r\n",
    b"SIP/2.0",
    b"sip:",
    b"-1",
    b"1e9",
)
BRACKETS = ((b"<", b">"), (b"(", b")"), (b"[", b"]"), (b'"', b'"'), (b"<<", b">"), (b"%3C", b""))
_DIGITS = re.compile(rb"[0-9]+")
NUMBERS = (b"0", b"-1", b"65536", b"2147483648", b"4294967296", b"9" * 19, b"9" * 30, b"9" * 5000)

Mutation = Callable[[random.Random, bytearray], None]


def corpus() -> list[bytes]:
    """The torture messages, all that two agents of ours say in a long call, and some more."""
    seeds = [torture.read(rfc, name) for rfc in torture.RFCS for name in torture.names(rfc)]
    return [*seeds, *sorted(set(_own())), *_MORE]


def _own() -> list[bytes]:
    pair = Pair(AgentConfig(), AgentConfig(session_expires=90, transfers=True, replaces=True))
    pair.call()
    caller, callee = pair.caller, pair.callee
    pair.do(lambda: caller.agent.reoffer(caller.usage, OFFER, pair.now))
    assert callee.heard(Reoffer)
    pair.do(lambda: callee.agent.reinvite_answer(callee.usage, 200, ANSWER, pair.now))
    pair.do(lambda: caller.agent.refer(caller.usage, "sip:third@203.0.113.1", pair.now))
    assert callee.heard(TransferRequested)
    pair.do(lambda: callee.agent.refer_answer(callee.usage, 202, pair.now))
    pair.do(lambda: callee.agent.notify_refer(callee.usage, 200, "", pair.now, final=True))
    pair.wait(100)
    pair.do(lambda: caller.agent.hangup(caller.usage, pair.now))
    return [data for _, data in pair.line.carried]


_PLAIN = (
    b"INVITE sip:{}a@h{} SIP/2.0\r\nVia: SIP/2.0/UDP h{};branch=z9hG4bK1{}\r\nFrom: {}<sip:a@h{}>"
    b";tag=1{}\r\nTo: {}\r\nCall-ID: 1{}\r\nCSeq: 1{} INVITE{}\r\nMax-Forwards: 70{}\r\nContact:"
    b' {}"{}" <sip:{}@h{}>{}\r\nRoute: <sip:a>{}\r\nRecord-Route: {}<sip:a;lr{}>{}\r\nRequire: {}'
    b"\r\nSupported: a{}\r\nAllow: {}\r\nAccept: {}\r\nExpires: {}\r\nSession-Expires: 90{}\r\n"
    b"Min-SE: {}\r\nRAck: 1 {}\r\nRSeq: {}\r\nRefer-To: <sip:a@h?Replaces=1%40h{}>{}\r\nRetry-"
    b"After: 1{}\r\nX{}: y{}\r\nContent-Type: multipart/mixed;boundary=x{}\r\n\r\n--x\r\n{}"
    b"Content-Type: a/b{}\r\n\r\n{}--x\r\nContent-Type: application/sdp\r\n\r\nv=0{}"
).split(b"{}")
_SIZES = (1000, 2000, 8000, MAX_HEAD, MAX_MESSAGE)


def floods() -> Iterator[bytes]:
    """Every piece in every place, as often as the limits allow and oftener."""
    whole = b"".join(_PLAIN)
    for place in range(1, len(_PLAIN)):
        before, after = b"".join(_PLAIN[:place]), b"".join(_PLAIN[place:])
        for piece in PIECES:
            for size in _SIZES:
                room = size - len(whole)
                if room > len(piece):
                    yield before + piece * (room // len(piece)) + after
            for count in (32, MAX_PARAMS - 1, MAX_VIAS - 1):
                yield before + piece * count + after


def crowds() -> Iterator[bytes]:
    """As many values everywhere as are read."""
    address = b'"a b" <sip:a:b@[::1]:5060;lr;a=b?c=d>;q=1;expires=5'
    via = b"SIP/2.0/UDP [::1]:5060;branch=z9hG4bK1;rport;received=::2;a=b"
    for addresses in (10, 20, 30, 35, 40, 50, 60, 70):
        for each in (address, b"<sip:a@b;lr>", b"sip:a;b"):
            for between in (b",", b"\r\n{}: "):
                lines = [
                    name + b": " + between.replace(b"{}", name).join([value] * addresses)
                    for name, value in (
                        (b"Via", via),
                        (b"Contact", each),
                        (b"Route", each),
                        (b"Record-Route", each),
                        (b"X", b"y"),
                    )
                ]
                yield b"".join(_PLAIN).replace(b"Max-Forwards", b"\r\n".join([*lines, b"y"]), 1)


class Mutator:
    """The same messages for the same seed."""

    def __init__(self, seed: int, seeds: Sequence[bytes]) -> None:
        self.rng = random.Random(seed)
        self.seeds = seeds

    def __call__(self) -> bytes:
        rng = self.rng
        data = bytearray(rng.choice(self.seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
            if rng.random() < 0.05:
                _splice(rng, data, rng.choice(self.seeds))
            else:
                rng.choice(MUTATIONS)(rng, data)
        # One octet past the limit is enough to be past it.
        return bytes(data[: MAX_MESSAGE + 1])


def _place(rng: random.Random, data: bytearray) -> int:
    """Most often where a value begins or ends."""
    at = rng.randrange(len(data) + 1)
    kind = rng.random()
    if kind < 0.3:
        return at
    if kind < 0.6:
        found = data.find(b": ", at)
        return found + 2 if found >= 0 else at
    if kind < 0.9:
        found = data.find(b"\r\n", at)
        return found if found >= 0 else at
    return data.find(b"\r\n\r\n") + 4


def _many(rng: random.Random) -> int:
    """From 1 to 65536, the small ones more often."""
    return int(2 ** (16 * rng.random() ** 2))


def _flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.randint(1, 8) if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)


def _flip_bit(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray) -> None:
    at = _place(rng, data)
    del data[at : at + _many(rng)]


def _cut_short(rng: random.Random, data: bytearray) -> None:
    del data[_place(rng, data) :]


def _insert(rng: random.Random, data: bytearray) -> None:
    at = _place(rng, data)
    data[at : at + rng.choice((0, 0, 1, 8))] = rng.choice(PIECES)


def _flood(rng: random.Random, data: bytearray) -> None:
    piece = rng.choice(PIECES)
    at = _place(rng, data)
    data[at:at] = piece * min(_many(rng), MAX_MESSAGE // len(piece))


def _mixed_flood(rng: random.Random, data: bytearray) -> None:
    pieces = b"".join(rng.choice(PIECES) for _ in range(rng.randint(2, 4)))
    at = _place(rng, data)
    data[at:at] = pieces * min(_many(rng), MAX_MESSAGE // len(pieces))


def _nest(rng: random.Random, data: bytearray) -> None:
    left, right = rng.choice(BRACKETS)
    depth = _many(rng) // 2 + 1
    at = _place(rng, data)
    data[at:at] = left * depth + right * depth


def _repeat(rng: random.Random, data: bytearray) -> None:
    at = _place(rng, data)
    piece = bytes(data[at : at + rng.choice((1, 4, 16, 64, 256, 2000))])
    if piece:
        data[at:at] = piece * min(_many(rng), MAX_MESSAGE // len(piece))


def _repeat_line(rng: random.Random, data: bytearray) -> None:
    lines = bytes(data).split(b"\r\n")
    index = rng.randrange(len(lines))
    lines[index:index] = [lines[index]] * min(_many(rng), MAX_MESSAGE // (len(lines[index]) + 2))
    data[:] = b"\r\n".join(lines)


def _shuffle_lines(rng: random.Random, data: bytearray) -> None:
    lines = bytes(data).split(b"\r\n")
    rng.shuffle(lines)
    data[:] = b"\r\n".join(lines)


def _number(rng: random.Random, data: bytearray) -> None:
    digits = [match.span() for match in _DIGITS.finditer(data, 0, 4096)]
    if digits:
        start, end = rng.choice(digits)
        data[start:end] = rng.choice(NUMBERS)


def _line_ends(rng: random.Random, data: bytearray) -> None:
    ends = rng.choice(((b"\n",), (b"\r",), (b"\n", b"\r\n"), (b"\r", b"\r\n", b"\n", b"\n\r")))
    lines = bytes(data).split(b"\r\n")
    data[:] = b"".join(line + rng.choice(ends) for line in lines)


def _body(rng: random.Random, data: bytearray) -> None:
    size = rng.choice((1, 1000, MAX_MESSAGE // 2, MAX_MESSAGE))
    piece = rng.choice(PIECES)
    data += (piece * (size // len(piece) + 1))[:size]
    if rng.random() < 0.7:
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        start = head.rfind(b"Content-Length: ")
        if start >= 0:
            end = head.find(b"\r\n", start)
            length = b"Content-Length: %d" % len(body)
            head = head[:start] + length + (head[end:] if end >= 0 else b"")
        data[:] = (head + b"\r\n\r\n" + body)[:MAX_MESSAGE]


def _case(rng: random.Random, data: bytearray) -> None:
    data[:] = data.swapcase() if rng.random() < 0.5 else data.lower()


def _splice(rng: random.Random, data: bytearray, other: bytes) -> None:
    data[_place(rng, data) :] = other[rng.randrange(len(other) + 1) :]


MUTATIONS: tuple[Mutation, ...] = (
    _flip,
    _flip_bit,
    _cut,
    _cut_short,
    _insert,
    _insert,
    _flood,
    _flood,
    _mixed_flood,
    _nest,
    _repeat,
    _repeat_line,
    _shuffle_lines,
    _number,
    _line_ends,
    _body,
    _case,
)

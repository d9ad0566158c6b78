import time

import pytest

from bridge.errors import SipError
from bridge.sip.framing import (
    MAX_HEAD,
    MAX_LENGTHS,
    MAX_MESSAGE,
    KeepAlive,
    StreamFramer,
    StreamFraming,
    declared_length,
    is_request,
    over_tcp,
)
from bridge.sip.message import Request, parse_message

ONE = b"INVITE sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h\r\nContent-Length: 5\r\n\r\nhello"
TWO = b"BYE sip:a SIP/2.0\r\nl : 0\r\n\r\n"
PING = b"\r\n\r\n"


def test_pipelined() -> None:
    assert StreamFramer().feed(ONE + TWO + ONE) == [ONE, TWO, ONE]


def test_split_at_every_octet() -> None:
    stream = ONE + PING + TWO + b"\r\n" + ONE
    for cut in range(len(stream)):
        framer = StreamFramer()
        frames = framer.feed(stream[:cut]) + framer.feed(stream[cut:])
        assert frames == [ONE, KeepAlive.PING, TWO, KeepAlive.PONG, ONE]
        assert framer.pending == 0


def test_octet_by_octet() -> None:
    framer = StreamFramer()
    frames = [frame for octet in ONE + TWO for frame in framer.feed(bytes([octet]))]
    assert frames == [ONE, TWO]


def test_keep_alives() -> None:
    framer = StreamFramer()
    assert framer.feed(PING + PING) == [KeepAlive.PING, KeepAlive.PING]
    assert framer.feed(b"\r\n") == []
    assert framer.feed(b"\r\n") == [KeepAlive.PING]
    assert framer.feed(b"\r\n" + TWO) == [KeepAlive.PONG, TWO]


@pytest.mark.parametrize("start", [b"\n\n", b"\rX", b"\r\n\rX"])
def test_broken_line_breaks(start: bytes) -> None:
    framer = StreamFramer()
    framer.feed(start)
    assert framer.broken
    assert framer.feed(ONE) == []


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Content-Length: -1", 400),
        (b"Content-Length: five", 400),
        (b"Content-Length: 1\r\nl: 2", 400),
        (b"Content-Length:", 400),
        (b"Content-Length: 99999999", 513),
        (b"Content-Length: 65536", 400),
        (b"\r\n".join([b"X: " + b"y" * 8000] * 5), 513),
        (b"X: y\r\n y" + b"\r\n y" * 512, 513),
    ],
)
def test_a_lying_length_gives_the_head_and_breaks(lines: bytes, status: int) -> None:
    head = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h\r\n" + lines + b"\r\n\r\n"
    framer = StreamFramer()
    assert framer.feed(TWO + head + TWO) == [TWO, head]
    assert framer.broken
    message = parse_message(head)
    assert isinstance(message, Request)
    assert message.fault is not None
    assert message.fault.status == status


def test_length_forms() -> None:
    for lines in (b"CONTENT-LENGTH:2", b"l:\r\n 2", b"L\t:\t2 ", b"Content-Length: 2\r\nl: 2"):
        frame = b"OPTIONS sip:a SIP/2.0\r\n" + lines + b"\r\n\r\nok"
        assert StreamFramer().feed(frame + TWO) == [frame, TWO]


def test_as_many_lengths_as_a_peer_may_repeat() -> None:
    line = b"l: 2\r\n"
    for count, broken in ((MAX_LENGTHS, False), (MAX_LENGTHS + 1, True)):
        framer = StreamFramer()
        frame = b"OPTIONS sip:a SIP/2.0\r\n" + line * count + b"\r\n"
        assert framer.feed(frame + b"ok") == [frame if broken else frame + b"ok"]
        assert framer.broken is broken


def test_the_largest_head() -> None:
    for size, broken in ((MAX_HEAD, False), (MAX_HEAD + 1, True)):
        framer = StreamFramer()
        head = b"OPTIONS sip:a SIP/2.0\r\nX: ".ljust(size, b"y") + b"\r\n\r\n"
        assert framer.feed(head) == [head]
        assert framer.broken is broken


def test_without_a_length_there_is_no_body() -> None:
    frame = b"OPTIONS sip:a SIP/2.0\r\nX-Content-Length: 5\r\n\r\n"
    assert StreamFramer().feed(frame + TWO) == [frame, TWO]


def test_an_endless_head_breaks() -> None:
    framer = StreamFramer()
    assert framer.feed(b"x" * MAX_MESSAGE) == []
    assert not framer.broken
    assert framer.feed(b"x") == []
    assert framer.broken
    assert framer.pending == 0


def test_dribbled_octets_cost_linear_time() -> None:
    framer = StreamFramer()
    started = time.process_time()
    for _ in range(MAX_MESSAGE):
        framer.feed(b"\r")
        framer.feed(b"x")
    framer = StreamFramer()
    for _ in range(MAX_MESSAGE - 1):
        framer.feed(b"x")
    assert time.process_time() - started < 2


def test_declared_length() -> None:
    assert declared_length([" 5 ", "5"]) == 5
    for values in ([], ["5", "6"], ["+5"], ["9" * 30]):
        with pytest.raises(SipError):
            declared_length(values)


def test_pings_are_answered_on_the_stream() -> None:
    framing = StreamFraming()
    assert framing.receive(PING + TWO) == [KeepAlive.PING, TWO]
    framing.send(ONE)
    assert framing.data_to_send() == b"\r\n" + ONE
    framing.ping()
    framing.close()
    assert framing.data_to_send() == PING
    assert not framing.broken


@pytest.mark.parametrize("name", [b"Via: ", b"v:", b"VIA\t: "])
def test_tcp_in_the_top_via_alone(name: bytes) -> None:
    line = name + b"SIP/2.0/UDP h;branch=z9hG4bK1\r\n"
    request = b"INVITE sip:a SIP/2.0\r\n" + line + line + b"\r\nVia: SIP/2.0/UDP body"
    changed = request.replace(b"/UDP", b"/TCP", 1)
    assert over_tcp(request) == changed
    assert over_tcp(b"INVITE sip:a SIP/2.0\r\n\r\n") == b"INVITE sip:a SIP/2.0\r\n\r\n"


def test_what_is_a_request() -> None:
    assert is_request(ONE)
    assert not is_request(b"SIP/2.0 200 OK\r\n\r\n")
    assert not is_request(PING)

"""Two ends of a call negotiate and talk over loopback."""

import random
import select
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from bridge.audio.frames import Pcm
from bridge.audio.levels import rms
from bridge.audio.tones import sine
from bridge.errors import SdpError
from bridge.legs.sip_media import SipMedia, SipMediaSettings
from bridge.media.plane import MediaPlane
from bridge.rtp.transport import PortPool, RtpPoller
from bridge.sdp.crypto import SrtpPolicy
from tests.ports import media_ports

HOST = "127.0.0.1"
TONE = sine(440, 20)
LOUD = rms(TONE)


@dataclass
class End:
    media: SipMedia
    plane: MediaPlane = field(default_factory=MediaPlane)
    heard: list[Pcm] = field(default_factory=list)
    digits: list[str] = field(default_factory=list)
    poller: RtpPoller = field(default_factory=RtpPoller)
    now: float = 0.0

    def start(self) -> None:
        stream = self.media.stream
        assert stream is not None
        stream.on_frame = self.heard.append
        self.media.on_digit = self.digits.append
        stream.playout.write("", TONE)
        self.plane.add(stream)
        self.poller.add(self.media.socket)

    def tick(self) -> None:
        self.now += 0.02
        self.poller.poll(self.now)
        self.plane.tick(self.now)


def talk(one: End, two: End, ticks: int = 10) -> None:
    """Wait for each packet: loopback takes a moment."""
    for _ in range(ticks):
        for sender, receiver in ((one, two), (two, one)):
            sender.tick()
            select.select([receiver.poller], [], [], 1.0)


def loud(end: End, last: int = 5) -> bool:
    return len(end.heard) >= last and all(
        rms(frame) == pytest.approx(LOUD, rel=0.2) for frame in end.heard[-last:]
    )


class Exchange:
    def __init__(self) -> None:
        ports = media_ports(40)
        self._pool = PortPool(HOST, ports[0], ports[-1], rng=random.Random(2))
        self.ends: list[End] = []

    def end(
        self, srtp: SrtpPolicy = "off", *, tls: bool = True, codecs: tuple[str, ...] = ("PCMU",)
    ) -> End:
        settings = SipMediaSettings(HOST, "a@b", codecs, srtp, secure_signalling=tls)
        end = End(SipMedia(self._pool.open(), settings, rng=random.Random(3)))
        self.ends.append(end)
        return end

    def call(self, caller: End, callee: End) -> None:
        caller.media.accept(callee.media.answer(caller.media.offer()))
        caller.start()
        callee.start()


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    made = Exchange()
    yield made
    for end in made.ends:
        end.media.socket.close()
        end.poller.close()


@pytest.mark.parametrize(
    ("theirs", "ours", "secure"),
    [
        ("off", "off", False),
        ("off", "optional", False),
        ("optional", "off", False),
        ("optional", "optional", True),
        ("optional", "required", True),
        ("required", "optional", True),
        ("required", "required", True),
    ],
)
def test_two_way_audio(
    exchange: Exchange, theirs: SrtpPolicy, ours: SrtpPolicy, secure: bool
) -> None:
    caller, callee = exchange.end(theirs), exchange.end(ours)
    exchange.call(caller, callee)
    talk(caller, callee, 12)
    assert loud(caller)
    assert loud(callee)
    assert (caller.media.secure, callee.media.secure) == (secure, secure)
    assert caller.media.rejected_packets == callee.media.rejected_packets == 0


@pytest.mark.parametrize(
    ("theirs", "ours", "tls"),
    [("required", "off", True), ("off", "required", True), ("required", "optional", False)],
)
def test_policies_that_do_not_meet(
    exchange: Exchange, theirs: SrtpPolicy, ours: SrtpPolicy, tls: bool
) -> None:
    caller, callee = exchange.end(theirs), exchange.end(ours, tls=tls)
    with pytest.raises(SdpError):
        callee.media.answer(caller.media.offer())
    assert callee.media.stream is None


def test_a_downgrade_is_refused_and_the_call_goes_on(exchange: Exchange) -> None:
    caller, callee = exchange.end("optional"), exchange.end("optional")
    exchange.call(caller, callee)
    talk(caller, callee)
    bare = b"\r\n".join(
        line for line in caller.media.offer().split(b"\r\n") if not line.startswith(b"a=crypto")
    )
    with pytest.raises(SdpError, match="SRTP"):
        callee.media.answer(bare)
    talk(caller, callee, 8)
    assert loud(caller)
    assert loud(callee)


def test_a_repeated_offer_keeps_the_keys(exchange: Exchange) -> None:
    caller, callee = exchange.end("required"), exchange.end("required")
    exchange.call(caller, callee)
    talk(caller, callee)
    before = callee.media.negotiated
    caller.media.accept(callee.media.answer(caller.media.offer()))
    assert callee.media.negotiated == before
    talk(caller, callee, 8)
    assert loud(caller)
    assert loud(callee)


def test_new_keys_in_a_call(exchange: Exchange) -> None:
    caller, callee = exchange.end("required"), exchange.end("required")
    exchange.call(caller, callee)
    talk(caller, callee)
    moved = exchange.end("required")
    moved.media.accept(callee.media.answer(moved.media.offer()))
    moved.start()
    before = len(callee.heard)
    talk(moved, callee, 15)
    assert len(callee.heard) > before
    assert loud(callee)
    assert loud(moved)


def test_another_codec_in_a_call(exchange: Exchange) -> None:
    caller = exchange.end("required", codecs=("PCMU",))
    callee = exchange.end("required", codecs=("PCMU", "PCMA", "opus"))
    exchange.call(caller, callee)
    talk(caller, callee)
    assert callee.media.stream is not None
    playout = callee.media.stream.playout
    waiting = playout.buffered_ms
    for codec in ("PCMA", "opus"):
        other = exchange.end("required", codecs=(codec,))
        other.media.accept(callee.media.answer(other.media.offer()))
        other.start()
        talk(other, callee, 15)
        assert callee.media.stream.codec.name == codec
        assert callee.media.stream.playout is playout
        assert loud(other)
        assert loud(callee)
    assert playout.buffered_ms == waiting - 30 * 20


def test_hold_and_resume(exchange: Exchange) -> None:
    caller, callee = exchange.end("optional"), exchange.end("optional")
    exchange.call(caller, callee)
    talk(caller, callee)
    again = caller.media.offer()
    callee.media.answer(again.replace(b"a=sendrecv", b"a=sendonly"))
    assert callee.media.stream is not None
    assert callee.media.stream.held
    caller.media.accept(callee.media.answer(again))
    assert not callee.media.stream.held
    talk(caller, callee, 8)
    assert loud(caller)
    assert loud(callee)


def test_digits_over_srtp(exchange: Exchange) -> None:
    caller, callee = exchange.end("required"), exchange.end("required")
    exchange.call(caller, callee)
    assert caller.media.stream is not None
    caller.media.stream.send_digits("42#")
    talk(caller, callee, 35)
    assert "".join(callee.digits) == "42#"


def test_strangers_are_counted(exchange: Exchange) -> None:
    caller, callee = exchange.end("required"), exchange.end("required")
    exchange.call(caller, callee)
    talk(caller, callee)
    for _ in range(5):
        caller.media.socket.send(b"\x80\x00" + bytes(170))
        select.select([callee.poller], [], [], 1.0)
        callee.poller.poll(callee.now)
    assert callee.media.rejected_packets == 5
    talk(caller, callee, 8)
    assert loud(callee)

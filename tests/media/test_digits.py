"""Keys both ways, through the packets of whole streams."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import pytest

from bridge.audio.codecs import OPUS, PCMA, PCMU, Codec
from bridge.audio.frames import Pcm
from bridge.audio.g711 import ulaw_encode
from bridge.audio.tones import dtmf, sine
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.dtmf import DIGITS, TelephoneEvent
from bridge.rtp.packet import RtpPacket
from bridge.sip.info_dtmf import parse_info

PRESSED = "1185*#"
EVENT = 101


@dataclass
class Wire:
    rtp: list[RtpPacket] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.rtp.append(RtpPacket.parse(data))

    def send_rtcp(self, data: bytes) -> None:
        """Not looked at."""


@dataclass
class Phone:
    """A stream of ours, and the clock of the caller's packets."""

    stream: AudioStream
    wire: Wire
    plane: MediaPlane
    digits: list[str] = field(default_factory=list)
    frames: list[Pcm] = field(default_factory=list)
    tick: int = 0

    @classmethod
    def make(
        cls, codec: Codec = PCMU, event: int | None = EVENT, rate: int = 8000, ssrc: int = 9
    ) -> "Phone":
        wire, plane = Wire(), MediaPlane()
        stream = AudioStream(
            codec,
            payload_type=codec.static_payload_type or 0,
            wire=wire,
            cname="a@b",
            telephone_event=event,
            telephone_event_rate=rate,
            ssrc=ssrc,
        )
        phone = cls(stream, wire, plane)
        stream.on_digit = phone.digits.append
        stream.on_frame = phone.frames.append
        plane.add(stream)
        return phone

    @property
    def now(self) -> float:
        return self.tick * 0.02

    def hear(self, packets: Iterable[RtpPacket | None]) -> "Phone":
        """A packet, or none, each 20 ms."""
        for packet in packets:
            if packet is not None:
                self.stream.receive_rtp(bytes(packet), self.now)
            self.plane.tick(self.now)
            self.tick += 1
        return self

    def run(self, ticks: int) -> None:
        self.hear([None] * ticks)


def presses(
    digits: str, *, rate: int = 8000, marker: bool = True, ends: int = 3
) -> list[RtpPacket]:
    """100 ms of events for each key, then 100 ms of audio."""
    step = rate // 50
    packets: list[RtpPacket] = []
    for digit in digits:
        started = (len(packets) + 1) * step
        for n in range(1, 5 + ends):
            payload = TelephoneEvent(DIGITS.index(digit), n >= 5, 10, min(n, 5) * step)
            first = marker and n == 1
            packets.append(RtpPacket(EVENT, first, len(packets), started, 7, bytes(payload)))
        for _ in range(6 - ends):
            count = len(packets)
            packets.append(RtpPacket(0, False, count, count * step, 7, b"\xff" * 160))
    return packets


def shuffled(packets: list[RtpPacket]) -> list[RtpPacket]:
    rng = random.Random(5)
    return [
        packet
        for _, packet in sorted(enumerate(packets), key=lambda each: each[0] + rng.uniform(0, 2))
    ]


def lossy(packets: list[RtpPacket], seed: int) -> list[RtpPacket | None]:
    rng = random.Random(seed)
    return [None if rng.random() < 0.3 else packet for packet in packets]


def moving(digits: str) -> list[RtpPacket]:
    """The timestamp advances with each packet of a press."""
    packets: list[RtpPacket] = []
    for place, digit in enumerate(digits):
        for n in range(5):
            event = TelephoneEvent(DIGITS.index(digit), n == 4, 10, (n + 1) * 160)
            at = place * 1600 + n * 160
            packets.append(RtpPacket(EVENT, n == 0, len(packets), at, 7, bytes(event)))
    return packets


def tones(digits: str) -> list[RtpPacket]:
    sound = ulaw_encode(dtmf(digits, rate=8000, on_s=0.07, off_s=0.06)).tobytes()
    sound += b"\xff" * (-len(sound) % 160 + 320)
    return [
        RtpPacket(0, False, at // 160, at, 7, sound[at : at + 160])
        for at in range(0, len(sound), 160)
    ]


def inform(phone: Phone, content_type: str, bodies: Iterable[bytes]) -> None:
    for body in bodies:
        phone.run(10)
        found = parse_info(content_type, body)
        assert found is not None
        lasted_s = found.duration_ms / 1000
        phone.stream.press("info", found.digit, phone.now, lasted_s=lasted_s)


def both(digits: str) -> list[RtpPacket]:
    """The tone itself leaks into the audio around the events of each press."""
    packets: list[RtpPacket] = []
    for packet in presses(digits):
        place = packet.sequence_number % 10
        if place in (0, 7):
            count = len(packets)
            sound = ulaw_encode(dtmf("5", rate=8000)[place * 40 : place * 40 + 160]).tobytes()
            packets.append(RtpPacket(0, False, count, count * 160, 7, sound))
        packets.append(replace(packet, sequence_number=len(packets)))
    return packets


Variant = Callable[[], Phone]


def by_event(packets: Iterable[RtpPacket | None], rate: int = 8000) -> Phone:
    return Phone.make(rate=rate).hear(packets)


def by_relay() -> Phone:
    phone = Phone.make(event=None)
    bodies = [f"Signal={digit}\r\nDuration=160\r\n".encode() for digit in PRESSED]
    inform(phone, "application/dtmf-relay", bodies)
    return phone


def by_plain_info() -> Phone:
    phone = Phone.make(event=None)
    inform(phone, "application/dtmf", [digit.encode() for digit in PRESSED])
    return phone


def by_event_and_info() -> Phone:
    phone = Phone.make()
    for digit, start in zip(PRESSED, range(0, 60, 10), strict=True):
        phone.hear(presses(PRESSED)[start : start + 10])
        phone.stream.press("info", digit, phone.now, lasted_s=0.16)
    return phone


VARIANTS: dict[str, Variant] = {
    "8 kHz": lambda: by_event(presses(PRESSED)),
    "16 kHz": lambda: by_event(presses(PRESSED, rate=16000), 16000),
    "48 kHz": lambda: by_event(presses(PRESSED, rate=48000), 48000),
    "no marker": lambda: by_event(presses(PRESSED, marker=False)),
    "no end": lambda: by_event(presses(PRESSED, ends=0)),
    "one end": lambda: by_event(presses(PRESSED, ends=1)),
    "30 % lost": lambda: by_event(lossy(presses(PRESSED), 1)),
    "out of order and twice": lambda: by_event(shuffled(presses(PRESSED) * 2)),
    "timestamps that move": lambda: by_event(moving(PRESSED)),
    "INFO dtmf-relay": by_relay,
    "INFO dtmf": by_plain_info,
    "tones": lambda: Phone.make(event=None).hear(tones(PRESSED)),
    "events and INFO": by_event_and_info,
    "events and tones": lambda: by_event(both(PRESSED)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_exactly_one_digit_per_press(variant: str) -> None:
    assert "".join(VARIANTS[variant]().digits) == PRESSED


@pytest.mark.parametrize("seed", range(20))
def test_loss_of_a_third(seed: int) -> None:
    assert "".join(by_event(lossy(presses(PRESSED), seed)).digits) == PRESSED


def test_tones_are_not_looked_for_where_events_are_negotiated() -> None:
    phone = Phone.make()
    phone.hear(tones(PRESSED))
    assert phone.digits == []
    phone.stream.renegotiate(PCMU, payload_type=0, telephone_event=None)
    phone.hear(
        RtpPacket(0, False, each.sequence_number + 500, 0, 7, each.payload) for each in tones("7")
    )
    assert phone.digits == ["7"]


def test_a_flood_of_keys_is_capped() -> None:
    phone = Phone.make()
    for n in range(1000):
        event = TelephoneEvent(n % 10, True, 10, 800)
        packet = RtpPacket(EVENT, True, n, n * 1600, 7, bytes(event))
        phone.stream.receive_rtp(bytes(packet), n / 1000)
    assert len(phone.digits) == 20
    assert phone.stream.keys.dropped == 980


@pytest.mark.parametrize(
    ("codec", "rate"), [(PCMU, 8000), (PCMA, 8000), (OPUS, 48000), (OPUS, 8000)]
)
def test_digits_we_send_are_received(codec: Codec, rate: int) -> None:
    ours, theirs = Phone.make(codec, rate=rate), Phone.make(codec, rate=rate)
    ours.run(3)
    ours.stream.send_digits("12#")
    ours.run(40)
    assert ours.stream.dialler is None
    for packet in ours.wire.rtp:
        theirs.hear([packet])
    assert "".join(theirs.digits) == "12#"
    assert theirs.stream.stats.bad_packets == 0
    packets = ours.wire.rtp
    assert len(packets) == 43
    numbers = [(packet.sequence_number - packets[0].sequence_number) & 0xFFFF for packet in packets]
    assert numbers == list(range(43))
    sent = [(n, packet) for n, packet in enumerate(packets) if packet.payload_type == EVENT]
    assert len(sent) == 3 * 7
    step = codec.clock_rate // 50
    for n, packet in sent:
        pressed_at = 3 + (n - 3) // 10 * 10
        assert packet.timestamp == (packets[0].timestamp + pressed_at * step) & 0xFFFF_FFFF
        assert packet.marker == (n == pressed_at)
        duration = min(n - pressed_at + 1, 5) * rate // 50
        assert TelephoneEvent.parse(packet.payload).duration == duration


@pytest.mark.parametrize("codec", [PCMU, PCMA])
def test_digits_go_as_tones_where_no_events_are_negotiated(codec: Codec) -> None:
    ours, theirs = Phone.make(codec, None), Phone.make(codec, None)
    ours.stream.send_digits("1205#", tone_ms=80, pause_ms=60)
    ours.run(45)
    theirs.hear(ours.wire.rtp)
    assert "".join(theirs.digits) == "1205#"
    assert {packet.payload_type for packet in ours.wire.rtp} == {codec.static_payload_type}


@pytest.mark.parametrize("event", [EVENT, None])
def test_speech_waits_while_digits_are_sent(event: int | None) -> None:
    phone = Phone.make(PCMU, event)
    phone.stream.playout.write("item", sine(440, 1))
    phone.run(10)
    assert phone.stream.playout.played_ms("item") == 200
    phone.stream.send_digits("9")
    phone.run(10)
    assert phone.stream.playout.played_ms("item") == 200
    assert phone.stream.dialler is None
    phone.run(1)
    assert phone.stream.playout.played_ms("item") == 220
    assert phone.wire.rtp[-1].marker is (event is not None)


def test_digits_wait_while_held() -> None:
    phone = Phone.make()
    phone.stream.held = True
    phone.stream.send_digits("9")
    phone.run(5)
    assert all(packet.payload_type == 0 for packet in phone.wire.rtp)
    phone.stream.held = False
    phone.run(10)
    assert [packet.payload_type for packet in phone.wire.rtp].count(EVENT) == 7


def test_only_keys_are_sent() -> None:
    phone = Phone.make()
    with pytest.raises(ValueError, match="digits"):
        phone.stream.send_digits("12x")
    assert phone.stream.dialler is None
    phone.stream.send_digits("1")
    phone.stream.send_digits("2")
    phone.run(20)
    assert [packet.marker for packet in phone.wire.rtp].count(True) == 2

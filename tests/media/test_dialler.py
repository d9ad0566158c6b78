import numpy as np
import pytest

from bridge.audio.tones import dtmf
from bridge.media.dialler import MAX_DIGITS, Dialler, EventPacket
from bridge.rtp.dtmf import DIGITS, TelephoneEvent


def events(digits: str, rate: int = 8000, step: int = 160) -> list[EventPacket | None]:
    dialler = Dialler()
    dialler.dial(digits)
    packets = []
    timestamp = 4000
    while dialler.busy:
        packets.append(dialler.event(timestamp, rate))
        timestamp += step
    return packets


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_one_press(rate: int) -> None:
    packets = events("#", rate)
    assert len(packets) == 10
    sent = [packet for packet in packets if packet is not None]
    assert packets[7:] == [None] * 3
    assert [packet.timestamp for packet in sent] == [4000] * 7
    assert [packet.marker for packet in sent] == [True] + [False] * 6
    step = rate // 50
    assert [TelephoneEvent.parse(packet.payload) for packet in sent] == [
        TelephoneEvent(DIGITS.index("#"), end, 10, duration * step)
        for duration, end in zip((1, 2, 3, 4, 5, 5, 5), [False] * 4 + [True] * 3, strict=True)
    ]


def test_digits_have_their_own_timestamps_and_a_pause() -> None:
    packets = events("1,2")
    assert len(packets) == 10 + 25 + 10
    starts = [packet.timestamp for packet in packets if packet is not None and packet.marker]
    assert starts == [4000, 4000 + 35 * 160]


def test_tones() -> None:
    dialler = Dialler()
    dialler.dial("5,d", tone_ms=90, pause_ms=60)
    frames = []
    while dialler.busy:
        frames.append(dialler.tone())
    assert {len(frame) for frame in frames} == {480}
    sound = np.concatenate(frames)
    key = dtmf("5", on_s=0.1, off_s=0.06)
    assert (sound[: len(key)] == key).all()
    assert not sound[len(key) : len(key) + 12_000].any()
    assert (sound[len(key) + 12_000 :] == dtmf("D", on_s=0.1, off_s=0.06)).all()


def test_what_cannot_be_dialled() -> None:
    dialler = Dialler()
    for digits, tone_ms, pause_ms in (
        ("12x", 100, 100),
        ("1 2", 100, 100),
        ("1" * (MAX_DIGITS + 1), 100, 100),
        ("1", 20, 100),
        ("1", 2000, 100),
        ("1", 100, 40),
    ):
        with pytest.raises(ValueError, match=r"digits|tone"):
            dialler.dial(digits, tone_ms=tone_ms, pause_ms=pause_ms)
    assert not dialler.busy
    dialler.dial("")
    assert not dialler.busy

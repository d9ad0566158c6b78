"""Keys we press for the other side to hear: as telephone events (RFC 4733) or as tones."""

from collections import deque
from dataclasses import dataclass

from bridge.audio.frames import FRAME_MS, FRAMES_PER_SECOND, MODEL_FRAME, Pcm
from bridge.audio.tones import dtmf, silence
from bridge.rtp.dtmf import DIGITS, TelephoneEvent

WAIT = ","
WAIT_MS = 500
ENDS = 3  # RFC 4733 section 2.5.1.4: the last packet goes out three times
VOLUME = 10  # -10 dBm0, what telephones send
MAX_DIGITS = 64
TONE_MS = range(40, 1001)
"""Receivers may miss shorter ones; longer ones would need segments at 48 kHz."""
PAUSE_MS = range(ENDS * FRAME_MS, 5001)


@dataclass(frozen=True, slots=True)
class EventPacket:
    """What stands in for 20 ms of audio; `timestamp` is that of the press."""

    marker: bool
    timestamp: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Press:
    digit: str  # "" waits
    tone_ticks: int
    ticks: int


class Dialler:
    """Digits one after the other. Each `event` or `tone` is one tick of 20 ms."""

    def __init__(self) -> None:
        self._queue: deque[_Press] = deque()
        self._tick = 0
        self._started = 0
        self._sound = silence(0)

    @property
    def busy(self) -> bool:
        return bool(self._queue)

    def dial(self, digits: str, *, tone_ms: int = 100, pause_ms: int = 100) -> None:
        """0-9, *, #, A-D; a comma waits half a second. Raises ValueError, and changes nothing."""
        if tone_ms not in TONE_MS or pause_ms not in PAUSE_MS:
            raise ValueError("tone or pause is too short or too long")
        digits = digits.upper()
        if not set(digits) <= set(DIGITS + WAIT):
            raise ValueError("digits are 0-9, *, #, A-D and comma")
        if len(digits) + len(self._queue) > MAX_DIGITS:
            raise ValueError(f"no more than {MAX_DIGITS} digits at once")
        tone_ticks = -(-tone_ms // FRAME_MS)
        ticks = tone_ticks + -(-pause_ms // FRAME_MS)
        for digit in digits:
            self._queue.append(
                _Press("", 0, WAIT_MS // FRAME_MS)
                if digit == WAIT
                else _Press(digit, tone_ticks, ticks)
            )

    def event(self, timestamp: int, rate: int) -> EventPacket | None:
        """`timestamp` is that of the audio it stands in for, `rate` the clock of the events. None:
        silence."""
        press = self._queue[0]
        tick = self._tick
        if tick == 0:
            self._started = timestamp
        self._advance(press)
        if not press.digit or tick >= press.tone_ticks + ENDS - 1:
            return None
        duration = min(tick + 1, press.tone_ticks) * rate // FRAMES_PER_SECOND
        event = TelephoneEvent(
            DIGITS.index(press.digit), tick >= press.tone_ticks - 1, VOLUME, duration
        )
        return EventPacket(tick == 0, self._started, bytes(event))

    def tone(self) -> Pcm:
        """20 ms at the model's rate."""
        press = self._queue[0]
        if self._tick == 0:
            on_s, all_s = press.tone_ticks * FRAME_MS / 1000, press.ticks * FRAME_MS / 1000
            self._sound = (
                dtmf(press.digit, on_s=on_s, off_s=all_s - on_s) if press.digit else silence(all_s)
            )
        start = self._tick * MODEL_FRAME
        self._advance(press)
        return self._sound[start : start + MODEL_FRAME]

    def _advance(self, press: _Press) -> None:
        self._tick += 1
        if self._tick == press.ticks:
            self._queue.popleft()
            self._tick = 0

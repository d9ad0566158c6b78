"""What is known of streams whose packets come one a frame and in order: a row of numbers each, so
that all packets of a slot are looked at together.

While a stream is steady its numbers go on here, and its jitter buffer, its statistics and its rate
cap stand still; they get them back before anything else is done with it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridge.audio.frames import FRAMES_PER_SECOND
from bridge.audio.g711 import Octets
from bridge.media.inbound import G711_FRAME, G711_RATE, REMEMBERED
from bridge.media.jitter import HOLD_FRAMES, Order
from bridge.rtp.packet import HEADER_LENGTH

PACKET = HEADER_LENGTH + G711_FRAME
HOLD = HOLD_FRAMES * G711_FRAME
MOST_STEPS = 10  # of the jitter buffer's clock: a longer standstill is another thing

_PLAIN = 0x80 << 24  # version 2 and nothing else, the first octet of four
_UNMARKED = ~(0x80 << 16)
_WORD, _TICK, _HEARD, _RESUMED, _OWED, _CALM, _SSRC, _TRANSIT, _JITTER = range(9)
_NUMBERS = 9

Index = NDArray[np.intp]


class Pace(NamedTuple):
    """A steady stream: of its source and its jitter buffer."""

    payload_type: int
    ssrc: int
    order: Order
    transit: int
    jitter: int


class SteadyRows:
    """Of G.711 in packets of 20 ms. Rows are numbered by the caller.

    What comes at the pace of the clock is far from any cap on its rate; that is told afterwards.
    """

    def __init__(self) -> None:
        self._numbers = np.zeros((0, _NUMBERS), np.int64)
        self._epochs = np.zeros(0, np.float64)
        self._at = np.zeros(0, np.float64)
        self._recent = np.zeros((0, G711_FRAME), np.uint8)  # so many of a row, one after the other
        self._began: list[int] = []  # the word then

    def reserve(self, rows: int) -> None:
        """Room for so many."""
        more = rows - len(self._began)
        self._numbers = np.concatenate((self._numbers, np.zeros((more, _NUMBERS), np.int64)))
        self._epochs = np.concatenate((self._epochs, np.zeros(more)))
        self._at = np.concatenate((self._at, np.zeros(more)))
        recent = np.zeros((more * REMEMBERED, G711_FRAME), np.uint8)
        self._recent = np.concatenate((self._recent, recent))
        self._began += [0] * more

    def enter(self, row: int, pace: Pace, at: float) -> None:
        """`at`: when its last packet came."""
        order = pace.order
        word = self._began[row] = _PLAIN | pace.payload_type << 16 | order.expected
        moments = order.tick, order.heard, order.resumed
        rest = pace.ssrc, pace.transit, pace.jitter
        self._numbers[row] = (word, *moments, order.owed, order.calm, *rest)
        self._epochs[row] = order.epoch
        self._at[row] = at

    def leave(self, row: int) -> tuple[Pace, float, list[bytes]]:
        """Where it is now, when its last packet came, and the payloads of the last few since
        `enter`."""
        word, *moments, owed, calm, ssrc, transit, jitter = self._numbers[row].tolist()
        tick, heard, resumed = moments
        epoch = float(self._epochs[row])
        order = Order(word & 0xFFFF, tick, epoch, heard, resumed, owed, calm)
        pace = Pace(word >> 16 & 0x7F, ssrc, order, transit, jitter)
        first = max(self._began[row], word - REMEMBERED)
        places = [row * REMEMBERED + each % REMEMBERED for each in range(first, word)]
        return pace, float(self._at[row]), [self._recent[place].tobytes() for place in places]

    def wait(self, rows: Index, now: float) -> NDArray[np.bool_]:
        """Which rows, to which nothing came, have to wait for no longer than they may. The others
        are as they were."""
        numbers = self._numbers[rows]
        ticks = self._ticks(rows, now)
        steps = ticks - numbers[:, _TICK]
        owed = numbers[:, _OWED] + steps * G711_FRAME
        good: NDArray[np.bool_] = owed <= HOLD
        numbers[:, _TICK] = ticks
        numbers[:, _OWED] = owed
        numbers[:, _CALM] += steps > 0
        self._numbers[rows[good]] = numbers[good]
        return good

    def _ticks(self, rows: Index, now: float) -> NDArray[np.int64]:
        frames = (now - self._epochs[rows]) * FRAMES_PER_SECOND
        return (frames + 0.5).astype(np.int64)

    def go_on(self, rows: Index, packets: Octets, now: float) -> NDArray[np.bool_]:
        """Which rows go on as they did with their `packets`, shape (len(rows), any, PACKET), all
        received at `now`. Those are done with; the others are as they were."""
        number = packets.shape[1]
        heads = packets[:, :, :HEADER_LENGTH].copy().view(">u4").astype(np.int64)
        numbers = self._numbers[rows]
        word = numbers[:, _WORD].copy()
        # Not the last number of 16 bits: then they begin anew.
        good: NDArray[np.bool_] = word & 0xFFFF <= 0xFFFF - number
        for at in range(number):
            good &= heads[:, at, 0] & _UNMARKED == word + at
            good &= heads[:, at, 2] == numbers[:, _SSRC]
        ticks = self._ticks(rows, now)
        steps = ticks - numbers[:, _TICK]
        owed = numbers[:, _OWED] + (steps - number) * G711_FRAME
        good &= (steps <= MOST_STEPS) & (owed >= 0) & (owed <= HOLD)
        if steps.max() > HOLD_FRAMES:
            # Else they have stood still for no longer than is waited for anyway.
            stood = (steps > HOLD_FRAMES) & (numbers[:, _OWED] <= HOLD)
            numbers[stood, _RESUMED] = ticks[stood]
        numbers[:, _WORD] += number
        numbers[:, _HEARD] = numbers[:, _TICK]
        numbers[:, _TICK] = ticks
        numbers[:, _OWED] = owed
        numbers[:, _CALM] += steps > 0
        for at in range(number):
            _measure(numbers, heads[:, at, 1], now)
        if not good.all():
            rows, word, packets, numbers = rows[good], word[good], packets[good], numbers[good]
        self._numbers[rows] = numbers
        self._at[rows] = now
        for at in range(number):
            places = rows * REMEMBERED + (word + at) % REMEMBERED
            self._recent[places] = packets[:, at, HEADER_LENGTH:]
        return good


def _measure(numbers: NDArray[np.int64], timestamps: NDArray[np.int64], now: float) -> None:
    """The jitter, as of RFC 3550 appendix A.8."""
    transit = (int(now * G711_RATE) - timestamps) & 0xFFFF_FFFF
    moved = ((transit - numbers[:, _TRANSIT] + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
    numbers[:, _JITTER] += np.abs(moved) - ((numbers[:, _JITTER] + 8) >> 4)
    numbers[:, _TRANSIT] = transit

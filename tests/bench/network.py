"""What a bad network does to packets, decided by a seed and a packet's number alone.

Losses, delays, order and copies are drawn apart: the same seed loses the same packets whatever
else is asked for, and another call with it loses them too.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Weather:
    """Percentages of packets, and milliseconds.

    `burst` is the mean length of a loss in packets, by Gilbert's model; 1 for losses that know
    nothing of each other. `jitter` is the mean of an exponential delay on top of `delay`; order is
    kept but for the `reorder` per cent held back by `hold`. `skew` in ppm is how much slower the
    sender's clock runs; a faster one, below 0, eats up `delay`.
    """

    loss: float = 0.0
    burst: float = 1.0
    delay: float = 0.0
    jitter: float = 0.0
    reorder: float = 0.0
    hold: float = 30.0
    duplicate: float = 0.0
    skew: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate"):
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f"{name} is a percentage")
        if self.burst < 1:
            raise ValueError("burst is at least 1 packet")
        if min(self.delay, self.jitter, self.hold) < 0:
            raise ValueError("a delay is not negative")


@dataclass(slots=True)
class Tally:
    packets: int = 0
    lost: int = 0
    reordered: int = 0
    duplicated: int = 0
    runs: int = 0
    """Losses, each of one packet or more that follow each other."""


@dataclass(slots=True)
class Way:
    """One direction of one call. `trace`, if given, says which packets are lost, over and over."""

    weather: Weather
    seed: str
    trace: tuple[bool, ...] = ()
    tally: Tally = field(default_factory=Tally)
    lost: list[bool] = field(default_factory=list)
    _losses: random.Random = field(init=False)
    _delays: random.Random = field(init=False)
    _orders: random.Random = field(init=False)
    _copies: random.Random = field(init=False)
    _bad: bool = False
    _began: float | None = None
    _last: float = 0.0

    def __post_init__(self) -> None:
        self._losses = random.Random(f"{self.seed} loss")
        self._delays = random.Random(f"{self.seed} delay")
        self._orders = random.Random(f"{self.seed} order")
        self._copies = random.Random(f"{self.seed} copy")

    def send(self, now: float) -> list[float]:
        """When the next packet, come at `now` in seconds, goes on: never, once or twice."""
        weather, tally = self.weather, self.tally
        began = self._began = now if self._began is None else self._began
        # Drawn for every packet, lost or not, so that no answer moves those after it.
        lost = self._loses(tally.packets)
        jitter = self._delays.expovariate(1.0) * weather.jitter
        held = self._orders.random() * 100 < weather.reorder
        copied = self._copies.random() * 100 < weather.duplicate
        tally.packets += 1
        tally.runs += lost and not (self.lost and self.lost[-1])
        self.lost.append(lost)
        if lost:
            tally.lost += 1
            return []
        drift = (now - began) * weather.skew / 1e6
        at = now + max(0.0, (weather.delay + jitter) / 1000 + drift)
        if held:
            tally.reordered += 1
            at += weather.hold / 1000
        else:
            at = self._last = max(at, self._last)
        tally.duplicated += copied
        return [at, at + 0.001] if copied else [at]

    def _loses(self, number: int) -> bool:
        if self.trace:
            return self.trace[number % len(self.trace)]
        share = min(self.weather.loss / 100, 0.999999)
        draw = self._losses.random()
        if self.weather.burst <= 1:
            return draw < share
        leaves = 1 / self.weather.burst
        self._bad = draw >= leaves if self._bad else draw < leaves * share / (1 - share)
        return self._bad


def write_trace(path: Path, lost: Iterable[bool]) -> None:
    """1 for a packet lost, 0 for one that came through."""
    path.write_text("".join("01"[each] for each in lost) + "\n", encoding="ascii")


def read_trace(path: Path) -> tuple[bool, ...]:
    """Raises ValueError for what is no trace."""
    text = "".join(path.read_text(encoding="ascii").split())
    if not text or set(text) - {"0", "1"}:
        raise ValueError(f"{path}: a trace is made of 0 and 1")
    return tuple(digit == "1" for digit in text)

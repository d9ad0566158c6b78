"""The agent's voice, come back from the far end: how often it interrupts itself.

On the virtual clock of the samples: minutes of speech leave frame by frame and come back through
a telephone, fainter and later, alone or from a room. Nobody else speaks, so every turn found is a
mistake. Then callers speak over it: every turn missed is one, too.

    python -m tests.bench.echo --minutes 10
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

import numpy as np
from numpy.typing import NDArray

from bridge.audio.g711 import ulaw_decode, ulaw_encode
from bridge.audio.resample import Resampler
from bridge.backends.base import BackendEvent, Pcm, SpeechStarted
from bridge.backends.cascade.listening import Ear
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings
from tests.peers import speech

RATE, FRAME = 24_000, 480
DELAYS_MS = (20, 60, 100, 150, 200, 250)
AGENT = (
    "Thank you for calling. This is the workshop, how can I help you today?",
    "We are open from Monday to Friday, nine to five, and on Saturdays until noon.",
    "If you would like to speak to sales, say sales; otherwise please hold the line.",
    "Your order has left us on Tuesday, so it should be with you by the end of the week.",
    "I am afraid that I did not find that number. Could you read it to me once more?",
)
VOICES = ("en-us", "en-us+f3", "en+m3", "en-us+m7")
CALLER = ("Wait, stop please.", "No, that is not what I wanted.", "Hello, can you hear me?")
TURN = {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500}
SETTLES_S = 3.0


def telephone(sound: Pcm) -> Pcm:
    slow = ulaw_decode(ulaw_encode(Resampler(RATE, 8000).process(sound)))
    return Resampler(8000, RATE).process(slow)


def room(rng: np.random.Generator) -> NDArray[np.float64]:
    """A loudspeaker in a room: the straight path, and 100 ms of what the walls give back."""
    samples = np.arange(RATE // 10)
    response = rng.normal(0, 0.06, len(samples)) * np.exp(-samples / 600)
    response[0] = 1.0
    return response


def agent(minutes: float) -> Pcm:
    rng = np.random.default_rng(3)
    parts: list[Pcm] = []
    left = int(minutes * 60 * RATE)
    while left > 0:
        text, voice = rng.choice(AGENT), rng.choice(VOICES)
        pause = np.zeros(int(rng.uniform(0.2, 1.0) * RATE), np.int16)
        parts += [speech.samples(str(text), rate=RATE, voice=str(voice)), pause]
        left -= len(parts[-2]) + len(pause)
    return np.concatenate(parts)


def echo_of(sound: Pcm, delay_ms: int, loss_db: float, response: NDArray[np.float64]) -> Pcm:
    """What comes back of what was sent `delay_ms` before."""
    heard = telephone(sound).astype(np.float64)
    size = 1 << int(len(heard) + len(response)).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.fft.rfft(response, size)
    back = np.fft.irfft(spectrum, size)[: len(sound)] * 10 ** (-loss_db / 20)
    late = np.concatenate((np.zeros(delay_ms * RATE // 1000), back))[: len(sound)]
    return telephone(late.clip(-32768, 32767).astype(np.int16))


@dataclass
class Line:
    """One caller's ear, fed in step with what leaves."""

    parts: Parts
    late: int = 0
    """Frames that what is heard may be late, and then come at once."""

    def __post_init__(self) -> None:
        self.turns: list[int] = []
        self._ear = Ear(self.parts, self._told)
        self._ear.configure(TURN)
        self._ear.agent_speaking(speaking=True)
        self._position_ms = 0

    def _told(self, event: BackendEvent) -> None:
        if isinstance(event, SpeechStarted):
            self.turns.append(self._position_ms)

    async def run(self, leaves: Pcm, arrives: Pcm) -> list[int]:
        """When, in milliseconds, a turn was found to have begun."""
        rng = np.random.default_rng(7)
        heard = 0
        for begin in range(0, min(len(leaves), len(arrives)) - FRAME + 1, FRAME):
            self._position_ms = begin * 1000 // RATE
            there = begin + FRAME - FRAME * int(rng.integers(0, self.late + 1))
            for at in range(heard, there, FRAME):
                self._ear.push(arrives[at : at + FRAME])
            heard = max(heard, there)
            self._ear.played(leaves[begin : begin + FRAME])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await self._ear.close()
        return self.turns


async def alone(parts: Parts, leaves: Pcm, options: argparse.Namespace) -> list[int]:
    """Turns found in an echo of so many minutes, by delay; in a room every other time."""
    rng = np.random.default_rng(5)
    stretch = len(leaves) // len(DELAYS_MS)
    found = []
    for number, delay_ms in enumerate(DELAYS_MS):
        part = leaves[number * stretch : (number + 1) * stretch]
        response = room(rng) if number % 2 else np.ones(1)
        arrives = echo_of(part, delay_ms, options.loss_db, response)
        found.append(len(await Line(parts, options.late).run(part, arrives)))
    return found


async def spoken_over(
    parts: Parts, leaves: Pcm, options: argparse.Namespace
) -> tuple[int, list[float]]:
    """Callers at the level of the agent who interrupt it, and after how long they are heard."""
    rng = np.random.default_rng(6)
    onsets: list[float] = []
    for number in range(options.callers):
        begin = int(rng.integers(0, len(leaves) - 12 * RATE))
        part = leaves[begin : begin + 6 * RATE]
        delay_ms = DELAYS_MS[number % len(DELAYS_MS)]
        arrives = echo_of(part, delay_ms, options.loss_db, room(rng)).astype(np.int32)
        words = CALLER[number % len(CALLER)]
        said = telephone(speech.samples(words, rate=RATE, voice="en-gb"))
        at = int(SETTLES_S * RATE)
        arrives[at : at + len(said)] += said[: len(arrives) - at]
        heard = arrives.clip(-32768, 32767).astype(np.int16)
        turns = await Line(parts, options.late).run(part, heard)
        later = [turn - SETTLES_S * 1000 for turn in turns if turn >= SETTLES_S * 1000]
        onsets += later[:1] if later and later[0] < 1500 else []
    return options.callers, onsets


async def measure(options: argparse.Namespace) -> None:
    leaves = agent(options.minutes)
    minutes = len(leaves) / RATE / 60
    for gate in (False, True):
        parts = Parts(CascadeSettings(echo_gate=gate))
        found = await alone(parts, leaves, options)
        by_delay = ", ".join(f"{ms} ms {n}" for ms, n in zip(DELAYS_MS, found, strict=True))
        print(f"echo gate {'on' if gate else 'off'}, {options.loss_db:g} dB loss:")
        print(f"  {sum(found)} self-interruptions in {minutes:.1f} min ({by_delay})")
        callers, onsets = await spoken_over(parts, leaves, options)
        cuts = quantiles(onsets, n=20, method="inclusive") if len(onsets) > 1 else [0.0] * 19
        print(
            f"  {len(onsets)} of {callers} callers heard over the echo, "
            f"p50 {cuts[9]:.0f} ms, p95 {cuts[18]:.0f} ms after their first sample"
        )
        await parts.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="(%(default)s)")
    parser.add_argument("--loss_db", type=float, default=20.0, help="(%(default)s)")
    parser.add_argument(
        "--late", type=int, default=0, help="frames that some come late, at most (%(default)s)"
    )
    parser.add_argument("--callers", type=int, default=60, help="(%(default)s)")
    asyncio.run(measure(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()

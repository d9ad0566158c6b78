"""Callers who murmur while the agent speaks, and callers who mean it: who makes it stop.

On the virtual clock of the samples, with `cascade.turn.pause_first` and a recogniser that is
never wrong and takes its time: what is measured is the rule, not a recogniser.

    python -m tests.bench.murmurs
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from bridge.backends.base import BackendEvent, HoldPlayout, Pcm, SpeechStarted
from bridge.backends.cascade.listening import Ear
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings
from bridge.backends.cascade.stt import Hints, Wanted
from tests.bench.echo import telephone
from tests.peers import speech

RATE, FRAME = 24_000, 480
VOICES = ("en-gb", "en-us", "en-us+f3", "en+m3", "en-us+m7", "en-gb-scotland")
MURMURS = ("mhm", "uh huh", "yes", "yeah", "okay", "right", "I see", "oh", "sure", "got it")
WORDS = (
    *("stop", "no", "wait", "what?", "hello?", "excuse me", "one moment", "that is wrong"),
    *("yes but not today", "okay then tell me the price", "sorry, who are you?"),
    *("can I speak to somebody", "I did not order that", "could you repeat that please"),
    *("no I mean the other one", "how much is it?", "please hold on a second"),
    *("actually I wanted to ask about my bill", "my number is four five six", "that was last week"),
)
TURN = {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500}
BEFORE_S, AFTER_S = 1.0, 2.5


class Oracle:
    """Knows what is said; tells it so many frames later."""

    def __init__(self, late_ms: int) -> None:
        self.words = ""
        self._frames = late_ms // 20

    async def start(self) -> None:
        pass

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted) -> str:
        for _ in range(2 * self._frames):
            await asyncio.sleep(0)
        return self.words

    async def close(self) -> None:
        pass


@dataclass
class Line:
    parts: Parts
    position_ms: int = 0
    stopped_at: int | None = None
    paused_at: int | None = None
    resumed_at: int | None = None

    def told(self, event: BackendEvent) -> None:
        match event:
            case SpeechStarted():
                self.stopped_at = self.stopped_at or self.position_ms
            case HoldPlayout(held=True):
                self.paused_at = self.paused_at or self.position_ms
            case HoldPlayout(held=False) if self.stopped_at is None:
                self.resumed_at = self.position_ms
            case _:
                pass

    async def hear(self, sound: Pcm) -> "Line":
        ear = Ear(self.parts, self.told)
        ear.configure(TURN)
        ear.agent_speaking(speaking=True)
        for begin in range(0, len(sound) - FRAME + 1, FRAME):
            self.position_ms = begin * 1000 // RATE
            ear.push(sound[begin : begin + FRAME])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await ear.close()
        return self


def said(words: str, voice: str) -> Pcm:
    sound = telephone(speech.samples(words, rate=RATE, voice=voice))
    quiet = np.random.default_rng(1).normal(0, 12, int((BEFORE_S + AFTER_S) * RATE))
    before, after = np.split(quiet.astype(np.int16), [int(BEFORE_S * RATE)])
    return np.concatenate((before, sound, after))


async def all_of(parts: Parts, oracle: Oracle, texts: Sequence[str]) -> list[Line]:
    lines = []
    for words in texts:
        for voice in VOICES:
            oracle.words = words
            lines.append(await Line(parts).hear(said(words, voice)))
    return lines


async def measure(options: argparse.Namespace) -> None:
    for pauses in (False, True):
        oracle = Oracle(options.stt_ms)
        parts = Parts(CascadeSettings(pause_first=pauses), stt=oracle)
        murmurs = await all_of(parts, oracle, MURMURS)
        words = await all_of(parts, oracle, WORDS)
        await parts.close()
        survived = sum(line.stopped_at is None for line in murmurs)
        yielded = sum(line.stopped_at is not None for line in words)
        print(f"pause_first {str(pauses).lower()}, transcripts after {options.stt_ms} ms:")
        print(f"  the agent goes on after {survived} of {len(murmurs)} murmurs", end=", ")
        print(f"stops for {yielded} of {len(words)} interruptions")
        held = [
            line.resumed_at - line.paused_at
            for line in murmurs
            if line.resumed_at is not None and line.paused_at is not None
        ]
        if held:
            silent = [line.paused_at or line.stopped_at for line in words]
            onsets = [at - BEFORE_S * 1000 for at in silent if at is not None]
            print(
                f"  silent for a murmur: median {median(held):.0f}, longest {max(held)} ms; ",
                end="",
            )
            print(f"for words after a median of {median(onsets):.0f} ms")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stt_ms", type=int, default=200, help="(%(default)s)")
    asyncio.run(measure(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()

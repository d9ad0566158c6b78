"""Callers who murmur while the agent speaks, and callers who mean it: who makes it stop.

A labelled set, spoken by several voices at several speeds, on a telephone, to each way of taking
turns. On the virtual clock of the samples, with a recogniser that is never wrong and takes its
time: what is measured is the rule, not a recogniser.

    python -m tests.bench.murmurs
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import numpy as np

from bridge.backends.base import BackendEvent, HoldPlayout, Pcm, SpeechStarted
from bridge.backends.cascade.listening import Ear
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings
from bridge.backends.cascade.stt import Hints, Wanted
from bridge.errors import BackendError
from tests.bench.echo import telephone
from tests.peers import speech

RATE, FRAME = 24_000, 480
VOICES = ("en-gb", "en-us", "en-us+f3", "en+m3", "en-us+m7", "en-gb-scotland")
SPEEDS = (130, 180)
MURMURS = (
    *("mhm", "mm hmm", "uh huh", "hmm", "aha", "yes", "yeah", "yep", "okay", "right", "I see"),
    *("oh", "sure", "got it", "alright", "yeah okay"),
)
WORDS = (
    *("stop", "no", "wait", "what?", "hello?", "excuse me", "one moment", "that is wrong"),
    *("yes but not today", "okay then tell me the price", "sorry, who are you?", "hang on"),
    *("can I speak to somebody", "I did not order that", "could you repeat that please"),
    *("no I mean the other one", "how much is it?", "please hold on a second", "wait a minute"),
    *("actually I wanted to ask about my bill", "my number is four five six", "that was last week"),
)
BEFORE_S, AFTER_S = 1.0, 2.5


@dataclass(frozen=True)
class Mode:
    name: str
    turn: Mapping[str, Any]
    pause_first: bool
    hears_words: bool = True

    @property
    def label(self) -> str:
        without = "" if self.hears_words else ", recogniser down"
        return self.name + ", pause_first" * self.pause_first + without


SERVER = {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500}
TURNS: Mapping[str, Mapping[str, Any]] = {
    "server_vad": SERVER,
    **{
        f"semantic_vad {eagerness}": {"type": "semantic_vad", "eagerness": eagerness}
        for eagerness in ("low", "auto", "high")
    },
}
MODES = [
    *(Mode(name, turn, pauses) for pauses in (False, True) for name, turn in TURNS.items()),
    Mode("server_vad", SERVER, pause_first=True, hears_words=False),
]


class Oracle:
    """Knows what is said; tells it so many frames later."""

    def __init__(self, late_ms: int, *, fails: bool = False) -> None:
        self.words = ""
        self._fails = fails
        self._frames = late_ms // 20

    async def start(self) -> None:
        pass

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted) -> str:
        for _ in range(2 * self._frames):
            await asyncio.sleep(0)
        if self._fails:
            raise BackendError("no words")
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

    async def hear(self, sound: Pcm, turn: Mapping[str, Any]) -> "Line":
        ear = Ear(self.parts, self.told)
        ear.configure(turn)
        ear.agent_speaking(speaking=True)
        for begin in range(0, len(sound) - FRAME + 1, FRAME):
            self.position_ms = begin * 1000 // RATE
            ear.push(sound[begin : begin + FRAME])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await ear.close()
        return self


@dataclass(frozen=True)
class Clip:
    words: str
    sound: Pcm


def spoken(texts: Sequence[str]) -> list[Clip]:
    return [
        Clip(words, said(words, voice, speed))
        for words in texts
        for voice in VOICES
        for speed in SPEEDS
    ]


def said(words: str, voice: str, speed: int) -> Pcm:
    sound = telephone(speech.samples(words, rate=RATE, voice=voice, speed=speed))
    quiet = np.random.default_rng(1).normal(0, 12, int((BEFORE_S + AFTER_S) * RATE))
    before, after = np.split(quiet.astype(np.int16), [int(BEFORE_S * RATE)])
    return np.concatenate((before, sound, after))


async def all_of(parts: Parts, oracle: Oracle, clips: Sequence[Clip], mode: Mode) -> list[Line]:
    lines = []
    for clip in clips:
        oracle.words = clip.words
        lines.append(await Line(parts).hear(clip.sound, mode.turn))
    return lines


@dataclass(frozen=True)
class Outcome:
    """Times are from the caller's first sample, in milliseconds."""

    murmurs: Sequence[Line]
    words: Sequence[Line]

    def row(self, label: str) -> str:
        stopped = sum(line.stopped_at is not None for line in self.murmurs)
        heeded = [line.stopped_at for line in self.words if line.stopped_at is not None]
        silent = [
            line.stopped_at if line.paused_at is None else line.paused_at
            for line in self.words
            if line.stopped_at is not None
        ]
        paused = [
            line.resumed_at - line.paused_at
            for line in self.murmurs
            if line.resumed_at is not None and line.paused_at is not None
        ]
        held = f"{median(paused):.0f} / {max(paused)}" if paused else "-"
        return (
            f"| {label} | {stopped} of {len(self.murmurs)} | {len(heeded)} of {len(self.words)} "
            f"| {both(silent)} | {both(heeded)} | {held} |"
        )


def both(instants: Sequence[float | None]) -> str:
    """p50 and p95 after the first sample."""
    since = [at - BEFORE_S * 1000 for at in instants if at is not None]
    if len(since) < 2:
        return "-"
    cuts = quantiles(since, n=20, method="inclusive")
    return f"{cuts[9]:.0f} / {cuts[18]:.0f}"


async def measure(options: argparse.Namespace) -> None:
    murmurs, words = spoken(MURMURS), spoken(WORDS)
    print(
        f"{len(murmurs)} murmurs and {len(words)} interruptions; {len(VOICES)} voices at", end=" "
    )
    print(f"{' and '.join(map(str, SPEEDS))} words/min; transcripts after {options.stt_ms} ms")
    print("| turns | murmurs that stop the agent | interruptions that do ", end="")
    print("| silent after, p50 / p95 ms | decided after | silent for a murmur, median / longest |")
    print("|---|---|---|---|---|---|")
    for mode in MODES:
        if options.only not in mode.label:
            continue
        oracle = Oracle(options.stt_ms, fails=not mode.hears_words)
        parts = Parts(CascadeSettings(pause_first=mode.pause_first), stt=oracle)
        told = [await all_of(parts, oracle, clips, mode) for clips in (murmurs, words)]
        await parts.close()
        print(Outcome(*told).row(mode.label), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stt_ms", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--only", default="", help="modes with this in their name")
    asyncio.run(measure(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()

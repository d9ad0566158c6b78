"""The PocketSphinx program: utterances in on stdin, words out on stdout.

A process of its own because decoding holds the GIL for tens of milliseconds. It hears well only
what it is told to expect: a grammar of the phrases of one dialogue state.
"""

import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pocketsphinx import Decoder, get_model_path

from bridge.audio.resample import Resampler
from bridge.backends.base import MODEL_RATE, Pcm
from bridge.backends.cascade import pipes

RATE = 16_000
PEAK = 10_000.0
# A telephone has nothing above 3.4 kHz where the acoustic model expects the hiss of consonants.
# A floor of noise 36 dB under the peak evens that out: 52 of 80 telephone words right without
# it, 70 with it.
NOISE = 150.0
MIN_PEAK = 100  # -50 dBFS: nobody spoke
MIN_SAMPLES = RATE // 10
MAX_GRAMMARS = 64
EDGE = RATE // 10  # samples kept around the speech
# Quiet added at either end: without it the search may end before the last word has.
QUIET = RATE // 10
MAX_DICTATION = RATE * 30


class Pronunciations:
    """The en-us dictionary, searched as it lies: 130 000 entries are 30 MB as Python objects."""

    def __init__(self, path: Path) -> None:
        self._text = b"\n" + path.read_bytes()

    def of(self, word: str) -> list[str]:
        pattern = rb"\n" + re.escape(word.encode()) + rb"(?:\(\d+\))? ([^\n]+)"
        return [found.decode().strip() for found in re.findall(pattern, self._text)]


class Recogniser:
    def __init__(self) -> None:
        self._pronunciations = Pronunciations(Path(get_model_path("en-us/cmudict-en-us.dict")))
        self._grammars: dict[tuple[str, ...], str | None] = {}
        self._words: dict[str, bool] = {}
        self._decoder = self._new_decoder()
        self._dictation: Decoder | None = None

    def _new_decoder(self) -> Decoder:
        return Decoder(
            hmm=get_model_path("en-us/en-us"), dict=None, lm=None, cmn="batch", loglevel="FATAL"
        )

    def recognise(self, pcm: Pcm, phrases: Iterable[str] | None) -> tuple[str, list[str]]:
        """The words heard, and the words of `phrases` that cannot be heard."""
        speech = prepare(pcm)
        if phrases is None:
            return (self._dictate(speech) if speech else ""), []
        known, unknown = self._pronounceable(phrases)
        grammar = self._grammar(known)
        if grammar is None or not speech:
            return "", unknown
        self._decoder.activate_search(grammar)
        return decode(self._decoder, speech), unknown

    def _pronounceable(self, phrases: Iterable[str]) -> tuple[tuple[str, ...], list[str]]:
        known, unknown = [], []
        for phrase in phrases:
            words = re.findall(r"[a-z']+", phrase.lower())
            missing = [word for word in words if not self._learn(word)]
            unknown += missing
            if words and not missing:
                known.append(" ".join(words))
        return tuple(sorted(set(known))), unknown

    def _learn(self, word: str) -> bool:
        if word not in self._words:
            sounds = self._pronunciations.of(word)
            for number, phones in enumerate(sounds, start=1):
                self._decoder.add_word(word if number == 1 else f"{word}({number})", phones)
            self._words[word] = bool(sounds)
        return self._words[word]

    def _grammar(self, phrases: tuple[str, ...]) -> str | None:
        if not phrases:
            return None
        if phrases not in self._grammars:
            if len(self._grammars) >= MAX_GRAMMARS:
                self._grammars.clear()
                learnt, self._words = list(self._words), {}
                self._decoder = self._new_decoder()
                for word in learnt:
                    self._learn(word)
            name = f"g{len(self._grammars)}"
            self._decoder.add_jsgf_string(name, jsgf(phrases))
            self._grammars[phrases] = name
        return self._grammars[phrases]

    def _dictate(self, speech: bytes) -> str:
        if self._dictation is None:
            self._dictation = Decoder(cmn="batch", loglevel="FATAL")
        return decode(self._dictation, speech[: MAX_DICTATION * 2])


def jsgf(phrases: Iterable[str]) -> str:
    return f"#JSGF V1.0; grammar phrases; public <phrase> = {' | '.join(phrases)};"


def prepare(pcm: Pcm) -> bytes:
    """16 kHz, silence trimmed, level set, noise floor added; empty when nobody spoke."""
    samples = Resampler(MODEL_RATE, RATE).process(pcm).astype(np.float32)
    peak = float(np.abs(samples).max(initial=0.0))
    loud = np.flatnonzero(np.abs(samples) > peak * 0.05)
    if peak < MIN_PEAK or loud[-1] - loud[0] < MIN_SAMPLES:
        return b""
    samples = samples[max(0, loud[0] - EDGE) : loud[-1] + EDGE] * (PEAK / peak)
    samples = np.pad(samples, QUIET)
    # Seeded: the same utterance gives the same words.
    noise: NDArray[np.float64] = np.random.default_rng(0).normal(0.0, NOISE, len(samples))
    return np.clip(samples + noise, -32767, 32767).astype("<i2").tobytes()


def decode(decoder: Decoder, speech: bytes) -> str:
    decoder.start_utt()
    decoder.process_raw(speech, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return str(hypothesis.hypstr) if hypothesis is not None else ""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ends with its parent, by the pipe
    recogniser = Recogniser()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    stdout.write(pipes.frame(pipes.Ready()))
    stdout.flush()
    while (request := pipes.read_request(stdin)) is not None:
        if not isinstance(request, pipes.Recognise):
            continue
        pcm = np.frombuffer(request.pcm, np.int16)
        text, unknown = recogniser.recognise(pcm, request.phrases)
        stdout.write(pipes.frame(pipes.Recognised(request.job, text, unknown)))
        stdout.flush()


if __name__ == "__main__":
    main()

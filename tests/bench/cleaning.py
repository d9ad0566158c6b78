"""What realtime-bridge[apm] does to the voice of a caller, and what it costs.

Speech on a telephone in noise: how far it stands out before and after, its PESQ against the speech
alone if pesq is there (scripts/install-peers --all), and how often the noise would be taken for a
caller who interrupts, if turns were not found in the sound as it came. Then the agent's voice come
back: how much of it is left. The cost is CPU time, of all threads.

    python -m tests.bench.cleaning
"""

import argparse
import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bridge.audio.frames import MODEL_FRAME, MODEL_RATE, Pcm
from bridge.audio.resample import Resampler
from bridge.backends.cascade.parts import Parts
from bridge.backends.cascade.settings import CascadeSettings
from bridge.media.apm import NOISE_REDUCTION, Cleaner, Wanted
from tests.bench.echo import DELAYS_MS, Line, agent, echo_of, room, telephone
from tests.bench.false_stops import stops_in
from tests.bench.noises import RATE, babble
from tests.bench.voice_score import at_rate, has_pesq, score
from tests.peers import speech

VOICES = ("en-gb", "en-us", "en-us+f3", "en+m3")
SENTENCES = (
    "I would like to change the date of my appointment to next Thursday afternoon.",
    "The washing machine that you delivered last week has stopped working again.",
    "Could you tell me how much it would cost to send a parcel to Norway?",
)
PAUSE_S = 1.5
SETTLED_S = 3.0
CALLER_DBFS = -26.0
ECHO = Wanted(echo=True)
ALL = Wanted(noise=True, level=True, echo=True)
KINDS: Mapping[str, Wanted | None] = {"as it came": None, **NOISE_REDUCTION}


def cleaned(wanted: Wanted | None, heard: Pcm, played: Pcm | None = None) -> Pcm:
    if wanted is None:
        return heard
    cleaner, out = Cleaner(wanted), []
    for at in range(0, len(heard) - MODEL_FRAME + 1, MODEL_FRAME):
        if played is not None:
            cleaner.play(played[at : at + MODEL_FRAME])
        out.append(cleaner.hear(heard[at : at + MODEL_FRAME]))
    return np.concatenate(out)


def power_db(sound: Pcm) -> float:
    return float(10 * np.log10(np.mean(sound.astype(float) ** 2) + 1e-9))


def scaled(sound: Pcm, dbfs: float) -> Pcm:
    gain = 10 ** ((dbfs + 20 * np.log10(32768) - power_db(sound)) / 20)
    pcm: Pcm = (sound * gain).clip(-32767, 32767).astype(np.int16)
    return pcm


def white(seconds: float) -> Pcm:
    return np.random.default_rng(1).normal(0, 1000, int(seconds * MODEL_RATE)).astype(np.int16)


def pink(seconds: float) -> Pcm:
    spectrum = np.fft.rfft(white(seconds).astype(float))
    shaped = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)))
    return scaled((shaped / np.abs(shaped).max() * 20_000).astype(np.int16), -30)


def crowd(seconds: float) -> Pcm:
    return Resampler(RATE, MODEL_RATE).process(babble(seconds, -30))


NOISES: Mapping[str, Callable[[float], Pcm]] = {"white": white, "pink": pink, "babble": crowd}


def spoken() -> tuple[Pcm, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Sentences and pauses; which samples are speech."""
    pause = np.zeros(int(PAUSE_S * MODEL_RATE), np.int16)
    parts = [np.concatenate((pause, pause))]
    for text in SENTENCES:
        for voice in VOICES:
            said = scaled(speech.samples(text, rate=MODEL_RATE, voice=voice), CALLER_DBFS)
            parts += [said, pause]
    sound = np.concatenate(parts)
    edges = np.cumsum([0, *(len(part) for part in parts)])
    talks = np.zeros(len(sound), bool)
    for number in range(1, len(parts), 2):
        talks[edges[number] : edges[number + 1]] = True
    return sound, talks


def in_noise(snr_db: float) -> None:
    said, talks = spoken()
    seconds = len(said) / MODEL_RATE
    alone = telephone(said)
    print(f"| noise, {snr_db:g} dB below | heard | stands out by, dB | PESQ ", end="")
    print("| false starts / min, were turns found in it |")
    print("|---|---|---|---|---|")
    for noise, make in NOISES.items():
        hiss = scaled(make(seconds + 1), CALLER_DBFS - snr_db)[: len(said)]
        heard = telephone((said.astype(np.int32) + hiss).clip(-32767, 32767).astype(np.int16))
        minutes = telephone(scaled(make(120), CALLER_DBFS - snr_db))
        for kind, wanted in KINDS.items():
            after = cleaned(wanted, heard)
            size = min(len(after), len(talks))
            late = np.arange(size) > SETTLED_S * MODEL_RATE
            during, between = after[:size][talks[:size] & late], after[:size][~talks[:size] & late]
            starts = asyncio.run(stops_in(cleaned(wanted, minutes))) / 2
            pesq = f"{likeness(alone, after, talks):.2f}" if has_pesq() else "-"
            stands = power_db(during) - power_db(between)
            print(f"| {noise} | {kind} | {stands:.1f} | {pesq} | {starts:g} |", flush=True)


def likeness(said: Pcm, heard: Pcm, talks: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """Mean PESQ of the sentences."""
    edges = np.flatnonzero(np.diff(talks.astype(np.int8)))
    scores = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        around = slice(max(0, begin - MODEL_RATE // 4), end + MODEL_RATE // 4)
        reference = at_rate(said[begin:end], MODEL_RATE, 48_000)
        scores.append(score(reference, heard[around], MODEL_RATE, narrow=True).pesq)
    return float(np.mean(scores))


async def of_echo(minutes: float) -> None:
    print("| echo | is fainter by, dB, after 1 to 5 s | after that | turns found in it, per min |")
    print("|---|---|---|---|")
    leaves = agent(minutes)
    parts = Parts(CascadeSettings(echo_gate=False))
    rng = np.random.default_rng(5)
    for loss_db in (20.0, 6.0):
        for delay_ms in (DELAYS_MS[0], DELAYS_MS[2], DELAYS_MS[-1]):
            arrives = echo_of(leaves, delay_ms, loss_db, room(rng))
            left = cleaned(ECHO, arrives, leaves)
            early, late = slice(MODEL_RATE, 5 * MODEL_RATE), slice(5 * MODEL_RATE, len(left))
            fainter = [power_db(arrives[part]) - power_db(left[part]) for part in (early, late)]
            turns = [len(await Line(parts).run(leaves, heard)) for heard in (arrives, left)]
            rates = " then ".join(f"{found / minutes:.1f}" for found in turns)
            name = f"{loss_db:g} dB, {delay_ms} ms, from a room"
            print(f"| {name} | {fainter[0]:.1f} | {fainter[1]:.1f} | {rates} |", flush=True)
    await parts.close()


def cost() -> None:
    print("| wanted | of a core, per call |")
    print("|---|---|")
    sound = telephone(spoken()[0])
    for name, wanted in {**NOISE_REDUCTION, "echo": ECHO, "far_field and echo": ALL}.items():
        cleaner = Cleaner(wanted)
        frames = [sound[at : at + MODEL_FRAME] for at in range(0, len(sound) - 480, MODEL_FRAME)]
        began = time.process_time()
        for frame in frames:
            cleaner.play(frame)
            cleaner.hear(frame)
        spent = time.process_time() - began
        print(f"| {name} | {100 * spent / (len(frames) * 0.02):.2f} % |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--snr_db", type=float, default=10.0, help="(%(default)s)")
    parser.add_argument("--minutes", type=float, default=1.0, help="of echo (%(default)s)")
    options = parser.parse_args(arguments)
    print(f"load {os.getloadavg()[0]:.1f}")
    cost()
    in_noise(options.snr_db)
    asyncio.run(of_echo(options.minutes))


if __name__ == "__main__":
    main()

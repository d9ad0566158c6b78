"""What clocks that drift, networks that stall and chunks of any size do to a call.

On the virtual clock, through the stream, the jitter buffer, the codecs and the media plane of a
call; nothing waits for real time.

    python -m tests.bench.timeline              an hour at 200 ppm either way, stalls, chunks
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio.codecs import G722, OPUS, PCMA, PCMU, Codec
from bridge.audio.frames import MODEL_RATE, Pcm
from bridge.audio.g711 import alaw_encode, ulaw_encode
from bridge.audio.g722 import G722Encoder
from bridge.audio.opus import CLOCK_RATE, OpusEncoder
from bridge.media.clock import SLOT_S
from bridge.media.plane import MediaPlane
from bridge.media.schedule import PHASES
from bridge.media.stream import AudioStream
from bridge.rtp.packet import HEADER, RtpPacket

CODECS = (PCMU, PCMA, G722, OPUS)
TICK_S = 0.02
TONE_HZ, LEVEL = 400, 12_000
NOTCH_S, EDGE_S, FAINT = 0.1, 0.01, 0.01
"""A pause in the tone: where it is heard is how late the sound is."""
WINDOW = MODEL_RATE // 1000 * 5  # two periods of the tone


class Wire:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def send_rtcp(self, data: bytes) -> None:
        """Nobody reads it."""


class Call:
    """One stream alone on a plane; `heard` with the time each frame came."""

    def __init__(self, codec: Codec) -> None:
        self.wire = Wire()
        self.stream = AudioStream(codec, payload_type=96, wire=self.wire, cname="bench", ssrc=1)
        self.heard: list[tuple[float, Pcm]] = []
        self.now = 0.0
        self.stream.on_frame = lambda frame: self.heard.append((self.now, frame))
        self._plane = MediaPlane()
        self._plane.add(self.stream)
        self._timestamp = self._number = 0

    def receive(self, number: int, payload: bytes, units: int) -> None:
        header = HEADER.pack(0x80, 96, number & 0xFFFF, self._timestamp & 0xFFFF_FFFF, 2)
        self._timestamp += units
        self.stream.receive_rtp(header + payload, self.now)

    def slot(self) -> None:
        self._number += 1
        self._plane.slot(self._number, self.now)
        self.now += SLOT_S

    def tick(self) -> None:
        for _ in range(PHASES):
            self.slot()

    def close(self) -> None:
        self._plane.remove(self.stream)

    @property
    def pcm(self) -> Pcm:
        return np.concatenate([frame for _, frame in self.heard])


def encoder(codec: Codec) -> Callable[[Pcm], bytes]:
    if codec is OPUS:
        return OpusEncoder(bitrate=64_000).encode
    if codec is G722:
        return G722Encoder().encode
    law = alaw_encode if codec is PCMA else ulaw_encode
    return lambda pcm: law(pcm).tobytes()


def tone(rate: int, seconds: float) -> Pcm:
    """Of whole periods, with a notch in the middle."""
    at = np.arange(int(seconds * rate)) / rate
    inside = np.clip((NOTCH_S / 2 - np.abs(at - seconds / 2)) / EDGE_S, 0, 1)
    level = LEVEL * (1 - (1 - FAINT) * inside)
    return (level * np.sin(2 * np.pi * TONE_HZ * at)).astype(np.int16)


def payloads(codec: Codec, seconds: float) -> list[bytes]:
    """One round of the tone; the second, so that it may follow itself."""
    encode = encoder(codec)
    size = codec.sample_rate // 50
    sound = tone(codec.sample_rate, seconds).reshape(-1, size)
    return [[encode(frame) for frame in sound] for _ in range(2)][1]


def notches(call: Call) -> NDArray[np.float64]:
    """When the middle of each notch was heard."""
    times = np.array([at for at, _ in call.heard])
    pcm = call.pcm.astype(np.float64)
    whole = len(pcm) // WINDOW * WINDOW
    levels = np.sqrt(np.square(pcm[:whole].reshape(-1, WINDOW)).mean(axis=1))
    faint = (levels < LEVEL / np.sqrt(2) / 2).astype(int)
    faint[: MODEL_RATE // 5 // WINDOW] = 0
    edges = np.flatnonzero(np.diff(faint))
    pairs = edges[: len(edges) // 2 * 2].reshape(-1, 2)
    middles = (pairs.mean(axis=1) + 1) * WINDOW / MODEL_RATE
    starts = np.arange(len(times)) * TICK_S
    places = np.clip(np.searchsorted(starts, middles, side="right") - 1, 0, len(times) - 1)
    found: NDArray[np.float64] = times[places] + middles - starts[places]
    return found


def roughness(pcm: Pcm) -> float:
    """The steepest step, in steps of the tone: more than 1.5 can be heard."""
    steepest = 2 * np.pi * TONE_HZ / MODEL_RATE * LEVEL
    return float(np.abs(np.diff(pcm[MODEL_RATE // 5 :].astype(int))).max() / steepest)


@dataclass(frozen=True, slots=True)
class Drift:
    delays_ms: NDArray[np.float64]
    """Of each notch, from the moment it was sent."""
    roughness: float
    merged: int
    concealed: int

    @property
    def growth_ms(self) -> float:
        return float(self.delays_ms.max() - self.delays_ms[0])


def drift(codec: Codec, *, ppm: float, seconds: float) -> Drift:
    """A sender whose clock runs fast by so much, or slow if below 0."""
    round_s = 10.0
    sounds = payloads(codec, round_s)
    units = codec.clock_rate // 50
    call = Call(codec)
    sent = 0
    roughest = 0.0
    delays: list[NDArray[np.float64]] = []
    pace = 1 + ppm * 1e-6

    def look() -> None:
        """What was heard need not be kept for an hour."""
        nonlocal roughest
        roughest = max(roughest, roughness(call.pcm))
        found = notches(call)
        rounds = np.round(found * pace / round_s - 0.5)
        delays.append(1000 * (found - (rounds + 0.5) * round_s / pace))
        call.heard.clear()

    for number in range(int(seconds / SLOT_S)):
        while sent * TICK_S / pace <= call.now + 1e-9:
            call.receive(sent, sounds[sent % len(sounds)], units)
            sent += 1
        call.slot()
        if number % 200_000 == 199_999:
            look()
    if call.heard:
        look()
    call.close()
    stats = call.stream.inbound.jitter.stats
    return Drift(np.concatenate(delays), roughest, stats.merged, call.stream.inbound.concealed)


@dataclass(frozen=True, slots=True)
class Stall:
    """Milliseconds; from `AFTER_S` after the end of it on."""

    most_late: float
    """Sound heard, against when it was sent."""
    most_waiting: float
    """Sound that waits, as the call's record tells it."""
    merged: int
    dropped: int


AFTER_S = 5.0


def stall(codec: Codec, *, seconds: float, ours: bool) -> Stall:
    """A standstill of the network, which then brings all at once, or of our clock."""
    round_s = 0.5
    sounds = payloads(codec, round_s)
    units = codec.clock_rate // 50
    call = Call(codec)
    begins, ends = 5.0, 5.0 + seconds
    sent = 0
    waiting = 0.0
    while call.now < ends + AFTER_S + 3.0:
        stalled = begins <= call.now < ends
        while not stalled and sent * TICK_S <= call.now + 1e-9:
            call.receive(sent, sounds[sent % len(sounds)], units)
            sent += 1
        if stalled and ours:
            call.now += TICK_S
        else:
            call.tick()
        if call.now > ends + AFTER_S:
            waiting = max(waiting, call.stream.stats.delay_ms)
    call.close()
    found = notches(call)
    # Which notch it is that is heard there is no telling: of half a second more knows `waiting`.
    late = (found[found > ends + AFTER_S] - round_s / 2) % round_s
    stats = call.stream.inbound.jitter.stats
    return Stall(1000 * float(late.max()), waiting, stats.merged, stats.dropped)


@dataclass(slots=True)
class Chunks:
    """Greatest difference in steps of 16 bits between sound in one piece and in random ones."""

    out: int = 0
    """Of octets, which leave no room for less."""
    heard: int = 0


def speechlike(seconds: float) -> Pcm:
    rng = np.random.default_rng(9)
    noise = np.cumsum(rng.normal(0, 1, int(seconds * MODEL_RATE)))
    smooth = noise - np.convolve(noise, np.ones(240) / 240, "same")
    sound: Pcm = (smooth / np.abs(smooth).max() * 20_000).astype(np.int16)
    return sound


def said(codec: Codec, sound: Pcm, sizes: Iterator[int]) -> list[bytes]:
    """Payloads sent of a sound written in chunks."""
    call = Call(codec)
    at = 0
    while at < len(sound):
        size = next(sizes)
        call.stream.playout.write("said", sound[at : at + size])
        at += size
    call.stream.playout.finish("said")
    for _ in range(len(sound) // 480 + 20):
        call.tick()
    call.close()
    return [RtpPacket.parse(data).payload for data in call.wire.sent]


def received(codec: Codec, octets: bytes, sizes_ms: Iterator[int]) -> Pcm:
    """What is heard of octets that come in packets of so many milliseconds."""
    call = Call(codec)
    at = number = 0
    per_ms = codec.clock_rate // 1000
    while at < len(octets) or call.now * 1000 * per_ms < len(octets) + 2000:
        while at < len(octets) and at <= call.now * 1000 * per_ms:
            part = octets[at : at + next(sizes_ms) * per_ms]
            call.receive(number, part, len(part))
            number, at = number + 1, at + len(part)
        call.tick()
    call.close()
    return call.pcm


def draws(rng: random.Random, sizes: Sequence[int]) -> Iterator[int]:
    while True:
        yield rng.choice(sizes)


def chunks(codec: Codec, *, seconds: float, seed: int) -> Chunks:
    rng = random.Random(seed)
    sound = speechlike(seconds)
    whole = said(codec, sound, draws(rng, [len(sound)]))
    parts = said(codec, sound, iter(lambda: rng.randint(1, 5000), 0))
    found = Chunks()
    pairs = zip(b"".join(whole), b"".join(parts), strict=True)
    found.out = max(abs(a - b) for a, b in pairs)
    if codec.clock_rate != CLOCK_RATE:
        octets = b"".join(whole)
        alone = received(codec, octets, draws(rng, [20]))
        mixed = received(codec, octets, draws(rng, [10, 20, 30, 40, 60]))
        size = min(len(alone), len(mixed), int((seconds - 0.5) * MODEL_RATE))
        found.heard = int(np.abs(alone[:size].astype(int) - mixed[:size]).max())
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="of drift (%(default)s)")
    parser.add_argument("--ppm", type=float, default=200.0, help="either way (%(default)s)")
    parser.add_argument("--stall", type=float, default=2.0, help="seconds (%(default)s)")
    parser.add_argument("--seeds", type=int, default=20, help="of random chunks (%(default)s)")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    for codec in CODECS:
        for seed in range(options.seeds):
            differs = chunks(codec, seconds=4.0, seed=seed)
            if differs.out or differs.heard > 1:
                print(f"{codec.name}: seed {seed} differs: {differs}")
        heard = "" if codec is OPUS else ", of packets of 10 to 60 ms what is heard"
        print(f"{codec.name}: {options.seeds} random ways to chunk: what is sent is alike{heard}")
        for ours in (False, True):
            found = stall(codec, seconds=options.stall, ours=ours)
            who = "our clock" if ours else "the network"
            print(
                f"{codec.name}: {who} stalls {options.stall:g} s: from {AFTER_S:g} s after, sound "
                f"is {found.most_late:.0f} ms late at most and {found.most_waiting:.0f} ms wait; "
                f"{found.merged} merged, {found.dropped} dropped"
            )
        for ppm in (options.ppm, -options.ppm):
            drifted = drift(codec, ppm=ppm, seconds=60 * options.minutes)
            print(
                f"{codec.name}, {ppm:+g} ppm, {options.minutes:g} min: delay "
                f"{drifted.delays_ms.min():.0f} to {drifted.delays_ms.max():.0f} ms, grown by "
                f"{drifted.growth_ms:.0f} ms at most; steepest step {drifted.roughness:.2f} of the "
                f"tone's; {drifted.merged} merged, {drifted.concealed} made up",
                flush=True,
            )
    print(f"in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

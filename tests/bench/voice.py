"""What calls sound like: speech through real calls, both ways, on a bad network, on a busy server.

Each take is a call of baresip to our legs and media plane, beside one of baresip to baresip that
loses the same packets; with --browser there are calls of Chromium too, on a good network. Both
sides talk at once. --beside 200 makes all of ours once more while 200 other calls talk. PESQ
(MOS-LQO) against what was said: P.862 for 8 kHz, P.862.2 for the wideband codecs; medians over the
takes. `moved` is by how much audio was shifted in time within a call, `concealed` counts gaps that
we filled, of one call.

Needs baresip, sox, espeak-ng and pesq (scripts/install-peers --all); a C compiler for --beside.

    python -m tests.bench.voice --codecs opus PCMU --loss 0 5 --burst 1 3 --takes 3
    python -m tests.bench.voice --loss 0 --browser --beside 200
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bridge.audio.wav import read_wav
from tests.bench.measure import SETTLE_S, Load, cores
from tests.bench.network import Way, Weather
from tests.bench.relay import Address, Relay
from tests.bench.subjects import ROOT
from tests.bench.voice_browser import BrowserCall
from tests.bench.voice_score import Score, has_pesq, score
from tests.bench.wire import compiled
from tests.peers import speech
from tests.peers.baresip import Baresip, CodecName

CODECS: dict[str, CodecName] = {
    "PCMU": "PCMU",
    "PCMA": "PCMA",
    "G722": "G722",
    "opus": "opus",
    "opus-64k-fec": "opus",
}
SETTINGS = {"opus-64k-fec": ("opus_bitrate 64000", "opus_inbandfec yes", "opus_packet_loss 10")}
PAGES = ("PCMU", "PCMA", "G722", "opus")  # what there is of these in a browser
CONCEALS = ("module plc.so",)  # baresip's own; Opus has another within
RATE = 48_000
LEAD_S, TAIL_S = 0.5, 0.8
TRIES = 4
CALLERS = (
    (
        "en-gb",
        "The box was thrown beside the parked truck.",
        "Rice is often served in round bowls.",
    ),
    ("en-us+f3", "Glue the sheet to the dark blue background.", "Four hours of work faced us."),
    ("en-gb+m3", "It is easy to tell the depth of a well.", "Take the winding path to the lake."),
)
AGENTS = (
    ("en-us", "Your number is seven, three, nine, zero.", "Fresh fish is sold by the shore."),
    ("en-gb+f2", "The juice of lemons makes fine punch.", "Note closely the size of the tank."),
    ("en-us+m7", "A large size in stockings is hard to sell.", "The boy was there at sunrise."),
)


@dataclass(frozen=True, slots=True)
class Take:
    codec: str
    loss: float
    burst: float
    number: int
    ours: bool
    browser: bool = False
    beside: int = 0
    """Other calls of the server meanwhile."""

    @property
    def name(self) -> str:
        peer = ("chromium" if self.browser else "ours") if self.ours else "theirs"
        weather = f"{self.loss:g}-{self.burst:g}"
        return f"{self.codec}-{weather}-{self.number}-{peer}-{self.beside}"

    @property
    def kind(self) -> "Take":
        """What takes of one row of the table have in common."""
        return replace(self, number=0, ours=True)

    def ways(self) -> tuple[Way, Way]:
        """The same for both peers."""
        weather = Weather(loss=self.loss, burst=self.burst)
        return Way(weather, f"{self.number} up"), Way(weather, f"{self.number} down")


@dataclass(frozen=True, slots=True)
class Result:
    take: Take
    up: Score
    down: Score
    counted: dict[str, Any]


def clip(folder: Path, voices: Sequence[tuple[str, ...]], number: int) -> Path:
    """Two sentences at 48 kHz and a pause around each."""
    voice, *sentences = voices[number % len(voices)]
    path = folder / f"{voice}-{number}.wav"
    effects = ["pad", f"{LEAD_S}", f"{TAIL_S}"]
    parts = [str(speech.wav(text, rate=RATE, voice=voice)) for text in sentences]
    subprocess.run(["sox", "-D", *parts, str(path), *effects], check=True)
    return path


def duration(path: Path) -> float:
    pcm, rate = read_wav(path)
    return len(pcm) / rate


@contextmanager
def line(folder: Path) -> Iterator[tuple[Address, Address]]:
    """Our side, in a process of its own on a core of its own: where it takes SIP, and HTTP."""
    command = [sys.executable, "-m", "tests.bench.voice_line", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            os.sched_setaffinity(process.pid, cores()[0])
            sip, http = process.stdout.readline().split()
            yield ("127.0.0.1", int(sip)), ("127.0.0.1", int(http))
        finally:
            process.stdin.close()
            process.wait(10)


@contextmanager
def others(server: Address, calls: int) -> Iterator[None]:
    """So many calls that talk, and hear themselves."""
    if not calls:
        yield
        return
    with Load("sip", f"{server[0]}:{server[1]}", calls, cores=cores()[1]) as load:
        up = load.hear("up")
        if up["failed"]:
            raise RuntimeError(f"{up['failed']} of {calls} other calls: {up['why']}")
        time.sleep(SETTLE_S)
        load.tell("begin")
        load.hear("began")
        yield
        load.tell("end")
        told = load.hear("sent")
        spacing, lost = told["spacing_ms"], told["lost"]
        print(f"\n{calls} other calls: spacing p99 {spacing['p99']:.1f} ms, {lost} packets lost")
        load.tell("hangup")
        load.hear("hung_up")


@contextmanager
def elsewhere() -> Iterator[None]:
    """Phones, browsers and relay: off the core of our side."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


_starting = threading.Lock()  # ports that are free may be given to two at a time


def phone(take: Take, microphone: Path, records: Path, *, answers: bool = False) -> Baresip:
    codec = CODECS[take.codec]
    records.mkdir(exist_ok=True)
    settings = (*SETTINGS.get(take.codec, ()), *(() if codec == "opus" else CONCEALS))
    with _starting:
        return Baresip(
            microphone,
            transport="udp",
            codec=codec,
            settings=settings,
            answers=answers,
            records=records,
        )


def talk(caller: Baresip, user: str, port: int, seconds: float) -> None:
    caller.command("dial", f"sip:{user}@127.0.0.1:{port}")
    if caller.wait("CALL_ESTABLISHED", 10) is None:
        raise RuntimeError(f"{user}: no answer")
    ended = caller.wait("CALL_CLOSED", seconds)
    if ended is not None:
        raise RuntimeError(f"{user}: {ended.get('param')}")
    caller.command("hangup")
    caller.wait("CALL_CLOSED", 5)


class Studio:
    """Makes the calls; recordings stay in `folder` until it is gone."""

    def __init__(self, folder: Path, server: Address, http: Address, takes: int) -> None:
        self.callers = [clip(folder, CALLERS, number) for number in range(takes)]
        self.agents = [clip(folder, AGENTS, number) for number in range(takes)]
        self._folder = folder
        self._server = server
        self._http = http

    async def call(self, take: Take) -> None:
        caller, agent = self.callers[take.number], self.agents[take.number]
        if take.ours:
            said = self._folder / f"{take.name}.wav"
            command = ["sox", "-D", str(agent), "-r", "24000", str(said)]
            await asyncio.to_thread(subprocess.run, command, check=True)
        if take.browser:
            await self._browse(take, caller, agent)
        else:
            await self._dial(take, caller, agent)

    async def _browse(self, take: Take, caller: Path, agent: Path) -> None:
        host, port = self._http
        call = BrowserCall(
            url=f"http://{host}:{port}/calls/{take.name}",
            codec=CODECS[take.codec],
            microphone=caller,
            heard=self._folder / f"{take.name}-down.wav",
            seconds=max(duration(caller), duration(agent)) + 0.5,
        )
        await asyncio.to_thread(call.make)

    async def _dial(self, take: Take, caller: Path, agent: Path) -> None:
        callee: Baresip | None = None
        server = self._server
        if not take.ours:
            records = self._folder / f"{take.name}-up"
            callee = await asyncio.to_thread(phone, take, agent, records, answers=True)
            server = ("127.0.0.1", callee.port)
        relay = Relay(("127.0.0.1", 0), server, lambda _: take.ways())
        relay.open()
        dialling: Baresip | None = None
        try:
            dialling = await asyncio.to_thread(
                phone, take, caller, self._folder / f"{take.name}-down"
            )
            seconds = max(duration(caller), duration(agent)) + 0.5
            user = take.name if take.ours else "caller"
            await asyncio.to_thread(talk, dialling, user, relay.listen[1], seconds)
        finally:
            for each in filter(None, (dialling, callee)):
                await asyncio.to_thread(each.close)
            relay.close()

    def result(self, take: Take) -> Result:
        up = self._folder / f"{take.name}.heard.wav"
        counted: dict[str, Any] = {}
        if take.ours:
            counted = json.loads((self._folder / f"{take.name}.json").read_text())
        else:
            up = last_heard(self._folder / f"{take.name}-up")
        down = self._folder / f"{take.name}-down.wav"
        if not take.browser:
            down = last_heard(self._folder / f"{take.name}-down")
        narrow = CODECS[take.codec] in ("PCMU", "PCMA")
        return Result(
            take,
            judged(self.callers[take.number], up, narrow=narrow),
            judged(self.agents[take.number], down, narrow=narrow),
            counted,
        )


def last_heard(records: Path) -> Path:
    return max(records.glob("*-dec.wav"), key=lambda path: path.stat().st_mtime)


def judged(said: Path, heard: Path, *, narrow: bool) -> Score:
    recorded, rate = read_wav(heard)
    return score(read_wav(said)[0], recorded, rate, narrow=narrow)


async def record(studio: Studio, takes: Sequence[Take], together: int) -> None:
    turns = asyncio.Semaphore(together)

    async def one(take: Take) -> None:
        async with turns:
            for attempt in range(TRIES):
                try:
                    await studio.call(take)
                    break
                except RuntimeError as error:  # of baresip, whose ports may be taken by then
                    if attempt == TRIES - 1:
                        raise
                    print(f"again: {error}", file=sys.stderr)
        print(".", end="", file=sys.stderr, flush=True)

    await asyncio.gather(*(one(take) for take in takes if not take.browser))
    # A page takes half a core, and what it misses of it is heard.
    for take in takes:
        if take.browser:
            await one(take)


async def record_all(studio: Studio, server: Address, takes: Sequence[Take], together: int) -> None:
    for beside in dict.fromkeys(take.beside for take in takes):
        some = [take for take in takes if take.beside == beside]
        with others(server, beside):
            await record(studio, some, together)


def table(results: Sequence[Result]) -> list[str]:
    """Per codec and network: PESQ of each way, ours and theirs."""
    lines = [
        "| codec | loss | burst | to us | baresip | from us | baresip | moved | concealed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(each.take.kind for each in results):
        ours = [each for each in results if each.take.kind == kind and each.take.ours]
        theirs = [each for each in results if each.take.kind == kind and not each.take.ours]
        name = f"{kind.codec} {'wb' if ours[0].up.wide else 'nb'}" + ", Chromium" * kind.browser
        name += f", beside {kind.beside}" * bool(kind.beside)
        cells = [name, f"{kind.loss:g} %", f"{kind.burst:g}"]
        cells += [
            f"{median(each.up.pesq for each in ours):.2f}",
            f"{median(each.up.pesq for each in theirs):.2f}" if theirs else "",
            f"{median(each.down.pesq for each in ours):.2f}",
            f"{median(each.down.pesq for each in theirs):.2f}" if theirs else "",
            f"{median(each.up.moved_ms for each in ours):.0f} ms",
            f"{median(each.counted['concealed'] for each in ours):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def steadiness(results: Sequence[Result]) -> list[str]:
    """What other calls do to the scores of the same words, per kind of call: median, furthest."""
    idle = {each.take: each for each in results if each.take.ours and not each.take.beside}
    busy = [each for each in results if each.take.beside]
    lines = []
    for kind in dict.fromkeys(each.take.kind for each in busy):
        pairs = [
            (each, idle[replace(each.take, beside=0)]) for each in busy if each.take.kind == kind
        ]
        up = _differences([then.up.pesq - before.up.pesq for then, before in pairs])
        down = _differences([then.down.pesq - before.down.pesq for then, before in pairs])
        peer = "Chromium" if kind.browser else "baresip"
        network = f"{kind.loss:g} % loss, burst {kind.burst:g}"
        lines.append(
            f"{kind.codec}, {peer}, {network}, beside {kind.beside} calls: "
            f"{up} to us, {down} from us"
        )
    return lines


def _differences(found: Sequence[float]) -> str:
    return f"{median(found):+.2f} ({max(found, key=abs):+.2f})"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codecs", nargs="+", choices=tuple(CODECS), default=tuple(CODECS))
    parser.add_argument("--loss", nargs="+", type=float, default=(0, 1, 3, 5, 10), metavar="%")
    parser.add_argument(
        "--burst", nargs="+", type=float, default=(1, 3), metavar="N", help="mean packets of a loss"
    )
    parser.add_argument("--takes", type=int, default=3, help="of each (%(default)s)")
    parser.add_argument("--together", type=int, default=4, help="calls at a time (%(default)s)")
    parser.add_argument("--ours", action="store_true", help="without baresip to baresip")
    parser.add_argument("--browser", action="store_true", help="calls of Chromium, too")
    parser.add_argument(
        "--beside", type=int, default=0, metavar="N", help="again while N other calls talk"
    )
    parser.add_argument("--keep", type=Path, help="leave recordings in this new folder")
    parser.add_argument("--json", type=Path, help="write every score there as well")
    return parser.parse_args(arguments)


def planned(options: argparse.Namespace) -> list[Take]:
    """Idle takes first."""
    idle = [
        Take(codec, loss, burst, number, ours)
        for codec in options.codecs
        for loss in options.loss
        for burst in (options.burst if loss else options.burst[:1])
        for number in range(options.takes)
        for ours in ((True,) if options.ours else (True, False))
    ]
    if options.browser:
        wanted = [take for take in idle if take.ours and not take.loss and take.codec in PAGES]
        idle += [replace(take, browser=True) for take in wanted]
    busy = [replace(take, beside=options.beside) for take in idle if take.ours]
    return idle + busy * bool(options.beside)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if not has_pesq():
        print("voice: pesq is missing (scripts/install-peers --all)", file=sys.stderr)
        return 1
    if options.beside:
        compiled()
    takes = planned(options)
    with tempfile.TemporaryDirectory(prefix="voice-") as made:
        folder = options.keep or Path(made)
        folder.mkdir(exist_ok=True)
        before = os.getloadavg()[0]
        with line(folder) as (server, http), elsewhere():
            studio = Studio(folder, server, http, options.takes)
            asyncio.run(record_all(studio, server, takes, options.together))
        after = os.getloadavg()[0]
        with ProcessPoolExecutor() as pool:
            results = list(pool.map(studio.result, takes))
    print(f"\nload {before:.1f} before, {after:.1f} after; {options.together} calls at a time")
    print("\n".join([*table(results), *steadiness(results)]))
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

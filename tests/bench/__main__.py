"""Measure this server, and others beside it, with calls that talk.

Each measurement starts a server of its own on one core. The calls come from a process on the
other cores: made by Python, their media by a thread of C (compiled with cc at the first run). So
does the model that answers them, a Realtime server over TLS.
"""

import argparse
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import httpx2

from tests.bench import cps, events, peers, table, targets
from tests.bench.measure import (
    RAMP_PER_S,
    GeneratorFailed,
    Row,
    cores,
    measure,
    settle_s,
    setup_cost_ms,
)
from tests.bench.model import Model, upstream_settings
from tests.bench.subjects import ROOT, Bridge, DidNotStart
from tests.bench.wire import NoCompilerError, compiled

DEFAULT = {
    "sip": (1, 10, 50, 100, 200, 300, 400),
    "srtp": (1, 10, 50, 100, 200, 300, 400),
    "dtls": (10, 60),
    "webrtc": (1, 10, 50, 60, 100, 200, 400),
}
RESULTS = ROOT / "tests" / "bench" / "RESULTS.md"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Examples:\n"
        "  scripts/bench --targets --setup --peers --results\n"
        "                                         all of it, half an hour\n"
        "  scripts/bench sip 200 --seconds 30     one line of the table\n"
        "  scripts/bench sip 200 webrtc 60 --churn 10 --repeat 5\n"
        "  scripts/bench webrtc 10 --peers        beside stock aiortc and Pipecat\n"
        "  scripts/bench cps --rate 100           calls set up by sipp; its own --help\n"
        "  scripts/bench events                   what one event of the protocol costs\n",
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="KIND|CALLS",
        help="sip, srtp, dtls (SIP with ICE) or webrtc, each followed by the numbers of calls "
        "wanted; default: " + "; ".join(f"{k} {' '.join(map(str, n))}" for k, n in DEFAULT.items()),
    )
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of measuring, each (%(default)s)"
    )
    parser.add_argument("--repeat", type=int, default=1, help="times each (%(default)s)")
    parser.add_argument("--churn", type=float, default=0.0, help="calls set up a second meanwhile")
    parser.add_argument(
        "--setup", action="store_true", help="measure what making a call costs, too"
    )
    parser.add_argument(
        "--targets",
        action="store_true",
        help=f"{targets.TIMES} times each, 200 SIP and 60 WebRTC calls, alone and with 10 set up "
        "a second; say what is kept of what is promised",
    )
    parser.add_argument(
        "--echo", action="store_true", help="no model: the server says back what it hears"
    )
    parser.add_argument(
        "--audio",
        choices=("pcm", "pcmu"),
        default="pcm",
        help="between server and model (%(default)s)",
    )
    parser.add_argument(
        "--delta-ms", type=int, default=200, metavar="MS", help="of what it says (%(default)s)"
    )
    parser.add_argument(
        "--max-load",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="of a core, where the server begins to refuse calls (%(default)s: never)",
    )
    parser.add_argument(
        "--peers", action="store_true", help="measure other servers in the same run"
    )
    parser.add_argument(
        "--peer-calls", type=int, default=8, help="for each WebRTC peer (%(default)s)"
    )
    parser.add_argument("--json", type=Path, help="write the rows there as well")
    parser.add_argument(
        "--results", nargs="?", type=Path, const=RESULTS, help="write them there (%(const)s)"
    )
    options = parser.parse_args(arguments)
    if options.delta_ms < 20 or options.delta_ms % 20:
        parser.error(f"--delta-ms {options.delta_ms}: a multiple of 20")
    options.plan = plan(parser, options.what)
    return options


def plan(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[tuple[str, int]]:
    wanted: dict[str, list[int]] = {}
    kind = ""
    for word in words:
        if word in DEFAULT:
            kind = word
            wanted.setdefault(kind, [])
        elif kind and word.isdigit() and int(word):
            wanted[kind].append(int(word))
        else:
            parser.error(f"{word}: a kind ({', '.join(DEFAULT)}), then numbers of calls")
    chosen = {kind: tuple(calls) or DEFAULT[kind] for kind, calls in wanted.items()} or DEFAULT
    return [(kind, calls) for kind, numbers in chosen.items() for calls in numbers]


class Progress:
    """A line that is written over, if somebody looks."""

    def __init__(self) -> None:
        self._seen = sys.stderr.isatty()
        self._title = ""

    def begin(self, title: str) -> None:
        self._title = title
        if not self._seen:
            print(title, file=sys.stderr, flush=True)

    def tell(self, text: str) -> None:
        if self._seen:
            print(f"\r\033[K{self._title}: {text}", end="", file=sys.stderr, flush=True)

    def done(self, row: Row) -> None:
        if self._seen:
            print("\r\033[K", end="", file=sys.stderr)
        print("  ".join(table.cells(row)), flush=True)


def measurements(options: argparse.Namespace, progress: Progress) -> Iterator[Row]:
    for kind, calls, churn, model in runs(options):
        title = f"bridge, {calls} calls, {kind}" + f", {churn:g} set-ups/s" * bool(churn)
        progress.begin(title + ", echo" * (not model))
        row = Row("bridge", kind, calls, churn=churn, model=model)
        with kept_going(row):
            ours(row, options, progress)
        yield row
    if options.peers:
        for peer, calls in beside(options):
            progress.begin(f"{peer.name}, {calls} calls")
            row = Row(peer.name, peer.kind, calls)
            with kept_going(row):
                peers.measure_peer(peer, row, seconds=options.seconds, tell=progress.tell)
            yield row


@contextlib.contextmanager
def kept_going(row: Row) -> Iterator[None]:
    """One that fails is a line without figures, not the end of half an hour's work."""
    try:
        yield
    except (DidNotStart, GeneratorFailed, httpx2.HTTPError, OSError) as error:
        row.up = 0
        # Of a traceback the last line says what it was.
        why = str(error).strip().rpartition("\n")[2]
        row.failures.append(f"not measured: {why}")


def runs(options: argparse.Namespace) -> list[tuple[str, int, float, bool]]:
    """Of this server: kind, calls, calls set up a second meanwhile, and whether with a model."""
    plan = [(kind, calls, options.churn) for kind, calls in options.plan]
    plan = [each for each in plan for _ in range(options.repeat)]
    if options.targets:
        # In turns: what disturbs a machine for a minute is not to hit one kind alone.
        plan += list(targets.REPEATED) * targets.TIMES
    wanted = [(*each, not options.echo) for each in plan]
    if options.peers:
        # Which echo.
        pairs = {(peer.ours, calls, 0.0, False) for peer, calls in beside(options)}
        wanted += sorted(pairs - set(wanted))
    return wanted


def beside(options: argparse.Namespace) -> list[tuple[peers.Peer, int]]:
    return [
        (peer, peer.calls if peer.kind == "twilio" else options.peer_calls) for peer in peers.PEERS
    ]


def minutes(options: argparse.Namespace) -> float:
    """What all of it takes, about."""
    each = [(kind, calls, churn) for kind, calls, churn, _ in runs(options)]
    if options.peers:
        each += [(peer.kind, calls, 0.0) for peer, calls in beside(options)]
    seconds: float = sum(
        options.seconds + 8 + settle_s(kind) + calls / RAMP_PER_S[kind] + 5 * bool(churn)
        for kind, calls, churn in each
    )
    if options.setup:
        seconds += 32 * len({kind for kind, _ in options.plan})
    return seconds / 60


@contextlib.contextmanager
def served(options: argparse.Namespace, *, model: bool) -> Iterator[tuple[Bridge, Model | None]]:
    pinned, others = cores()
    with contextlib.ExitStack() as stack:
        settings: dict[str, object] = {}
        behind = None
        if model:
            behind = stack.enter_context(Model(cores=others, delta_ms=options.delta_ms))
            settings = upstream_settings(behind, options.audio)
        settings["limits.max_load"] = options.max_load
        yield stack.enter_context(Bridge(cores=pinned, **settings)), behind


def ours(row: Row, options: argparse.Namespace, progress: Progress) -> None:
    with served(options, model=row.model) as (subject, model):
        measure(
            subject,
            row,
            subject.target(row.kind),
            seconds=options.seconds,
            tell=progress.tell,
            model_pid=model.pid if model else None,
        )
        row.failures += subject.complaints


def setups(options: argparse.Namespace, progress: Progress) -> list[str]:
    if not options.setup:
        return []
    told = []
    for kind in dict.fromkeys(kind for kind, _ in options.plan):
        for model in sorted({False, not options.echo}):
            name = kind + ", echo" * (not model)
            progress.begin(f"set-up of calls, {name}")
            with served(options, model=model) as (subject, _):
                cost = setup_cost_ms(subject, kind, subject.target(kind))
            told.append(
                f"making a call and ending it takes {cost:.1f} ms of CPU ({name}, 10 a second)"
            )
    return told


def report(rows: list[Row], notes: list[str], options: argparse.Namespace, *, whole: bool) -> None:
    if not rows:
        return
    print("\n" + table.markdown(rows))
    notes = [*notes, *(targets.verdicts(rows) if options.targets else ())]
    for line in [*table.ratios(rows), *notes]:
        print(f"- {line}")
    for row in rows:
        for failure in dict.fromkeys(row.failures):
            print(f"- {row.subject}, {row.kind}, {row.calls}: {failure.strip()}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if options.results and whole:
        command = " ".join(["scripts/bench", *sys.argv[1:]])
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        text = table.results(
            rows,
            command=command,
            date=today,
            commit=commit(),
            delta_ms=options.delta_ms,
            notes=notes,
        )
        options.results.write_text(text)


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _interrupt(number: int, _: object) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["cps"]:
        return cps.main(words[1:])
    if words[:1] == ["events"]:
        return events.main(words[1:])
    options = parse(words)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        compiled()
    except NoCompilerError as error:
        print(f"bench: {error}: the load generator needs a C compiler", file=sys.stderr)
        return 2
    if len(os.sched_getaffinity(0)) < 2:
        print("bench: one core only: server and load share it, read no figure", file=sys.stderr)
    if os.getloadavg()[0] > 0.5:
        print(f"bench: load is {os.getloadavg()[0]:.1f} before we begin", file=sys.stderr)
    count = len(runs(options)) + len(peers.PEERS) * options.peers
    print(f"bench: {count} measurements, some {minutes(options):.0f} minutes", file=sys.stderr)
    rows: list[Row] = []
    notes: list[str] = []
    progress = Progress()
    status, whole = 0, False
    try:
        notes += peers.missing() if options.peers else []
        for row in measurements(options, progress):
            rows.append(row)
            progress.done(row)
        notes += setups(options, progress)
        whole = True
        status = int(not all(row.up for row in rows))
    except KeyboardInterrupt:
        status = 130
    except (DidNotStart, GeneratorFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        status = 1
    report(rows, notes, options, whole=whole)
    return status


if __name__ == "__main__":
    sys.exit(main())

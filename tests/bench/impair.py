"""A bad network on real SIP calls, without root: call --listen in place of the server at --to.

UDP only. Media of both directions is treated alike unless --only says otherwise. The same seed
loses the same packets of the first call, of the second and so on, every time. When it is stopped
it prints what it did, as JSON: per call, up is from caller to server.
"""

import argparse
import asyncio
import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from tests.bench.network import Way, Weather, read_trace, write_trace
from tests.bench.relay import Address, Relay

HELP = {
    "loss": "per cent of packets lost",
    "burst": "mean length of a loss in packets; 1: each by itself",
    "delay": "ms that every packet takes longer",
    "jitter": "ms, mean of what is added at random; order is kept",
    "reorder": "per cent of packets that come after their successors",
    "hold": "ms that those are held back",
    "duplicate": "per cent of packets that come twice",
    "skew": "ppm that the sender's clock runs slow; below 0 it runs fast and eats up --delay",
}


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: a port, or host:port")
    return host or "127.0.0.1", int(port)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/impair",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example:\n  scripts/impair --loss 5 --burst 3 --jitter 30 --listen 5070 "
        "--to 127.0.0.1:5060\n  baresip -e '/dial sip:agent@127.0.0.1:5070'\n",
    )
    parser.add_argument("--listen", type=address, default=address("5070"), metavar="[HOST:]PORT")
    parser.add_argument("--to", type=address, default=address("5060"), metavar="[HOST:]PORT")
    for each in fields(Weather):
        parser.add_argument(
            f"--{each.name}",
            type=float,
            default=each.default,
            metavar="N",
            help=f"{HELP[each.name]} (%(default)s)",
        )
    parser.add_argument("--only", choices=("up", "down"), help="leave the other direction alone")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(%(default)s)")
    parser.add_argument("--trace", type=Path, help="lose what this file of 0 and 1 says instead")
    parser.add_argument("--write-trace", type=Path, help="write what the first call lost, upwards")
    options = parser.parse_args(arguments)
    try:
        wanted = {each.name: getattr(options, each.name) for each in fields(Weather)}
        options.weather = Weather(**wanted)
        options.lost = read_trace(options.trace) if options.trace else ()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return options


def ways(options: argparse.Namespace, number: int) -> tuple[Way, Way]:
    def way(direction: str) -> Way:
        seed = f"{options.seed} {number} {direction}"
        if options.only not in (None, direction):
            return Way(Weather(), seed)
        return Way(options.weather, seed, options.lost)

    return way("up"), way("down")


async def run(options: argparse.Namespace) -> None:
    """Raises OSError if the address is taken."""
    relay = Relay(options.listen, options.to, lambda number: ways(options, number))
    relay.open()
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    host, port = relay.listen
    print(f"ready: call sip:agent@{host}:{port} by UDP; ctrl-C ends it", flush=True)
    try:
        await stopping.wait()
    finally:
        relay.close()
    if options.write_trace and relay.ways:
        write_trace(options.write_trace, relay.ways[0][0].lost)
    told = [{"up": asdict(up.tally), "down": asdict(down.tally)} for up, down in relay.ways]
    print(json.dumps({"calls": told}))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        asyncio.run(run(options))
    except OSError as error:
        host, port = options.listen
        print(f"impair: {host}:{port}: {error.strerror or error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

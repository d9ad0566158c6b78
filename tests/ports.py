"""Free loopback ports below the range from which the kernel hands out its own.

Test runs may go side by side: each process takes a block of ports, and holds it by one of them.
"""

import itertools
import random
import socket
from collections.abc import Iterator
from functools import cache

HOST = "127.0.0.1"
RANGE = range(30_000, 32_768)
"""Above the RTP ports of the tests."""
BLOCK = 128

# Hypothesis seeds the usual one, and then all processes choose alike.
rng = random.SystemRandom()


def free_port() -> int:
    """Neither UDP nor TCP is bound there: SIP listens on both."""
    for port in itertools.islice(_block()[1], BLOCK):
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind((HOST, port))
        except OSError:
            continue
        return port
    raise RuntimeError("no port is free")


@cache
def _block() -> tuple[socket.socket, Iterator[int]]:
    """What holds it, and its ports over and over."""
    first = list(RANGE[: len(RANGE) - BLOCK : BLOCK])
    held, base = claim(first, BLOCK)
    return held, itertools.cycle(range(base, base + BLOCK - 1))


def claim(bases: list[int], size: int) -> tuple[socket.socket, int]:
    """The base of a block that no other process has, and the TCP socket at its last port that says
    so until it is closed."""
    for base in rng.sample(bases, len(bases)):
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            held.bind((HOST, base + size - 1))
        except OSError:
            held.close()
            continue
        return held, base
    raise RuntimeError("all blocks of ports are taken")

"""Free loopback ports below the range from which the kernel hands out its own.

Test runs may go side by side: each process takes a block of ports, and holds it by one of them.
"""

import itertools
import random
import socket
from collections.abc import Iterator
from functools import cache

HOST = "127.0.0.1"
RTP_PORTS = 400
RTP_BASES = list(range(20_000, 30_000, RTP_PORTS))
"""Of blocks for media: a service has one, and a process one for all else."""
RANGE = range(30_000, 32_768)
"""Above them, for all that is no media."""
BLOCK = 256
APART = 3
"""Some phones listen for TLS one above, whatever they are told."""

# Hypothesis seeds the usual one, and then all processes choose alike.
rng = random.SystemRandom()


def free_port() -> int:
    """Neither UDP nor TCP is bound there, nor at its neighbours, which nobody else is given."""
    for port in itertools.islice(_block()[1], BLOCK // APART):
        if all(_is_free(each) for each in range(port - 1, port + 2)):
            return port
    raise RuntimeError("no port is free")


def media_ports(count: int) -> range:
    """The first is even. In turn, so that what still comes for a call is soon nobody's."""
    assert count < RTP_PORTS
    _, base, turn = _media_block()
    begin = turn[0] if turn[0] + count < RTP_PORTS else 0
    turn[0] = begin + count + count % 2
    return range(base + begin, base + begin + count)


@cache
def _media_block() -> tuple[socket.socket, int, list[int]]:
    """What holds it, its first port, and how much of it has been given since its beginning."""
    held, base = claim(RTP_BASES, RTP_PORTS)
    return held, base, [0]


def _is_free(port: int) -> bool:
    try:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind((HOST, port))
    except OSError:
        return False
    return True


@cache
def _block() -> tuple[socket.socket, Iterator[int]]:
    """What holds it, and its ports over and over."""
    first = list(RANGE[: len(RANGE) - BLOCK : BLOCK])
    held, base = claim(first, BLOCK)
    return held, itertools.cycle(range(base + 1, base + BLOCK - 2, APART))


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

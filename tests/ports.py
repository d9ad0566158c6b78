"""Free loopback ports below the range from which the kernel hands out its own."""

import random
import socket

HOST = "127.0.0.1"
RANGE = range(30_000, 32_768)
"""Above the RTP ports of the tests."""


def free_port() -> int:
    """Neither UDP nor TCP is bound there: SIP listens on both."""
    for port in random.sample(RANGE, 100):
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind((HOST, port))
        except OSError:
            continue
        return port
    raise RuntimeError("no port is free")

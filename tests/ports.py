"""Free loopback ports below the range from which the kernel hands out its own."""

import random
import socket

HOST = "127.0.0.1"


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    for port in random.sample(range(10_000, 20_000), 100):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise RuntimeError("no port is free")

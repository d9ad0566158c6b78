"""socat between a client and a server: around what a client cannot do, or does too well."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ports import free_port


@contextmanager
def relayed(target: str, *options: str) -> Iterator[int]:
    """The TCP port on loopback from which connections go on to `target`, an address of socat's."""
    port = free_port()
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"
    relaying = subprocess.Popen(["socat", *options, listen, target])
    try:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        relaying.terminate()
        relaying.wait(5)

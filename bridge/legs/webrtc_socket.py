"""A UDP socket of ICE: read when the event loop says so or, while there is media, by its clock.

To wake for each packet of each call costs more than what is done with it; the clock reads those of
all calls at once.
"""

import asyncio
import socket
from typing import Any

from bridge.rtp.transport import RtpPoller

DATAGRAM_SIZE = 65_535
AT_ONCE = 32
"""Datagrams read before others get their turn."""


class PolledSocket(asyncio.DatagramTransport):
    """What does not fit into the kernel's buffer is lost, as on the way: all that goes by here is
    either late then or repeated."""

    def __init__(self, address: str, protocol: asyncio.DatagramProtocol) -> None:
        """On any free port. Raises OSError."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._port = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._port.bind((address, 0))
        except OSError:
            self._port.close()
            raise
        super().__init__({"socket": self._port, "sockname": self._port.getsockname()})
        self._fileno = self._port.fileno()
        self._protocol: asyncio.DatagramProtocol | None = protocol
        self._loop = asyncio.get_running_loop()
        self._poller: RtpPoller | None = None
        self._closing = False
        self._loop.add_reader(self._fileno, self._readable)
        protocol.connection_made(self)

    def poll_by(self, poller: RtpPoller | None) -> None:
        """Who reads from now on; None: the event loop. Idempotent."""
        if self._closing or poller is self._poller:
            return
        self._unread()
        self._poller = poller
        if poller is None:
            self._loop.add_reader(self._fileno, self._readable)
        else:
            poller.watch(self._fileno, self._polled)

    def sendto(self, data: Any, addr: Any = None) -> None:
        if self._closing:
            return
        try:
            self._port.sendto(data, addr)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Idempotent. The protocol is told in a later turn of the loop."""
        if self._closing:
            return
        self._unread()
        self._closing = True
        self._port.close()
        self._loop.call_soon(self._lost)

    def abort(self) -> None:
        self.close()

    def _unread(self) -> None:
        if self._poller is None:
            self._loop.remove_reader(self._fileno)
        else:
            self._poller.unwatch(self._fileno)

    def _lost(self) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(None)

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            if (received := self._receive()) is None or self._protocol is None:
                return
            self._protocol.datagram_received(*received)

    def _polled(self, now: float) -> bool:
        """One datagram; False if there was none."""
        if (received := self._receive()) is None or self._protocol is None:
            return False
        data = received[0]
        if data and 127 < data[0] < 192:
            self._protocol.datagram_received(*received)
        else:
            # Not media (RFC 7983 section 7): if it goes wrong it is not to go wrong for all calls.
            self._loop.call_soon(self._protocol.datagram_received, *received)
        return True

    def _receive(self) -> tuple[bytes, Any] | None:
        if self._closing:
            return None
        try:
            return self._port.recvfrom(DATAGRAM_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            self._failed(error)
            return None

    def _failed(self, error: OSError) -> None:
        if self._protocol is not None:
            self._protocol.error_received(error)

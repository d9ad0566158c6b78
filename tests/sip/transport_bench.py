"""A UserAgent-shaped echo behind a real SipTransport, and phones to talk to it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Unpack

from bridge.errors import SipError
from bridge.sip.events import Flow
from bridge.sip.limits import Limits, TransportStats
from bridge.sip.tls import TlsFiles
from bridge.sip.transport import Listeners, SipTransport

ANYWHERE = ("127.0.0.1", 0)
PING = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n"


def message(text: str) -> bytes:
    return f"INFO sip:{text} SIP/2.0\r\nContent-Length: 0\r\n\r\n".encode()


class Echo:
    """Sends back what it gets, reports it as an event, and has one timer."""

    def __init__(self) -> None:
        self.flows: list[Flow] = []
        self.outbox: list[tuple[Flow, bytes]] = []
        self.reports: list[bytes] = []
        self.timer: float | None = None
        self.timed: list[tuple[float, float]] = []
        self.silent = False
        self.failed: asyncio.Queue[Flow] = asyncio.Queue()

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        if data.startswith(b"bad"):
            raise SipError("bad")
        if data.startswith(b"bug"):
            raise ZeroDivisionError
        self.flows.append(flow)
        self.reports.append(data)
        if not self.silent:
            self.outbox.append((flow, data))

    def to_send(self) -> list[tuple[Flow, bytes]]:
        taken, self.outbox = self.outbox, []
        return taken

    def events(self) -> list[bytes]:
        taken, self.reports = self.reports, []
        return taken

    def next_timer(self) -> float | None:
        return self.timer

    def handle_timer(self, now: float) -> None:
        assert self.timer is not None
        self.timed.append((self.timer, now))
        self.timer = None
        self.reports.append(b"timer")

    def flow_failed(self, flow: Flow, now: float) -> None:
        self.failed.put_nowait(flow)


class Bench:
    """A started transport, what it reported, and the means to wait for the n-th report."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        flow_in_use: Callable[[Flow], bool] = lambda flow: False,
        tls_files: TlsFiles | None = None,
        ws_origins: Sequence[str] | None = None,
        **listen: Unpack[Listeners],
    ) -> None:
        """Listens on UDP and TCP on loopback unless told otherwise."""
        self.agent = Echo()
        self.reported: asyncio.Queue[bytes] = asyncio.Queue()
        self.transport = SipTransport[bytes](
            self.agent,
            on_event=self.reported.put_nowait,
            limits=limits,
            flow_in_use=flow_in_use,
            tls_files=tls_files,
            ws_origins=ws_origins,
            **(listen or {"udp": ANYWHERE, "tcp": ANYWHERE}),
        )

    @property
    def stats(self) -> TransportStats:
        return self.transport.stats

    async def phone(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.transport.endpoints["tcp"])


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.put_nowait(data)


def run(
    work: Callable[[Bench], Awaitable[None]],
    bench: Callable[[], Bench] = Bench,
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    problems: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        made = bench()
        await made.transport.start()
        try:
            async with asyncio.timeout(10):
                await work(made)
        finally:
            await made.transport.close()
        assert len(made.transport._tasks) == 0

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert not problems


async def udp_phone(bench: Bench) -> tuple[asyncio.DatagramTransport, Datagrams]:
    return await asyncio.get_running_loop().create_datagram_endpoint(
        Datagrams, remote_addr=bench.transport.endpoints["udp"]
    )


async def end_of(reader: asyncio.StreamReader) -> bytes:
    """Everything until the other side closes or resets."""
    data = b""
    try:
        while chunk := await reader.read(65536):
            data += chunk
    except ConnectionError:
        pass
    return data

"""A webhook receiver: keeps what was posted, answers with the statuses it was told to."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivery:
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers `statuses` in turn, the last one for ever."""

    def __init__(self, statuses: Sequence[int] = (200,)) -> None:
        self.deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self._statuses = list(statuses)
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self, port: int = 0) -> "Receiver":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/webhook"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")[1:-2]
                headers = {
                    name.strip().lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
                self.deliveries.put_nowait(Delivery(headers, body))
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def next(self, timeout_s: float = 5.0) -> Delivery:
        return await asyncio.wait_for(self.deliveries.get(), timeout_s)

    async def close(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()

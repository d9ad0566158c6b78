"""aiortc's own server example, reduced to its echo: what comes in goes out by a MediaRelay.

python aiortc_echo.py PORT
"""

import asyncio
import contextlib
import json
import sys

from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRelay

connections: set[RTCPeerConnection] = set()
relay = MediaRelay()


async def answer(offer: dict[str, str]) -> dict[str, str]:
    pc = RTCPeerConnection()
    connections.add(pc)

    @pc.on("connectionstatechange")
    async def changed() -> None:
        if pc.connectionState in ("failed", "closed"):
            await pc.close()
            connections.discard(pc)

    @pc.on("track")
    def came(track: MediaStreamTrack) -> None:
        pc.addTrack(relay.subscribe(track))

    await pc.setRemoteDescription(RTCSessionDescription(offer["sdp"], offer["type"]))
    await pc.setLocalDescription(await pc.createAnswer())
    return {"sdp": pc.localDescription.sdp, "type": pc.localDescription.type}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request a connection; enough HTTP for an offer."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split()[0])
        body = json.dumps(await answer(json.loads(await reader.readexactly(length)))).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

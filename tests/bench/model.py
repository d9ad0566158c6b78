"""A model for the bench to talk to: OpenAI's Realtime protocol over TLS, saying back what it hears.

    python -m tests.bench.model PORT DIRECTORY

One response, never done, carries the sound of the whole call; DIRECTORY gets the certificate.
"""

import asyncio
import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from tests.bench.subjects import Subject
from tests.ports import free_port

SUBJECT = "/CN=127.0.0.1"
NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"


class Model(Subject):
    """Use as a context."""

    def __init__(self, *, cores: set[int]) -> None:
        self.port = free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="bench-model-")
        self.certificate = Path(self._directory.name) / "certificate.pem"
        command = [sys.executable, "-m", "tests.bench.model", str(self.port), self._directory.name]
        super().__init__(command, ready="^ready", cores=cores)

    def __exit__(self, *what: object) -> None:
        super().__exit__(*what)
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self.port}/v1/realtime"


def upstream_settings(model: Model) -> dict[str, object]:
    """Of a service that has its sessions held by the model."""
    return {
        "session.backend": "upstream",
        "upstream.url": model.url,
        "upstream.api_key": "bench",
        "upstream.model": "gpt-realtime",
        "upstream.tls_ca": str(model.certificate),
    }


def certify(directory: Path) -> tuple[Path, Path]:
    """A certificate of its own issuing for the loopback address."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", SUBJECT, "-addext", NAMES]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class Voice:
    """One session: everything appended is said back at once."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        self._delta = b""

    async def run(self) -> None:
        await self._send("session.created", session=_session({}))
        async for text in self._socket:
            event: dict[str, Any] = json.loads(text)
            match event["type"]:
                case "input_audio_buffer.append":
                    await self._say(event["audio"])
                case "session.update":
                    await self._send("session.updated", session=_session(event["session"]))
                case _:
                    pass

    async def _say(self, audio: str) -> None:
        if not self._delta:
            await self._begin()
        await self._socket.send(self._delta.replace(b"%", audio.encode()), text=True)

    async def _begin(self) -> None:
        item: dict[str, Any] = {"id": "item_bench", "object": "realtime.item", "type": "message"}
        item |= {"role": "assistant", "status": "in_progress", "content": []}
        response: dict[str, Any] = {
            "id": "resp_bench",
            "object": "realtime.response",
            "status": "in_progress",
        }
        response |= {"output": [], "output_modalities": ["audio"], "usage": None}
        place = {"response_id": "resp_bench", "item_id": "item_bench", "output_index": 0}
        await self._send("response.created", response=response)
        await self._send("response.output_item.added", **place, item=item)
        await self._send("conversation.item.added", previous_item_id=None, item=item)
        part = {"type": "audio", "transcript": ""}
        await self._send("response.content_part.added", **place, content_index=0, part=part)
        delta = {"type": "response.output_audio.delta", "event_id": "event_bench", **place}
        self._delta = json.dumps({**delta, "content_index": 0, "delta": "%"}).encode()

    async def _send(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": "event_bench", **fields}
        await self._socket.send(json.dumps(event))


def _session(asked: Mapping[str, Any]) -> dict[str, Any]:
    usual = {"type": "realtime", "object": "realtime.session", "id": "sess_bench"}
    return {**usual, "model": "gpt-realtime", "output_modalities": ["audio"], **asked}


async def main(port: int, directory: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certify(directory))

    async def talk(socket: ServerConnection) -> None:
        await Voice(socket).run()

    options: dict[str, Any] = {"ssl": context, "compression": None, "max_size": None}
    async with serve(talk, "127.0.0.1", port, **options) as server:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))

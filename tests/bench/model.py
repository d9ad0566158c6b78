"""A model for the bench to talk to, by OpenAI's Realtime protocol over TLS. It always answers.

    python -m tests.bench.model PORT DIRECTORY DELTA_MS

DIRECTORY gets the certificate.
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

import numpy as np
import pybase64
import uvloop
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_create_server,
)

from bridge.audio.g711 import ulaw_decode, ulaw_encode
from tests.bench.sounds import SPURT_FRAMES, voice
from tests.bench.subjects import Subject
from tests.ports import free_port

SUBJECT = "/CN=127.0.0.1"
APPEND = b'{"type":"input_audio_buffer.append","audio":"'
PAUSE_MS = 100
LOUD = 1000
SPEED = 4
"""Times as fast as it is heard."""
BYTES_PER_MS = {"audio/pcm": 48, "audio/pcmu": 8}
NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"

ULAW = ulaw_decode(np.arange(256, dtype=np.uint8))


class Model(Subject):
    """Use as a context."""

    def __init__(self, *, cores: set[int], delta_ms: int) -> None:
        self.port = free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="bench-model-")
        self.certificate = Path(self._directory.name) / "certificate.pem"
        where = [str(self.port), self._directory.name]
        command = [sys.executable, "-m", "tests.bench.model", *where, str(delta_ms)]
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


def upstream_settings(model: Model, audio: str) -> dict[str, object]:
    """Of a service that has its sessions held by the model. `audio`: pcm, pcmu or pcma."""
    return {
        "session.backend": "upstream",
        "upstream.url": model.url,
        "upstream.api_key": "bench",
        "upstream.model": "gpt-realtime",
        "upstream.audio": audio,
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


class Voice(WSListener):
    """One session. Whoever begins to speak after a pause is answered at once, and faster than it
    can be heard: SPURT_FRAMES of sound in deltas of `delta_ms`, as models send them.

    Appends are known by how they begin: at 300 calls this process must not be what is measured.
    """

    def __init__(self, answers: "Answers") -> None:
        self._answers = answers
        self._format = "audio/pcm"
        self._quiet_ms = 0.0
        self._count = 0
        self._closed = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._send(transport, "session.created", session=_session({}))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._closed = True

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        if frame.msg_type is not WSMsgType.TEXT:
            return
        message = frame.get_payload_as_bytes()
        if message.startswith(APPEND):
            self._hear(transport, pybase64.b64decode(message[len(APPEND) : -2]))
            return
        event: dict[str, Any] = json.loads(message)
        if event["type"] == "session.update":
            heard = event["session"].get("audio", {}).get("input", {}).get("format")
            if heard is not None:
                self._format = heard["type"]
            self._send(transport, "session.updated", session=_session(event["session"]))

    def _hear(self, transport: WSTransport, data: bytes) -> None:
        if not _is_loud(data, self._format):
            self._quiet_ms += len(data) / BYTES_PER_MS[self._format]
            return
        quiet_ms, self._quiet_ms = self._quiet_ms, 0.0
        if quiet_ms > PAUSE_MS:
            self._answer(transport)

    def _answer(self, transport: WSTransport) -> None:
        self._count += 1
        name = f"{self._count}"
        place = {"response_id": f"resp_{name}", "item_id": f"item_{name}", "output_index": 0}
        item: dict[str, Any] = {"id": place["item_id"], "object": "realtime.item"}
        item |= {"type": "message", "role": "assistant", "status": "in_progress", "content": []}
        response: dict[str, Any] = {"id": place["response_id"], "object": "realtime.response"}
        response |= {"status": "in_progress", "output": [], "usage": None}
        self._send(transport, "response.created", response=response)
        self._send(transport, "response.output_item.added", **place, item=item)
        self._send(transport, "conversation.item.added", previous_item_id=None, item=item)
        part = {"type": "audio", "transcript": ""}
        self._send(transport, "response.content_part.added", **place, content_index=0, part=part)
        delta = {"type": "response.output_audio.delta", "event_id": "event_bench", **place}
        head, _, tail = json.dumps({**delta, "content_index": 0, "delta": "%"}).partition("%")
        last: list[tuple[str, dict[str, Any]]] = [
            ("response.output_audio.done", {**place, "content_index": 0}),
            ("response.output_item.done", {**place, "item": item | {"status": "completed"}}),
            ("response.done", {"response": response | {"status": "completed"}}),
        ]
        self._say(transport, [head.encode(), tail.encode()], 0, last)

    def _say(
        self,
        transport: WSTransport,
        around: list[bytes],
        number: int,
        last: list[tuple[str, dict[str, Any]]],
    ) -> None:
        if self._closed:
            return
        deltas = self._answers.deltas[self._format]
        transport.send(WSMsgType.TEXT, deltas[number].join(around))
        if number + 1 < len(deltas):
            asyncio.get_running_loop().call_later(
                self._answers.every_s, self._say, transport, around, number + 1, last
            )
            return
        for kind, fields in last:
            self._send(transport, kind, **fields)

    def _send(self, transport: WSTransport, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": "event_bench", **fields}
        transport.send(WSMsgType.TEXT, json.dumps(event).encode())


class Answers:
    """What it says, cut in deltas, and how long it takes for each."""

    def __init__(self, delta_ms: int) -> None:
        self.every_s = delta_ms / 1000 / SPEED
        pcm, narrow = (voice(rate)[: rate // 50 * SPURT_FRAMES] for rate in (24_000, 8_000))
        octets = {"audio/pcm": pcm.tobytes(), "audio/pcmu": ulaw_encode(narrow).tobytes()}
        self.deltas = {
            name: [
                pybase64.b64encode(data[at : at + delta_ms * BYTES_PER_MS[name]])
                for at in range(0, len(data), delta_ms * BYTES_PER_MS[name])
            ]
            for name, data in octets.items()
        }


def _is_loud(data: bytes, name: str) -> bool:
    pcm = np.frombuffer(data, np.int16) if name == "audio/pcm" else ULAW[np.frombuffer(data, "u1")]
    return bool(pcm.max() > LOUD)


def _session(asked: Mapping[str, Any]) -> dict[str, Any]:
    usual = {"type": "realtime", "object": "realtime.session", "id": "sess_bench"}
    return {**usual, "model": "gpt-realtime", "output_modalities": ["audio"], **asked}


async def main(port: int, directory: Path, delta_ms: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certify(directory))

    answers = Answers(delta_ms)
    server = await ws_create_server(lambda _: Voice(answers), "127.0.0.1", port, ssl=context)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))

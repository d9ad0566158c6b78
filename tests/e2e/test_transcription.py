"""A session that only listens, from the handshake to the words."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tests.peers.service import Service

pytestmark = pytest.mark.e2e


def told(websocket: Connection, kind: str) -> dict[str, Any]:
    """Reads up to the first event of this kind."""
    while True:
        event: dict[str, Any] = json.loads(websocket.recv(timeout=20))
        if event["type"] == kind:
            return event


def test_what_is_committed_is_written_down() -> None:
    noise = np.random.default_rng(7).integers(-3000, 3000, 24_000).astype("<i2").tobytes()
    events: list[dict[str, Any]] = [
        {"type": "transcription_session.update", "session": {"turn_detection": None}},
        {"type": "input_audio_buffer.append", "audio": base64.b64encode(noise).decode()},
        {"type": "input_audio_buffer.commit"},
    ]
    with Service(session__backend="cascade") as service:
        url = f"ws://127.0.0.1:{service.http_port}/v1/realtime?intent=transcription"
        with connect(url) as websocket:
            session = told(websocket, "session.created")["session"]
            assert session["object"] == "realtime.transcription_session"
            for event in events:
                websocket.send(json.dumps(event))
            item_id = told(websocket, "input_audio_buffer.committed")["item_id"]
            kind = "conversation.item.input_audio_transcription.completed"
            done = told(websocket, kind)
            assert done["item_id"] == item_id
            assert done["usage"] == {"type": "duration", "seconds": 1.0}

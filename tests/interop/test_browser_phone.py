"""A page in Chromium is a phone with JsSIP: it registers by WebSocket, calls and is called, and its
media is Opus by ICE and DTLS. The echo backend sends it back what it says."""

import json
import shutil
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.peers import speech
from tests.peers.calling import in_state, one_call, post, until
from tests.peers.service import Service
from tests.ports import free_port
from tests.sip.certificates import Authority

pytestmark = pytest.mark.interop("node", "jssip", "playwright-core", "chromium", "sox")

DRIVER = Path(__file__).parent / "node" / "jssip_page.mjs"
ORIGIN = "http://localhost:7999"
RATE = 48_000
TONE_HZ = 600
LOUD = 2000
TALKS_S = 0.75
BLOCKS = 50
# A browser on a machine with other things to do.
STARTS_S = 20.0


@dataclass(frozen=True)
class Seen:
    """What the page saw; times in seconds since it had registered."""

    raw: Mapping[str, Any]

    def s(self, epoch_ms: float) -> float:
        start = next(at for at, _, what, _ in self.raw["notes"] if what == "registered")
        return (epoch_ms - float(start)) / 1000

    def at(self, call: int, what: str) -> float:
        notes = self.raw["notes"]
        return next(self.s(at) for at, c, found, _ in notes if (c, found) == (call, what))

    def why(self, call: int, what: str) -> str:
        return str(next(d for _, c, found, d in self.raw["notes"] if (c, found) == (call, what)))

    def tones(self, call: int, begin: float, end: float) -> list[bool]:
        """Of each 10 ms that came out then, whether it was the tone."""
        return [
            rms > LOUD and abs(hz - TONE_HZ) <= 60
            for at, number, rms, hz in self.raw["blocks"]
            if number == call and begin <= self.s(at) < end
        ]

    def heard_at(self, call: int, since: float) -> float:
        loud = (self.s(at) for at, c, rms, _ in self.raw["blocks"] if c == call and rms > LOUD)
        return next(at for at in loud if at >= since)


class Page:
    """Runs beside the test. Use as a context."""

    def __init__(self, folder: Path, url: str, **more: Any) -> None:
        time_s = np.arange(2 * RATE) / RATE
        sound = (8000 * np.sin(2 * np.pi * TONE_HZ * time_s)).astype(np.int16)
        wanted = {
            "origin": ORIGIN,
            "url": url,
            "user": "page",
            "password": "wonderland",
            "to": "sip:agent@127.0.0.1",
            "chromium": shutil.which("chromium"),
            "microphone": str(speech.write(folder / "microphone.wav", sound, RATE)),
            **more,
        }
        self._process = subprocess.Popen(
            ["node", DRIVER, json.dumps(wanted)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def seen(self) -> Seen:
        output, errors = self._process.communicate(timeout=40)
        assert self._process.returncode == 0, errors
        found = Seen(json.loads(output))
        assert found.raw["faults"] == [], (found.raw["notes"], errors)
        return found


def keys_of(service: Service, call_id: str, keys: list[str]) -> None:
    """Those that a sideband hears of, until the call is over."""
    url = f"ws://127.0.0.1:{service.http_port}/v1/realtime?call_id={call_id}"
    with connect(url) as sideband:
        try:
            for message in sideband:
                event = json.loads(message)
                if event["type"] == "input_audio_buffer.dtmf_event_received":
                    keys.append(event["event"])
        except ConnectionClosed:
            pass


def another_call(service: Service, before: str) -> Mapping[str, Any]:
    """Up, once that one is over."""
    until(service, before, in_state("ended"))
    return one_call(service)


@pytest.mark.matrix(18, 19, 36, 51, 52, 55, 60, peer="JsSIP")
def test_a_page_calls_and_is_called(tmp_path: Path) -> None:
    ws_port = free_port()
    users = {"users": {"page": "wonderland"}, "algorithms": ["MD5"], "addresses": ["127.0.0.0/8"]}
    keys: list[str] = []
    with (
        Service(
            session__backend="echo",
            sip__ws_port=ws_port,
            sip__registrar=json.dumps(users),
            http__cors_origins=json.dumps([ORIGIN]),
        ) as service,
        Page(tmp_path, f"ws://127.0.0.1:{ws_port}/") as page,
    ):
        first = one_call(service, STARTS_S)
        reader = threading.Thread(target=keys_of, args=(service, first["id"], keys))
        reader.start()
        second = another_call(service, first["id"])
        reader.join(5)
        time.sleep(TALKS_S)
        post(service, second["id"], "hangup")
        third = called(service)
        time.sleep(TALKS_S)
        post(service, third["id"], "hangup")
        seen = page.seen()
        ended = [until(service, call["id"], in_state("ended")) for call in (first, second, third)]
        assert service.calls() == []
    assert [(call["secure"], call["direction"], call["end_reason"]) for call in ended] == [
        ("dtls", "inbound", "remote_hangup"),
        ("dtls", "inbound", "local_hangup"),
        ("dtls", "outbound", "local_hangup"),
    ]
    assert keys == ["5", "7"]
    check_first(seen)
    for call in (2, 3):
        assert seen.why(call, "ended") == "remote: Terminated"
        began = seen.heard_at(call, seen.at(call, "called"))
        assert is_heard(seen.tones(call, began + 0.1, began + 0.6))
    begun = {1: "sending", 2: "sending", 3: "called"}
    for call, since in begun.items():
        took_s = [seen.at(call, what) - seen.at(call, since) for what in ("confirmed", "connected")]
        heard_s = seen.heard_at(call, seen.at(call, since)) - seen.at(call, since)
        print(f"\ncall {call}: confirmed, connected, heard after", [*took_s, heard_s])
        assert took_s[1] < 2.0


@pytest.mark.matrix(3, 60, peer="JsSIP")
def test_a_page_of_https(tmp_path: Path) -> None:
    """Which browsers let connect by TLS only."""
    issued = Authority(tmp_path).issue("127.0.0.1")
    public = x509.load_pem_x509_certificate(issued.certificate.read_bytes()).public_key()
    key = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    users = {"users": {"page": "wonderland"}, "algorithms": ["MD5"], "addresses": ["127.0.0.0/8"]}
    origin, port = "https://phone.example", free_port()
    with (
        Service(
            session__backend="echo",
            sip__wss_port=port,
            sip__tls_certificate=issued.certificate,
            sip__tls_private_key=issued.private_key,
            sip__registrar=json.dumps(users),
            http__cors_origins=json.dumps([origin]),
        ) as service,
        Page(
            tmp_path,
            f"wss://127.0.0.1:{port}/",
            origin=origin,
            calls=1,
            loud=LOUD,
            blocks=BLOCKS,
            trusts=b64encode(sha256(key).digest()).decode(),
        ) as page,
    ):
        first = one_call(service, STARTS_S)
        seen = page.seen()
        ended = until(service, first["id"], in_state("ended"))
    assert (ended["secure"], ended["end_reason"]) == ("dtls", "remote_hangup")
    # A busy machine cuts holes into it.
    assert sum(seen.tones(1, seen.at(1, "called"), seen.at(1, "ended"))) > 0.7 * BLOCKS
    assert [stats["transport"]["dtlsState"] for stats in seen.raw["stats"]] == ["connected"]


def called(service: Service) -> Mapping[str, Any]:
    """A call to the page, once it is free for one."""
    transport = {"type": "sip", "destination": "sip:page@127.0.0.1", "caller": "desk"}
    url = f"{service.base_url}/realtime/calls"
    answer = httpx2.post(url, json={"transport": transport}, timeout=5)
    assert answer.status_code == 201, answer.text
    return until(service, answer.json()["id"], in_state("active"))


def is_heard(tones: list[bool]) -> bool:
    """All of it, but for the holes that a busy machine leaves."""
    return sum(tones) > 0.8 * len(tones) > 20


def check_first(seen: Seen) -> None:
    assert seen.why(1, "ended") == "local: Terminated"
    held, asked = seen.at(1, "held"), seen.at(1, "unhold asked")
    before = seen.tones(1, seen.at(1, "connected") + 0.3, seen.at(1, "connected") + 0.8)
    assert is_heard(before)
    # What was on its way when the hold was answered has been heard by then.
    assert not any(seen.tones(1, held + 0.2, asked))
    back = seen.heard_at(1, asked)
    assert back - seen.at(1, "unheld") < 0.4
    after = seen.tones(1, back + 0.1, seen.at(1, "ended"))
    assert is_heard(after)
    restarted = seen.tones(1, seen.at(1, "restart asked"), seen.at(1, "ended"))
    assert is_heard(restarted)
    pairs = [stats["transport"]["selectedCandidatePairChanges"] for stats in seen.raw["stats"]]
    assert pairs == [1, 2]
    for stats in seen.raw["stats"]:
        assert stats["codec"] == "audio/opus"
        assert stats["transport"]["dtlsState"] == "connected"
        assert stats["inbound"]["packetsLost"] == 0
    offers = [sdp for call, who, kind, sdp in seen.raw["sdp"] if (call, kind) == (1, "offer")]
    assert offers
    assert all("UDP/TLS/RTP/SAVPF" in sdp for sdp in offers)

"""Chromium calls a receptionist from the console page: heard by voice and by key."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.interop.judge import Judge
from tests.peers import speech
from tests.peers.service import Service

pytestmark = pytest.mark.interop("node", "playwright-core", "chromium", "espeak-ng", "sox")

DRIVER = Path(__file__).parent / "node" / "console.mjs"
RATE = 48_000

SCRIPT = Path(__file__).parent / "receptionist.yaml"

# From pressing Call. The greeting takes 4.7 s.
ASKS_AT_S = 6.2
LOUD = 100


@dataclass(frozen=True)
class Seen:
    """What the browser saw; all times in seconds from pressing Call."""

    raw: dict[str, Any]

    def s(self, epoch_ms: float) -> float:
        return (epoch_ms - float(self.raw["pressed"])) / 1000

    def state(self, name: str) -> float:
        return next(self.s(at) for at, state in self.raw["states"] if state == name)

    def event(self, kind: str, count: int = 1) -> float:
        times = [self.s(at) for at, found in self.raw["messages"] if found["type"] == kind]
        return times[count - 1]

    def loud(self, begin: float, end: float = 1e9) -> list[tuple[float, float]]:
        """When and for how long sound came out, in blocks of 10 ms."""
        blocks = ((self.s(at), ms / 1000, rms) for at, ms, rms in self.raw["levels"])
        return [(at, length) for at, length, rms in blocks if begin <= at < end and rms > LOUD]


def call(service: Service, folder: Path) -> Seen:
    microphone = speech.script(RATE, (ASKS_AT_S, "Opening hours."))
    # Past the end of its file the fake microphone buzzes.
    microphone = np.concatenate([microphone, np.zeros(60 * RATE, np.int16)])
    wanted = {
        "url": f"http://127.0.0.1:{service.http_port}/",
        "chromium": shutil.which("chromium"),
        "microphone": str(speech.write(folder / "microphone.wav", microphone, RATE)),
        "key": "5",
        "shots": str(folder),
    }
    run = subprocess.run(
        ["node", DRIVER, json.dumps(wanted)], capture_output=True, text=True, timeout=90
    )
    assert run.returncode == 0, run.stderr
    return Seen(json.loads(run.stdout))


def test_the_receptionist(tmp_path: Path, judge: Judge) -> None:
    with Service(cascade__llm__script=SCRIPT) as service:
        seen = call(service, tmp_path)
        assert service.calls() == []
    assert seen.raw["faults"] == []
    judge.hear(event for _, event in seen.raw["messages"])
    check_page(seen)
    check_sound(seen)
    check_network(seen)


def check_page(seen: Seen) -> None:
    assert seen.raw["display"].startswith("Ended")
    said = [(who, words) for who, words in seen.raw["transcript"]]
    assert [who for who, _ in said] == ["Agent", "Caller", "Agent", "Key", "Agent"]
    assert said[0][1].startswith("Hello, this is an automatic receptionist.")
    assert said[1][1] == "opening hours"
    assert said[2][1].startswith("We are open from Monday to Friday")
    assert said[3][1] == "5"
    assert said[4][1] == "Thank you for calling. Goodbye."
    shown = iter(seen.raw["events"])
    for kind in (
        "session.created",
        "response.created",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "conversation.item.input_audio_transcription.completed",
        "output_audio_buffer.stopped",
        "input_audio_buffer.dtmf_event_received",
        "output_audio_buffer.stopped",
    ):
        assert kind in shown, kind


def check_sound(seen: Seen) -> None:
    connected = seen.state("connected")
    assert connected < 2.0
    greeting = seen.loud(0, seen.event("output_audio_buffer.stopped"))
    assert greeting[0][0] - connected <= 1.0
    assert sum(length for _, length in greeting) > 2.8
    answer = seen.loud(ASKS_AT_S)
    assert answer[0][0] - ASKS_AT_S < 3.5
    goodbye = seen.loud(seen.event("output_audio_buffer.started", 3))
    assert goodbye[0][0] - seen.s(seen.raw["keyed"]) < 1.0
    assert sum(length for _, length in goodbye) > 1.0


def check_network(seen: Seen) -> None:
    """Nothing lost either way, nothing made up to fill a gap."""
    stats = seen.raw["stats"]
    first = next(s for s in stats if seen.s(s["at"]) > seen.state("connected") + 1)
    # At our BYE Chromium forgets what we reported, and may look once more before it hangs up.
    last = next(s for s in reversed(stats) if "remote" in s)
    assert stats[-1]["at"] - last["at"] < 1000
    for way in ("inbound", "outbound"):
        assert last["codecs"][way]["mimeType"] == "audio/opus"
    inbound = last["inbound"]
    assert inbound["packetsLost"] == last["remote"]["packetsLost"] == 0
    assert inbound["totalAudioEnergy"] > 0.1
    length = seen.s(last["at"]) - seen.s(first["at"])
    packets = inbound["packetsReceived"] - first["inbound"]["packetsReceived"]
    assert packets == pytest.approx(50 * length, rel=0.03)
    samples = inbound["totalSamplesReceived"] - first["inbound"]["totalSamplesReceived"]
    concealed = inbound["concealedSamples"] - first["inbound"]["concealedSamples"]
    at_start = first["inbound"]["concealedSamples"]
    print(f"concealed {concealed} of {samples} samples, and {at_start} while it started")
    # None on a machine with time to spare.
    assert concealed <= 0.03 * samples

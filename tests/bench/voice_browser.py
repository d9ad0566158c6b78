"""Speech through a call of a real Chromium: what it says, and what it hears."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge.audio.wav import read_wav
from tests.bench.subjects import ROOT
from tests.peers import speech

DRIVER = ROOT / "tests" / "interop" / "node" / "voice.mjs"
RATE = 48_000
# The microphone is on before the call is up, and buzzes past the end of its file.
LEAD_S, TAIL_S = 4.0, 60.0
LONGEST_S = 90


class BrowserError(RuntimeError):
    """With what the driver said."""


@dataclass(frozen=True, slots=True)
class BrowserCall:
    url: str
    codec: str
    microphone: Path
    heard: Path
    """A WAV to be written."""
    seconds: float

    def make(self) -> dict[str, Any]:
        """Blocks until it is over. What getStats() said of the audio that came."""
        said, rate = read_wav(self.microphone)
        assert rate == RATE
        padded, raw = self.heard.with_suffix(".mic.wav"), self.heard.with_suffix(".raw")
        silences = [np.zeros(int(seconds * RATE), np.int16) for seconds in (LEAD_S, TAIL_S)]
        speech.write(padded, np.concatenate((silences[0], said, silences[1])), RATE)
        wanted = {
            "url": self.url,
            "chromium": shutil.which("chromium"),
            "microphone": str(padded),
            "codec": self.codec,
            "seconds": LEAD_S + self.seconds,
            "heard": str(raw),
        }
        run = subprocess.run(
            ["node", str(DRIVER), json.dumps(wanted)],
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        if run.returncode:
            raise BrowserError(run.stderr[-500:])
        told = json.loads(run.stdout)
        speech.write(self.heard, np.fromfile(raw, np.int16), told["rate"])
        raw.unlink()
        padded.unlink()
        found: dict[str, Any] = next(e for e in told["stats"] if e["type"] == "inbound-rtp")
        return found

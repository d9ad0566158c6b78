"""A page whose call is hung up by REST: it hears the end of the story, then that it is over."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.peers.service import Service

pytestmark = pytest.mark.interop("node", "playwright-core", "chromium", "espeak-ng")

DRIVER = Path(__file__).parent / "node" / "hangup.mjs"


def test_chromium_is_told_at_once() -> None:
    with Service() as service:
        url = f"http://127.0.0.1:{service.http_port}/"
        wanted = json.dumps({"url": url, "chromium": shutil.which("chromium")})
        run = subprocess.run(["node", DRIVER, wanted], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    seen: list[tuple[float, str]] = json.loads(run.stdout)
    ends = [what for ms, what in seen if ms >= 0]
    story, ends = ends[: ends.index("channel closed")], ends[ends.index("channel closed") :]
    assert ends[0] == "channel closed"
    # Where it has two pairs, the first is refused before the second.
    assert ends[1:] in (["peer failed"], ["peer disconnected", "peer failed"])
    assert "output_audio_buffer.cleared" in story
    # A voice is faster than its words are played: the response may be done before the hangup.
    if "response.done" in story:
        assert story[-1] == "response.done"
    else:
        assert "response.done" in [what for ms, what in seen if ms < 0]
    at = {what: ms for ms, what in seen}
    print(f"channel closed {at['channel closed']:.0f} ms, peer failed {at['peer failed']:.0f} ms")
    assert at["channel closed"] < 1000
    # Chromium checks every 2.5 s. If nobody tells it, it sees a disconnection after 6 s and a
    # failure after 20 s.
    assert at["peer failed"] < 5000

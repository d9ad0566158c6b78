"""A page whose call is hung up by REST: it hears the end of the story, then that it is over."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.peers.service import Service

pytestmark = pytest.mark.interop("node", "playwright-core", "chromium", "espeak-ng")

DRIVER = Path(__file__).parent / "node" / "hangup.mjs"
SCRIPT = Path(__file__).parent / "receptionist.yaml"
HELLO = "Hello, this is an automatic receptionist."


def test_chromium_is_told_at_once(tmp_path: Path) -> None:
    script = tmp_path / "long.yaml"
    # No voice is through with that before the hangup.
    script.write_text(SCRIPT.read_text().replace(HELLO, f"{HELLO} " * 1000))
    with Service(cascade__llm__script=script) as service:
        url = f"http://127.0.0.1:{service.http_port}/"
        wanted = json.dumps({"url": url, "chromium": shutil.which("chromium")})
        run = subprocess.run(["node", DRIVER, wanted], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    seen: list[tuple[float, str]] = json.loads(run.stdout)
    names = [what for _, what in seen]
    assert names.index("output_audio_buffer.cleared") < names.index("response.done")
    assert names[names.index("response.done") + 1 :] == ["channel closed", "peer failed"]
    at = {what: ms for ms, what in seen}
    print(f"channel closed {at['channel closed']:.0f} ms, peer failed {at['peer failed']:.0f} ms")
    assert at["channel closed"] < 1000
    # Chromium checks every 2.5 s. If nobody tells it, it sees a disconnection after 6 s and a
    # failure after 20 s.
    assert at["peer failed"] < 5000

"""Pages that do not say where they are: their own checks find us, and we them by those."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.peers.service import Service

pytestmark = pytest.mark.interop("node", "playwright-core", "chromium")

DRIVER = Path(__file__).parent / "node" / "candidates.mjs"


def test_chromium_without_candidates_and_with_names_for_them() -> None:
    with Service(session__backend="echo") as service:
        url = f"http://127.0.0.1:{service.http_port}/"
        wanted = {"url": url, "chromium": shutil.which("chromium"), "bare": [True, False]}
        run = subprocess.run(
            ["node", DRIVER, json.dumps(wanted)], capture_output=True, text=True, timeout=60
        )
    assert run.returncode == 0, run.stderr
    bare, named = json.loads(run.stdout)
    assert bare["hosts"] == []
    assert named["hosts"]
    assert all(host.endswith(".local") for host in named["hosts"])
    for seen in (bare, named):
        print(f"{len(seen['hosts'])} candidates, data channel open in {seen['openMs']:.0f} ms")
        assert seen["lost"] == 0

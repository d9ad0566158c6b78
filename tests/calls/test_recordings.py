from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.audio.frames import MODEL_FRAME
from bridge.media.recorder import Recorder
from tests import virtual
from tests.calls.desk import SESSION, Desk
from tests.legs.extension import Extension

VAULT = {"dtmf": {"length": 4, "vault": True}}


def speak(leg: Extension, seconds: int) -> None:
    stream = leg.stream
    assert stream is not None
    for _ in range(50 * seconds):
        stream.deliver(np.ones(MODEL_FRAME, np.int16))
        stream.next_frame()


def files(folder: Path) -> dict[str, int]:
    """Seconds of sound, by name."""
    return {path.name: (path.stat().st_size - 44) // 96_000 for path in folder.iterdir()}


def test_a_call_is_recorded_until_it_ends(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(webhook=True)
        desk.board.recorder = Recorder(tmp_path)
        leg, call_id = await desk.answered()
        speak(leg, 3)
        assert desk.board.record(call_id)["recording"] == f"{call_id}.wav"
        leg.ends("remote_hangup")
        await virtual.settle()
        desk.board.recorder.close()
        assert files(tmp_path) == {f"{call_id}.wav": 3}
        assert desk.board.record(call_id)["recording"] == f"{call_id}.wav"
        await desk.close()

    virtual.run(main())


@pytest.mark.parametrize("session", [SESSION, {**SESSION, "transport": VAULT}])
def test_without_a_recorder_or_with_a_vault_nothing_is_kept(
    tmp_path: Path, session: dict[str, Any]
) -> None:
    async def main() -> None:
        desk = Desk(webhook=True)
        if "transport" in session:
            desk.board.recorder = Recorder(tmp_path)
        leg, call_id = await desk.answered(session)
        speak(leg, 1)
        assert desk.board.record(call_id)["recording"] is None
        leg.ends("remote_hangup")
        await virtual.settle()
        if desk.board.recorder is not None:
            desk.board.recorder.close()
        assert files(tmp_path) == {}
        await desk.close()

    virtual.run(main())

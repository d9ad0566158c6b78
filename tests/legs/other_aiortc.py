"""A call by an aiortc that is not the tested one: `python -m tests.legs.other_aiortc RELEASE
[OLD NEW]`. Its private name OLD is called NEW; how the call went is told in a line of JSON.
"""

import asyncio
import importlib.metadata
import json
import logging
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

import numpy as np

from bridge.audio.frames import MODEL_RATE, Pcm


class Renamed(SourceFileLoader):
    """A module in which `old` is called `new`."""

    def __init__(self, found: ModuleSpec, old: str, new: str) -> None:
        assert found.origin is not None
        super().__init__(found.name, found.origin)
        self._names = rf"\b{old}\b", new

    def get_code(self, fullname: str) -> Any:
        text = self.get_data(self.path).decode()
        return self.source_to_code(re.sub(*self._names, text).encode(), self.path)


class Other(MetaPathFinder):
    """Finds aiortc, and changes it."""

    def __init__(self, old: str, new: str) -> None:
        self._names = old, new

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("aiortc"):
            return None
        found = PathFinder.find_spec(fullname, path, target)
        if found is not None and str(found.origin).endswith(".py"):
            found.loader = Renamed(found, *self._names)
        return found


async def call(release: str) -> dict[str, object]:
    from bridge.legs.webrtc import WebRtcLegs
    from bridge.legs.webrtc_rungs import choose
    from bridge.media.plane import MediaPlane
    from tests.legs.test_webrtc import ticking, tone
    from tests.legs.webrtc_browser import Browser, loudest

    version = importlib.metadata.version

    def other_version(distribution_name: str) -> str:
        return release if distribution_name == "aiortc" else version(distribution_name)

    importlib.metadata.version = other_version
    rung = await choose()
    plane = MediaPlane()
    legs = WebRtcLegs(plane=plane, loopback=True, rung=rung)
    browser = Browser(frequency=500.0, on_frame=ticking(plane))
    leg, ear = await browser.call(legs)
    assert leg.stream is not None
    frames: asyncio.Queue[Pcm] = asyncio.Queue()
    leg.stream.on_frame = frames.put_nowait
    leg.stream.playout.write("item", tone(1000.0, 2.0))
    frequency = await browser.heard(25)
    async with asyncio.timeout(5):
        heard = [await frames.get() for _ in range(30)][10:]
    leg.send_message("read?")
    read = await browser.message()
    assert browser.channel is not None
    browser.channel.send("and back")
    told = await ear.hears()
    await leg.hangup()
    ended = await ear.hears()
    await browser.close()
    await legs.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=1)
    left = [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    return {
        "rung": rung,
        "browser_hears_hz": round(frequency),
        "we_hear_hz": round(loudest(np.concatenate(heard), MODEL_RATE)),
        "messages": [read, told[1]],
        "ended": ended[1],
        "left": left,
    }


def main(release: str, *names: str) -> None:
    if names:
        sys.meta_path.insert(0, Other(*names))
    logging.basicConfig(level=logging.WARNING)
    sys.stdout.write(json.dumps(asyncio.run(call(release))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

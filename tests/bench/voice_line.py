"""Answers calls with our legs and media plane: says a WAV at once, keeps what it hears.

One process for any number of calls. To sip:NAME@… it says NAME.wav of the folder, 24 kHz, and
writes NAME.heard.wav there when the call is over, with what the stream counted in NAME.json.

    python -m tests.bench.voice_line FOLDER
"""

import asyncio
import json
import random
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bridge.audio.frames import MODEL_RATE, Pcm
from bridge.audio.wav import read_wav, write_wav
from bridge.calls.policy import CallPolicy, SourcePolicy
from bridge.calls.trunks import Trunks
from bridge.legs.sip import SipLegs
from bridge.legs.sip_leg import SipLeg
from bridge.legs.sip_settings import SipSettings
from bridge.media.clock import MediaClock
from bridge.media.plane import MediaPlane
from bridge.rtp.transport import PortPool, RtpPoller
from bridge.sip.uri import NameAddr
from bridge.tasks import TaskOwner
from tests.legs.exchange import Ear
from tests.ports import free_port

CODECS = ("PCMU", "PCMA", "G722", "opus")


class Listener(Ear):
    """Of one call."""

    def __init__(self, leg: SipLeg, folder: Path, lateness: Callable[[], float]) -> None:
        super().__init__()
        callee = next(value for name, value in leg.headers if name.lower() in ("to", "t"))
        self._file = folder / f"{NameAddr.parse(callee).uri.user}.wav"
        self._leg = leg
        self._heard: list[Pcm] = []
        self._lateness = lateness

    def leg_answered(self) -> None:
        stream = self._leg.stream
        assert stream is not None
        stream.on_frame = self._heard.append
        said, _ = read_wav(self._file)
        stream.playout.write("said", said)
        stream.playout.finish("said")

    def leg_ended(self, reason: str) -> None:
        stream = self._leg.stream
        assert stream is not None
        counted = asdict(stream.stats) | asdict(stream.playout.stats)
        counted |= asdict(stream.inbound.jitter.stats)
        counted["tick_late_p99_ms"] = self._lateness()
        heard = np.concatenate(self._heard) if self._heard else np.zeros(1, np.int16)
        write_wav(self._file.with_suffix(".heard.wav"), heard, MODEL_RATE)
        self._file.with_suffix(".json").write_text(json.dumps(counted))


async def main(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    plane, poller = MediaPlane(), RtpPoller()
    clock = MediaClock(plane, poller, loop)
    tasks = TaskOwner("voice line")
    port = free_port()

    def incoming(leg: SipLeg) -> None:
        leg.listener = Listener(leg, folder, lambda: clock.stats.percentile(0.99))
        _ = tasks.spawn(leg.answer(), name="answer")

    legs = SipLegs(
        SipSettings(udp_port=port, tcp_port=0, codecs=CODECS),
        plane=plane,
        poller=poller,
        ports=PortPool("127.0.0.1", 30000, 31999),
        policy=CallPolicy(SourcePolicy([], admits_unknown=True), Trunks([]), now=loop.time),
        on_incoming=incoming,
        rng=random.SystemRandom(),
    )
    clock.start()
    await legs.start()
    print(port, flush=True)
    # Until whoever started it closes its standard input.
    await loop.run_in_executor(None, sys.stdin.read)
    await legs.close()
    await clock.close()
    poller.close()
    await tasks.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

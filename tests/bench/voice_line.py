"""Answers calls with our legs and media plane: says a WAV at once, keeps what it hears.

One process for any number of calls. To sip:NAME@…, or for an offer posted to /calls/NAME, it says
NAME.wav of the folder, 24 kHz, and writes NAME.heard.wav there when the call is over, with what
the stream counted in NAME.json. Who calls a name without a WAV hears itself.

Prints the ports of SIP and of HTTP.

    python -m tests.bench.voice_line FOLDER
"""

import asyncio
import json
import random
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from bridge.audio.frames import MODEL_RATE, Pcm
from bridge.audio.wav import read_wav
from bridge.calls.policy import CallPolicy, SourcePolicy
from bridge.calls.trunks import Trunks
from bridge.legs.sip import SipLegs
from bridge.legs.sip_leg import SipLeg
from bridge.legs.sip_settings import SipSettings
from bridge.legs.webrtc import WebRtcLeg, WebRtcLegs
from bridge.media.clock import MediaClock
from bridge.media.plane import MediaPlane
from bridge.rtp.transport import PortPool, RtpPoller
from bridge.sip.uri import NameAddr
from bridge.tasks import TaskOwner
from tests.legs.exchange import Ear
from tests.peers import speech
from tests.ports import free_port

CODECS = ("PCMU", "PCMA", "G722", "opus")
RTP_PORTS = range(30_000, 32_000)
PAUSE_S = 2.0  # before a browser is spoken to: its jitter buffer makes itself at home


class Listener(Ear):
    """Of one call to `file`."""

    def __init__(
        self, leg: SipLeg | WebRtcLeg, file: Path, lateness: Callable[[], float], pause_s: float
    ) -> None:
        super().__init__()
        self._file = file
        self._leg = leg
        self._heard: list[Pcm] = []
        self._lateness = lateness
        self._pause = np.zeros(int(pause_s * MODEL_RATE), np.int16)

    def leg_answered(self) -> None:
        stream = self._leg.stream
        assert stream is not None
        if not self._file.exists():
            stream.on_frame = partial(stream.playout.write, "")
            return
        stream.on_frame = self._heard.append
        said, _ = read_wav(self._file)
        stream.playout.write("said", np.concatenate((self._pause, said)))
        stream.playout.finish("said")

    def leg_ended(self, reason: str) -> None:
        stream = self._leg.stream
        if stream is None or not self._file.exists():
            return
        counted = asdict(stream.stats) | asdict(stream.playout.stats)
        counted |= asdict(stream.inbound.jitter.stats)
        counted["tick_late_p99_ms"] = self._lateness()
        heard = np.concatenate(self._heard) if self._heard else np.zeros(1, np.int16)
        speech.write(self._file.with_suffix(".heard.wav"), heard, MODEL_RATE)
        self._file.with_suffix(".json").write_text(json.dumps(counted))


def callee(leg: SipLeg) -> str:
    found = next(value for name, value in leg.headers if name.lower() in ("to", "t"))
    return NameAddr.parse(found).uri.user or ""


def door(browsers: WebRtcLegs, listen: Callable[[WebRtcLeg, str], None]) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse("<!doctype html><title>voice</title>")

    @app.post("/calls/{name}")
    async def call(name: str, request: Request) -> Response:
        leg, answer = await browsers.offer((await request.body()).decode())
        listen(leg, name)
        return Response(answer, media_type="application/sdp")

    return app


async def main(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    plane, poller = MediaPlane(), RtpPoller()
    clock = MediaClock(plane, poller, loop)
    tasks = TaskOwner("voice line")
    port, http_port = free_port(), free_port()

    def listen(leg: SipLeg | WebRtcLeg, name: str, pause_s: float = 0.0) -> None:
        file = folder / f"{name}.wav"
        leg.listener = Listener(leg, file, lambda: clock.stats.percentile(0.99), pause_s)

    def incoming(leg: SipLeg) -> None:
        listen(leg, callee(leg))
        _ = tasks.spawn(leg.answer(), name="answer")

    legs = SipLegs(
        SipSettings(udp_port=port, tcp_port=0, codecs=CODECS),
        plane=plane,
        poller=poller,
        ports=PortPool("127.0.0.1", RTP_PORTS.start, RTP_PORTS.stop - 1),
        policy=CallPolicy(SourcePolicy([], admits_unknown=True), Trunks([]), now=loop.time),
        on_incoming=incoming,
        rng=random.SystemRandom(),
    )
    browsers = WebRtcLegs(plane=plane, loopback=True)
    app = door(browsers, partial(listen, pause_s=PAUSE_S))
    server = uvicorn.Server(uvicorn.Config(app, port=http_port, log_level="warning"))
    clock.start()
    await legs.start()
    serving = tasks.spawn(server.serve(), name="door")
    print(port, http_port, flush=True)
    # Until whoever started it closes its standard input.
    await loop.run_in_executor(None, sys.stdin.read)
    server.should_exit = True
    await asyncio.wait({serving}, timeout=5)
    await browsers.close()
    await legs.close()
    await clock.close()
    poller.close()
    await tasks.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1])))

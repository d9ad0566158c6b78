"""The agent hears itself, on real calls: a phone (PCMU) and a browser (Opus) give back what comes.

What comes back is fainter by --loss_db and later by 100 to 250 ms, each delay for its share of the
time; what jitter buffers take comes on top. The agent talks all the while and nobody
else does: every turn that is found is a mistake.

    python -m tests.bench.loopback --minutes 10
"""

import argparse
import asyncio
import fractions
import json
import os
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamTrack
from av import AudioFrame
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from tests.bench.echo import AGENT, DELAYS_MS
from tests.peers.phone import SILENCE, Phone, decode, encode
from tests.peers.service import Service

RATE = 48_000
FRAME = RATE // 50
TIMES = 8
SCRIPT = """
start: talk
agree: {phrases: ["yes"]}
refuse: {phrases: ["no"]}
give_up: {after: 9, to: talk}
states: {talk: {say: %s}}
"""
LEAST_LATE = 5
"""Frames: what comes in bursts goes on evenly."""
PATIENCE = 100
"""Frames: how long it is looked whether more is on its way than need be."""
Delay = Callable[[], int]
Sound = NDArray[np.int16]
T = TypeVar("T")


class Returning(deque[T]):
    """Frames on their way back. It is as long as the delay, and as what comes in bursts needs: a
    path that moved all the time would be no echo's."""

    def __init__(self, delay: Delay) -> None:
        super().__init__()
        self._delay = delay
        self._late = 0
        self._flows = False
        self._least, self._taken = PATIENCE, 0

    def take(self) -> T | None:
        """The next; None while there is none."""
        late = max(LEAST_LATE, self._delay() // 20)
        if late != self._late:
            self._late, self._flows = late, False
        if not self._flows:
            while len(self) > late:
                self.popleft()
            self._flows = len(self) == late
        if not self._flows or not self:
            return None
        self._least = min(self._least, len(self))
        self._taken += 1
        if self._taken % PATIENCE == 0:
            if self._least > late + 2:
                self.popleft()
            self._least = PATIENCE
        return self.popleft()


class LoopingPhone(Phone):
    gain = 0.1
    back: "Returning[bytes]"

    def rtp_received(self, data: bytes, at: float | None = None) -> None:
        super().rtp_received(data, at)
        heard = decode(self.packets.pop().payload).astype(float) * self.gain
        self.back.append(encode(heard.astype(np.int16)))

    def _send_rtp(self, payload_type: int, payload: bytes, timestamp: int, *, marker: bool) -> None:
        back = self.back.take() or SILENCE
        super()._send_rtp(payload_type, back, timestamp, marker=marker)


class Echo(AudioStreamTrack):
    """A microphone beside the loudspeaker."""

    def __init__(self, gain: float, delay: Delay) -> None:
        super().__init__()
        self._gain = gain
        self._back: Returning[Sound] = Returning(delay)
        self._sent = 0

    async def listen(self, speaker: MediaStreamTrack) -> None:
        while True:
            frame: Any = await speaker.recv()
            channels = len(frame.layout.channels)
            mono = frame.to_ndarray().reshape(-1, channels)[:, 0].astype(float)
            self._back.append((mono * self._gain).astype(np.int16))

    async def recv(self) -> Any:
        await super().recv()  # its pace
        back = self._back.take()
        sound = np.zeros(FRAME, np.int16) if back is None else np.resize(back, FRAME)
        frame = AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, self._sent
        frame.time_base = fractions.Fraction(1, RATE)
        self._sent += FRAME
        return frame


async def by_phone(service: Service, gain: float, delay: Delay) -> Callable[[], Any]:
    phone = LoopingPhone(service.sip)
    phone.gain, phone.back = gain, Returning(delay)
    await (await phone.open()).call()
    return phone.close


async def by_browser(service: Service, gain: float, delay: Delay) -> Callable[[], Any]:
    browser = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    echo = Echo(gain, delay)
    tasks: list[asyncio.Task[None]] = []
    browser.addTrack(echo)
    browser.on("track", lambda track: tasks.append(asyncio.create_task(echo.listen(track))))
    browser.createDataChannel("oai-events")
    await browser.setLocalDescription(await browser.createOffer())
    async with httpx2.AsyncClient(timeout=10) as client:
        answer = await client.post(
            f"{service.base_url}/realtime/calls",
            content=browser.localDescription.sdp,
            headers={"content-type": "application/sdp"},
        )
    await browser.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))

    async def close() -> None:
        for task in tasks:
            task.cancel()
        await browser.close()

    return close


async def talk(service: Service, call_id: str, seconds: float) -> tuple[list[float], float]:
    """When turns were found, and how many seconds the agent spoke."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    # It may have begun to before the sideband came.
    spoke_at: float | None = began
    spoken_s, turns = 0.0, []
    url = f"ws://127.0.0.1:{service.http_port}/v1/realtime?call_id={call_id}"
    async with connect(url) as socket:
        await socket.send(json.dumps({"type": "response.create"}))
        while (left := began + seconds - loop.time()) > 0:
            try:
                async with asyncio.timeout(left):
                    event = json.loads(await socket.recv())
            except TimeoutError:
                break
            match event["type"]:
                case "output_audio_buffer.started":
                    spoke_at = loop.time()
                case "input_audio_buffer.speech_started":
                    turns.append(loop.time() - began)
                case "output_audio_buffer.stopped" | "output_audio_buffer.cleared":
                    if spoke_at is not None:
                        spoken_s += loop.time() - spoke_at
                    spoke_at = None
                    await socket.send(json.dumps({"type": "response.create"}))
                case _:
                    pass
    return turns, spoken_s + (0.0 if spoke_at is None else loop.time() - spoke_at)


async def loop_back(service: Service, kind: str, options: argparse.Namespace) -> str:
    loop = asyncio.get_running_loop()
    seconds = options.minutes * 60
    began = loop.time()

    def delay() -> int:
        share = (loop.time() - began) / seconds * len(DELAYS_MS)
        return DELAYS_MS[min(int(share), len(DELAYS_MS) - 1)]

    gain = 10 ** (-options.loss_db / 20)
    call = by_phone if kind == "sip" else by_browser
    hang_up = await call(service, gain, delay)
    (call_id,) = [call["id"] for call in service.calls() if call["type"] == kind]
    turns, spoken_s = await talk(service, call_id, seconds)
    await hang_up()
    at = ", ".join(f"{turn:.1f} s" for turn in turns)
    name = "phone, PCMU" if kind == "sip" else "browser, Opus"
    return f"{name}: {len(turns)} self-interruptions in {spoken_s / 60:.1f} min of speech {at}"


async def measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "talk.yaml"
        script.write_text(SCRIPT % json.dumps(" ".join(AGENT * TIMES)))
        settings = {
            "cascade.llm.script": str(script),
            "cascade.turn.echo_gate": str(not options.no_gate).lower(),
            "apm.echo_control": str(options.echo_control).lower(),
        }
        with Service(**settings) as service:
            calls = [loop_back(service, kind, options) for kind in options.kinds.split(",")]
            for line in await asyncio.gather(*calls):
                print(line)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of each call (%(default)s)")
    parser.add_argument("--loss_db", type=float, default=20.0, help="(%(default)s)")
    parser.add_argument("--no_gate", action="store_true", help="with cascade.turn.echo_gate off")
    parser.add_argument("--echo_control", action="store_true", help="with apm.echo_control")
    parser.add_argument("--kinds", default="sip,webrtc", help="(%(default)s)")
    options = parser.parse_args(arguments)
    print(f"load {os.getloadavg()[0]:.1f}")
    asyncio.run(measure(options))


if __name__ == "__main__":
    main()

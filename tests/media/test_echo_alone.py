"""A caller who is alone hears an echo without gaps: the clock and the plane, together."""

import asyncio
from random import Random
from socket import socketpair

import numpy as np
import pytest

from bridge.audio.codecs import PCMU
from bridge.audio.frames import Pcm
from bridge.media.clock import MediaClock
from bridge.media.plane import MediaPlane
from bridge.media.stream import AudioStream
from bridge.rtp.packet import RtpPacket
from tests.virtual import VirtualLoop

FRAME_S = 0.02
SETTLED = 250  # frames
LOUD = bytes([0x90]) * 160


class Line:
    """The wire of one call, and the poller that reads it: a packet for each octet of a socket."""

    def __init__(self) -> None:
        self.stream = AudioStream(PCMU, payload_type=0, wire=self, cname="a@b")
        self.stream.on_frame = self._echo
        self.port, self.peer = socketpair()
        self.port.setblocking(False)
        self.sent = 0
        self._number = 0

    def _echo(self, frame: Pcm) -> None:
        self.stream.playout.write("echo", frame)

    def send(self, data: bytes) -> None:
        self.sent += 1

    def send_rtcp(self, data: bytes) -> None:
        pass

    def fileno(self) -> int:
        return self.port.fileno()

    def poll(self, now: float) -> int:
        try:
            count = len(self.port.recv(1000))
        except BlockingIOError:
            return 0
        for _ in range(count):
            number, self._number = self._number, self._number + 1
            packet = RtpPacket(0, False, number, 160 * number, 5, LOUD)
            self.stream.receive_rtp(bytes(packet), now)
        return count


def echo(late_s: list[float], begin_s: float) -> tuple[int, int]:
    """Gaps in it, before and after it has settled, of packets so late."""
    loop = VirtualLoop()
    line, plane = Line(), MediaPlane()
    clock = MediaClock(plane, line, stopwatch=loop.time)

    async def main() -> tuple[int, int]:
        clock.start()
        plane.add(line.stream)
        at = loop.time() + begin_s
        settling = 0
        for number, late in enumerate(late_s):
            await asyncio.sleep(at + number * FRAME_S + late - loop.time())
            if number == SETTLED:
                settling = line.stream.playout.stats.underruns
            line.peer.send(b"x")
        gaps = line.stream.playout.stats.underruns
        await clock.close()
        return settling, gaps - settling

    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(main())
    finally:
        line.port.close()
        line.peer.close()


@pytest.mark.parametrize("begin_ms", [0.5, 7, 15])
@pytest.mark.parametrize("uneven_ms", [2, 5, 8])
def test_packets_that_come_unevenly(uneven_ms: float, begin_ms: float) -> None:
    lottery = Random(3)
    late_s = [lottery.uniform(0, uneven_ms / 1000) for _ in range(800)]
    settling, settled = echo(late_s, begin_ms / 1000)
    # Where its packets come at first is chance: that of the first that is too late is one gap.
    assert settling <= 1
    assert settled == 0


@pytest.mark.parametrize("begin_ms", [0.5, 7, 11, 15])
def test_packets_that_are_late_now_and_then(begin_ms: float) -> None:
    late_s = np.zeros(800)
    late_s[300::97] = 0.0155
    assert echo(late_s.tolist(), begin_ms / 1000) == (0, 0)


@pytest.mark.parametrize("begin_ms", [0.5, 7, 11, 15])
def test_packets_that_are_late_after_an_early_one(begin_ms: float) -> None:
    late_s = np.zeros(800)
    late_s[300::97] = -0.008
    late_s[301::97] = 0.0055
    assert echo(late_s.tolist(), begin_ms / 1000) == (0, 0)

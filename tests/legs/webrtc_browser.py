"""A browser for tests: aiortc's own peer connection, stock, on real loopback sockets."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamTrack

from bridge.legs.webrtc import WebRtcLeg, WebRtcLegs
from bridge.media.stream import AudioStream

TIMEOUT_S = 5.0


class Ear:
    """The owner of a leg: notes what it is told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def leg_answered(self) -> None:
        self.told.put_nowait(("answered", ""))

    def leg_ended(self, reason: str) -> None:
        self.told.put_nowait(("ended", reason))

    def leg_finding(self, kind: str, text: str) -> None:
        self.told.put_nowait((kind, text))

    def leg_digit(self, digit: str) -> None:
        self.told.put_nowait(("digit", digit))

    def leg_transfer_wanted(self, target: str, replaces: str, referred_by: str) -> None:
        raise AssertionError(target)

    def leg_message(self, text: str) -> None:
        self.told.put_nowait(("message", text))

    def leg_progress(self, status: int) -> None:
        raise AssertionError(status)

    def leg_held(self, *, held: bool) -> None:
        raise AssertionError(held)

    def leg_transfer(self, status: int, reason: str, *, final: bool) -> None:
        raise AssertionError(reason)

    async def hears(self, timeout_s: float = TIMEOUT_S) -> tuple[str, str]:
        async with asyncio.timeout(timeout_s):
            return await self.told.get()


class Microphone(AudioStreamTrack):
    """A sine of `frequency`; `on_frame` runs with each frame, so it can clock something."""

    def __init__(self, frequency: float, on_frame: Callable[[], None]) -> None:
        super().__init__()
        self._frequency = frequency
        self._on_frame = on_frame
        self._position = 0

    async def recv(self) -> Any:
        frame: Any = await super().recv()
        t = (self._position + np.arange(frame.samples)) / frame.sample_rate
        self._position += frame.samples
        tone = (8000 * np.sin(2 * np.pi * self._frequency * t)).astype(np.int16)
        frame.planes[0].update(tone.tobytes())
        self._on_frame()
        return frame


def tap(
    stream: AudioStream,
    on_rtp: Callable[[bytes, float], object],
    on_rtcp: Callable[[bytes, float], object] = lambda _data, _now: None,
) -> None:
    """What reaches the stream goes there instead."""

    class Tapped(AudioStream):
        __slots__ = ()

        def receive_rtp(self, data: bytes, now: float) -> None:
            on_rtp(data, now)

        def receive_rtcp(self, data: bytes, now: float) -> None:
            on_rtcp(data, now)

    stream.__class__ = Tapped


class Browser:
    """A page that calls: microphone, speaker, `oai-events`."""

    def __init__(
        self,
        *,
        channel: bool = True,
        frequency: float = 440.0,
        on_frame: Callable[[], None] = lambda: None,
    ) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.messages: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.connected = asyncio.Event()
        self.closed = asyncio.Event()
        self.channel_open = asyncio.Event()
        self.channel_closed = asyncio.Event()
        self.speaker: MediaStreamTrack | None = None
        self.pc.on("connectionstatechange", self._state_changed)
        self.pc.on("track", self._track)
        self.channel = self.pc.createDataChannel("oai-events") if channel else None
        if self.channel is not None:
            self.channel.on("message", self.messages.put_nowait)
            self.channel.on("open", self.channel_open.set)
            self.channel.on("close", self.channel_closed.set)
        self.pc.addTrack(Microphone(frequency, on_frame))

    def _state_changed(self) -> None:
        if self.pc.connectionState == "connected":
            self.connected.set()
        elif self.pc.connectionState in ("closed", "failed"):
            self.closed.set()

    def _track(self, track: MediaStreamTrack) -> None:
        self.speaker = track

    async def offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    async def accept(self, answer: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def answer(self, offer: str) -> str:
        await self.pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        return str(self.pc.localDescription.sdp)

    async def call(self, legs: WebRtcLegs) -> tuple[WebRtcLeg, Ear]:
        """Offer, answer, connected, data channel open."""
        leg, answer = await legs.offer(await self.offer())
        ear = Ear()
        leg.listener = ear
        await self.accept(answer)
        assert await ear.hears() == ("answered", "")
        async with asyncio.timeout(TIMEOUT_S):
            await self.connected.wait()
            if self.channel is not None:
                await self.channel_open.wait()
        return leg, ear

    async def heard(self, frames: int) -> float:
        """The loudest frequency in the next `frames` of the speaker."""
        assert self.speaker is not None
        samples = []
        rate = 48_000
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(frames):
                frame: Any = await self.speaker.recv()
                rate = frame.sample_rate
                channels = len(frame.layout.channels)
                samples.append(frame.to_ndarray().reshape(-1, channels)[:, 0])
        return loudest(np.concatenate(samples), rate)

    async def message(self) -> str | bytes:
        async with asyncio.timeout(TIMEOUT_S):
            return await self.messages.get()

    async def close(self) -> None:
        await self.pc.close()


def loudest(samples: Any, rate: int) -> float:
    """Hz of the strongest spectral line."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))

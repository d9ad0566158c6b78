"""Who is heard speaking over the agent, and what becomes of it."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from bridge.backends.base import BackendEvent, HoldPlayout, Pcm
from bridge.backends.cascade.vad import Floats, Silero, VadBatch
from bridge.backends.upstream.ear import CONFIRMED_MS, MAX_REST_MS, REST_MS, Ear

DETECTION = {"type": "server_vad", "interrupt_response": True}


class Loudness(Silero):
    """Whatever sounds is speech."""

    def __init__(self) -> None:
        pass

    def score(self, chunks: Floats, state: Floats) -> tuple[Floats, Floats]:
        return (np.abs(chunks).max(axis=1) > 0.01).astype(np.float32), state


class Heard:
    def __init__(self) -> None:
        self.holds: list[bool] = []
        self.vad = VadBatch(Loudness())
        self.ear = Ear(self.vad, self._emit)
        self.ear.configure(DETECTION)
        self.ear.agent_speaking(speaking=True)
        self._noise = np.random.default_rng(4)

    def _emit(self, event: BackendEvent) -> None:
        assert isinstance(event, HoldPlayout)
        self.holds.append(event.held)

    async def silence(self, ms: int) -> None:
        await self._hear(np.zeros(24 * ms, np.int16))

    async def voice(self, ms: int) -> None:
        await self._hear((self._noise.standard_normal(24 * ms) * 4000).astype(np.int16))

    async def _hear(self, pcm: Pcm) -> None:
        for begin in range(0, len(pcm), 480):
            self.ear.push(pcm[begin : begin + 480])
            # Scored in the next turn of the loop.
            await asyncio.sleep(0)
            await asyncio.sleep(0)


def run(scenario: Callable[[Heard], Awaitable[None]]) -> None:
    async def main() -> None:
        heard = Heard()
        await heard.silence(3000)
        await scenario(heard)
        heard.ear.close()
        heard.vad.close()

    asyncio.run(main())


def test_the_agent_is_paused_at_once_and_goes_on_if_the_server_hears_nothing() -> None:
    async def scenario(heard: Heard) -> None:
        await heard.voice(140)
        assert heard.holds == [True]
        await heard.silence(CONFIRMED_MS - 100)
        assert heard.holds == [True]
        await heard.silence(200)
        assert heard.holds == [True, False]

    run(scenario)


def test_what_the_server_hears_too_is_no_longer_ours() -> None:
    async def scenario(heard: Heard) -> None:
        for _ in range(3):
            await heard.voice(140)
            heard.ear.heard()
            await heard.silence(1000)
        assert heard.holds == [True, False] * 3

    run(scenario)


def test_who_was_wrong_waits_longer_each_time() -> None:
    async def scenario(heard: Heard) -> None:
        pauses: list[int] = []
        for second in range(130):
            before = len(heard.holds)
            await heard.voice(200)
            if len(heard.holds) > before:
                pauses.append(second)
            await heard.silence(800)
        rests = np.diff(pauses)
        assert rests[0] >= REST_MS // 1000
        assert (rests[1:] >= 1.5 * rests[:-1]).all()
        assert rests[-1] <= 1 + MAX_REST_MS // 1000 + 1
        # Until the server hears the caller: then it is forgiven.
        heard.ear.heard()
        await heard.voice(200)
        assert len(heard.holds) == 2 * len(pauses) + 1

    run(scenario)


def test_nothing_is_paused_where_speech_does_not_interrupt() -> None:
    async def scenario(heard: Heard) -> None:
        heard.ear.configure({**DETECTION, "interrupt_response": False})
        await heard.voice(500)
        heard.ear.configure(None)
        await heard.voice(500)
        heard.ear.configure(DETECTION)
        heard.ear.agent_speaking(speaking=False)
        await heard.voice(500)
        assert heard.holds == []
        await heard.silence(1000)
        heard.ear.agent_speaking(speaking=True)
        await heard.voice(140)
        assert heard.holds == [True]
        # The end of the session leaves nobody paused.
        heard.ear.close()
        assert heard.holds == [True, False]

    run(scenario)


def test_the_agents_own_echo_is_not_the_caller() -> None:
    async def scenario(heard: Heard) -> None:
        said = (np.random.default_rng(5).standard_normal(24 * 3000) * 6000).astype(np.int16)
        late = np.concatenate((np.zeros(24 * 80, np.int16), said // 5))
        for begin in range(0, len(said), 480):
            heard.ear.played(said[begin : begin + 480])
            await heard._hear(late[begin : begin + 480])
        assert heard.holds == []

    run(scenario)

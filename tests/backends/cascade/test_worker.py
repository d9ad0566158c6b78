import asyncio
import os
import signal

import pytest

from bridge.backends.cascade import pipes, stt, tts
from bridge.backends.cascade.worker import Worker, WorkerLost


def test_a_program_starts_once_and_ends_with_its_pipe() -> None:
    async def run() -> None:
        worker = Worker(tts.PROGRAM)
        await worker.start()
        pid = worker.pid
        await worker.start()
        assert worker.pid == pid is not None
        await worker.close()
        await worker.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    asyncio.run(run())


def test_a_cancelled_receive_loses_nothing() -> None:
    async def run() -> None:
        worker = Worker(tts.PROGRAM)
        await worker.start()
        await worker.send(pipes.Speak(1, "One two three four five.", "en-us", 165))
        kinds: list[type] = []
        while not kinds or kinds[-1] is not pipes.Spoken:
            try:
                async with asyncio.timeout(0.0005):
                    kinds.append(type(await worker.receive()))
            except TimeoutError:
                continue
        assert set(kinds) == {pipes.Sound, pipes.Spoken}
        await worker.close()

    asyncio.run(run())


def test_a_killed_program_is_lost_and_starts_anew() -> None:
    async def run() -> None:
        worker = Worker(stt.PROGRAM)
        await worker.start()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerLost, match="stt_program ended"):
            await worker.receive()
        await worker.close()
        await worker.start()
        await worker.send(pipes.Recognise(1, bytes(4800), ["yes"]))
        assert await worker.receive() == pipes.Recognised(1, "", [])
        await worker.close()

    asyncio.run(run())


def test_what_is_not_running_cannot_be_spoken_to() -> None:
    async def run() -> None:
        worker = Worker(tts.PROGRAM)
        with pytest.raises(WorkerLost, match="tts_program is not running"):
            await worker.send(pipes.Stop(1))
        with pytest.raises(WorkerLost, match="tts_program is not running"):
            await worker.receive()

    asyncio.run(run())


def test_a_program_that_does_not_exist_is_lost() -> None:
    async def run() -> None:
        with pytest.raises(WorkerLost, match="ended"):
            await Worker("bridge.backends.cascade.no_program").start()

    asyncio.run(run())

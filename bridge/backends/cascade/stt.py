"""Speech to text: the protocols of recognisers, and PocketSphinx behind a bounded queue."""

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from bridge.backends.base import Pcm
from bridge.backends.cascade import pipes
from bridge.backends.cascade.worker import Worker, WorkerLost
from bridge.errors import BackendError, ConfigError, OverloadedError
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

PROGRAM = "bridge.backends.cascade.stt_program"
LOGPROBS = "item.input_audio_transcription.logprobs"  # among what a session includes
MAX_WAITING = 64  # utterances; at 50 ms each the last waits three seconds
JOB_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Hints:
    """What the caller may be expected to say next."""

    phrases: tuple[str, ...] = ()
    """Empty when anything may be said: a grammar recogniser then hears sound, not words."""
    pause_ms: int = 0
    """How long the caller may pause without having finished; 0: as the session says."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a session says of the transcripts it wants."""

    language: str = ""
    prompt: str = ""
    logprobs: bool = False
    """Wants to know how sure the recogniser is: of one that can tell, words are `Weighed`."""

    @classmethod
    def parse(cls, session: Mapping[str, Any]) -> "Wanted":
        """From a session object."""
        listening = (session.get("audio") or {}).get("input") or {}
        fields = listening.get("transcription") or {}
        languages = fields.get("languages") or ()
        language = fields.get("language") or (next(iter(languages)) if len(languages) == 1 else "")
        keywords = ", ".join(fields.get("keywords") or ())
        prompt = " ".join(filter(None, (fields.get("prompt"), keywords)))
        return cls(str(language), prompt, LOGPROBS in (session.get("include") or ()))


class SpeechToText(Protocol):
    async def start(self) -> None:
        """Raises ConfigError or BackendError."""
        ...

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted) -> str:
        """The words of one utterance, "" if there are none; `hints` None: no expectation.

        Raises:
            BackendError: the recogniser failed.
            OverloadedError: too many utterances wait.
        """
        ...

    async def close(self) -> None: ...


class Utterance(Protocol):
    """Speech on its way to a recogniser while it is still spoken."""

    def push(self, pcm: Pcm) -> None: ...

    async def finish(self) -> str:
        """All words, once everything was pushed. Raises BackendError."""
        ...

    def abandon(self) -> None:
        """Nobody wants the words. Idempotent."""
        ...


@runtime_checkable
class Listens(Protocol):
    """A recogniser that hears words before the utterance has ended."""

    def listen(self, wanted: Wanted, on_delta: Callable[[str], None]) -> Utterance:
        """`on_delta` gets further words as they are heard."""
        ...


class Pending:
    """The words of an utterance, which a task is to bring: what it tells first is what counts."""

    def __init__(self, tasks: TaskOwner, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._words: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # A failure is told by `wait`; nobody may ask for it.
        self._words.add_done_callback(lambda words: words.cancelled() or words.exception())
        self._task = tasks.spawn(work(), name="utterance")
        self._task.add_done_callback(lambda _: self._words.cancel())

    @property
    def done(self) -> bool:
        return self._words.done()

    def tell(self, words: str) -> None:
        if not self._words.done():
            self._words.set_result(words)

    def fail(self, message: str) -> None:
        if not self._words.done():
            self._words.set_exception(BackendError(message))

    async def wait(self) -> str:
        """Raises BackendError."""
        try:
            return await asyncio.shield(self._words)
        except asyncio.CancelledError:
            self.abandon()
            raise

    def abandon(self) -> None:
        self._task.cancel()


@dataclass(slots=True)
class _Job:
    number: int
    pcm: Pcm
    phrases: list[str] | None
    done: "asyncio.Future[str]"


class PocketSphinx:
    """A pool of recogniser processes, each restarted when it dies."""

    def __init__(self, workers: int = 1) -> None:
        self._workers = [Worker(PROGRAM) for _ in range(workers)]
        self._waiting: asyncio.Queue[_Job] = asyncio.Queue(MAX_WAITING)
        self._tasks = TaskOwner("stt")
        self._jobs = 0
        self._reported: set[str] = set()

    @property
    def workers(self) -> Sequence[Worker]:
        return tuple(self._workers)

    async def start(self) -> None:
        if len(self._tasks):
            return
        if importlib.util.find_spec("pocketsphinx") is None:
            raise ConfigError(
                'speech recognition needs pocketsphinx: pip install "realtime-bridge[demo]"',
                param="cascade.stt",
            )
        await asyncio.gather(*(worker.start() for worker in self._workers))
        for number, worker in enumerate(self._workers):
            _ = self._tasks.spawn(self._serve(worker), name=f"worker-{number}")

    async def transcribe(self, pcm: Pcm, hints: Hints | None, wanted: Wanted = Wanted()) -> str:
        if hints is not None and not hints.phrases:
            return ""
        await self.start()
        self._jobs += 1
        phrases = None if hints is None else list(hints.phrases)
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait(_Job(self._jobs, pcm, phrases, done))
        except asyncio.QueueFull:
            raise OverloadedError("too many utterances wait for the recogniser") from None
        return await done

    async def close(self) -> None:
        await self._tasks.close()
        while not self._waiting.empty():
            self._waiting.get_nowait().done.cancel()
        for worker in self._workers:
            await worker.close()

    async def _serve(self, worker: Worker) -> None:
        while True:
            job = await self._waiting.get()
            if job.done.done():  # the call ended while it waited
                continue
            try:
                async with asyncio.timeout(JOB_TIMEOUT_S):
                    text = await self._recognise(worker, job)
            except (WorkerLost, TimeoutError, OSError) as error:
                log.warning("speech recogniser lost, restarting", extra={"error": str(error)})
                await worker.close()
                if not job.done.done():
                    job.done.set_exception(BackendError("the speech recogniser failed"))
                with contextlib.suppress(WorkerLost, OSError):
                    await worker.start()
            else:
                if not job.done.done():
                    job.done.set_result(text)

    async def _recognise(self, worker: Worker, job: _Job) -> str:
        await worker.start()
        await worker.send(pipes.Recognise(job.number, job.pcm.tobytes(), job.phrases))
        reply = await worker.receive()
        if not isinstance(reply, pipes.Recognised) or reply.job != job.number:
            raise WorkerLost("the speech recogniser answered out of turn")
        fresh = set(reply.unknown) - self._reported
        if fresh:
            self._reported |= fresh
            log.warning(
                "phrases hold words without a pronunciation, which are never heard",
                extra={"words": sorted(fresh)},
            )
        return reply.text

"""The relay: one call, one upstream session after another behind it, and what if none answers."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bridge import metrics
from bridge.backends.base import (
    Backend,
    BackendEvent,
    Capabilities,
    Emit,
    Generate,
    HearsItself,
    LoopAudio,
    Pcm,
    ResponseFailed,
    ResponseFinished,
    SpeechStarted,
    SpeechStopped,
)
from bridge.backends.upstream import farewell
from bridge.backends.upstream.beat import Beat
from bridge.backends.upstream.caller import SAMPLES_PER_MS, WIRE_NAMES
from bridge.backends.upstream.channel import Channel
from bridge.backends.upstream.dialects import dialect_by
from bridge.backends.upstream.ear import Ear, NewEar
from bridge.backends.upstream.exchange import MAX_RESUMED, Exchange
from bridge.backends.upstream.rounds import Rounds
from bridge.backends.upstream.session import format_name
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.backends.upstream.talk import Talk
from bridge.errors import BackendError, BridgeError
from bridge.ids import ItemId, ResponseId
from bridge.tasks import TaskOwner

log = logging.getLogger(__name__)

BACKOFF_S = (0.0, 0.25, 0.5, 1.0, 2.0)
SPREAD_S = 0.05
"""Calls that have lost one server together do not come back to it in one instant."""
MAX_LOSSES = 5
"""In a row: so many sessions that did not last are no accident."""
LASTED_S = 10.0
COMFORT_AFTER_S = 0.6
COMFORT_EVERY_S = 1.0
ROLL_OVER_S = 300.0
"""Before the limit of a session its successor is ready, and waits for a silence."""
ROLL_OVER_SHARE = 0.25

NewBackend = Callable[[str], Backend]


class UpstreamBackend:
    """`new_backend` makes the fallback, if that is another kind; `new_ear` is for calls that listen
    for an interruption themselves."""

    def __init__(
        self,
        settings: UpstreamSettings,
        new_backend: NewBackend,
        new_ear: NewEar | None = None,
        *,
        beat: Beat,
        rounds: Rounds,
    ) -> None:
        self._settings = settings
        self._new_backend = new_backend
        self._new_ear = new_ear
        self._beat = beat
        self._ear: Ear | None = None
        self._loop = asyncio.get_running_loop()
        self._talk = Talk(settings, dialect_by(settings.dialect), self._loop.time, rounds)
        self._emit: Emit = self._talk.emit
        self._capabilities = Capabilities(
            turn_detection=self._talk.dialect.turn_detection,
            transcribes=True,
            answers_turns=self._talk.dialect.answers_turns,
            patient=new_ear is None,
        )
        self._channel: Channel | None = None
        self._successor: Channel | None = None
        self._inner: Backend | None = None
        self._settled: asyncio.Event | None = None
        self._lost_by = ""
        self._losses = 0
        self._next_try = 0.0
        self._closed = False
        self._tasks = TaskOwner("relay")
        self._comforted_at = 0.0
        self._given_up = False
        self._coded: tuple[bytes, str] | None = None
        self.wants_coded = format_name(settings, self._talk.dialect) in WIRE_NAMES

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities if self._inner is None else self._inner.capabilities

    def follow(self, items: Callable[[], Sequence[Mapping[str, Any]]], /) -> None:
        self._talk.items = items

    async def start(self, config: Mapping[str, Any], emit: Emit) -> None:
        """Returns once the model knows the session, or seems to need longer than a caller may
        be left waiting for: what is said to it meanwhile is kept."""
        self._talk.config = config
        self._talk.emit = emit
        if self._new_ear is not None:
            self._emit = emit
            self._talk.emit = self._told
            self._ear = self._new_ear(emit)
            self._ear.configure(self._talk.turn_detection)
        try:
            # One broken connection is an accident, two are a reason.
            if not await self._begin() and not await self._begin():
                raise BackendError(f"The model's server ended the session ({self._lost_by})")
        except BackendError as error:
            log.warning("no model for this call", extra={"why": error.message})
            if not await self._start_inner():
                raise
            return
        self._comforted_at = self._loop.time()
        self._beat.join(self._look)

    async def _begin(self) -> bool:
        """Whether the first connection lasts. Raises BackendError if the server refuses it."""
        channel = self._channel = Channel(self._talk, self)
        try:
            await channel.open()
            await self._settle(self._settings.ready_timeout_s)
            if self._channel is channel:
                return True
            if (fault := channel.fault) is not None:
                why = fault.code or fault.message
                raise BackendError(f"The model's server refused the session: {why}")
        except BackendError:
            self._channel = None
            await channel.close()
            raise
        await channel.close()
        return False

    async def _settle(self, timeout_s: float) -> None:
        """Until the channel is ready or lost."""
        channel = self._channel
        if channel is None or channel.live:
            return
        self._settled = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            pass
        finally:
            self._settled = None

    def _told(self, event: BackendEvent) -> None:
        assert self._ear is not None
        self._emit(event)
        if isinstance(event, SpeechStarted):
            self._ear.heard()

    # Verbs

    def configure(self, config: Mapping[str, Any]) -> None:
        self._talk.config = config
        if self._inner is not None:
            self._inner.configure(config)
        elif self._ear is not None:
            self._ear.configure(self._talk.turn_detection)
        for channel in (self._channel, self._successor):
            if channel is not None and channel.configured:
                channel.configure()

    def coded(self, octets: bytes, law: str, /) -> None:
        self._coded = octets, law

    def push_audio(self, pcm: Pcm) -> None:
        coded, self._coded = self._coded, None
        talk = self._talk
        talk.caller.push(pcm)
        if self._inner is not None:
            self._inner.push_audio(pcm)
            return
        if self._ear is not None:
            self._ear.push(pcm)
        if self._channel is not None:
            self._channel.push(pcm, coded)

    def agent_speaking(self, speaking: bool, /) -> None:  # noqa: FBT001
        if self._inner is not None:
            self._inner.agent_speaking(speaking)
        elif self._ear is not None:
            self._ear.agent_speaking(speaking=speaking)

    def played(self, pcm: Pcm, /) -> None:
        if self._inner is None:
            if self._ear is not None:
                self._ear.played(pcm)
        elif isinstance(self._inner, HearsItself):
            self._inner.played(pcm)

    def transcribe(self, item_id: ItemId, pcm: Pcm) -> None:
        if self._inner is not None:
            self._inner.transcribe(item_id, pcm)
            return
        self._talk.lengths[item_id] = len(pcm) / (1000 * SAMPLES_PER_MS)
        if self._channel is not None:
            self._channel.give_audio(item_id, pcm)

    def generate(self, request: Generate) -> None:
        if self._inner is not None:
            self._inner.generate(request)
            return
        exchange = Exchange(request)
        self._talk.exchanges[request.response_id] = exchange
        if self._talk.take(exchange):
            return
        if self._channel is not None:
            self._channel.ask(exchange)
        elif self._given_up:
            # A transfer has failed, or somebody asks for more than there is.
            self._say_goodbye(request, replace(self._settings, fallback="hangup"))

    def cancel(self, response_id: ResponseId) -> None:
        if self._inner is not None:
            self._inner.cancel(response_id)
            return
        exchange = self._talk.exchanges.pop(response_id, None)
        self._talk.audible_until = self._loop.time()
        if exchange is not None and self._channel is not None:
            self._channel.cancel(exchange)

    def told(self, event: Mapping[str, Any], /) -> None:
        if self._channel is not None:
            self._channel.told(event)

    async def close(self) -> None:
        self._closed = True
        self._beat.leave(self._look)
        self._talk.emit = self._emit = lambda _: None
        if self._ear is not None:
            self._ear.close()
        await self._tasks.close()
        channels = [channel for channel in (self._channel, self._successor) if channel is not None]
        self._channel = self._successor = None
        await asyncio.gather(*(channel.close() for channel in channels))
        if self._inner is not None:
            await self._inner.close()

    # Channels

    def channel_ready(self, channel: Channel) -> None:
        if channel is self._channel:
            channel.take_over()
        if self._settled is not None:
            self._settled.set()

    def channel_lost(self, channel: Channel, reason: str) -> None:
        if channel is self._successor:
            self._successor = None
            self._tasks.spawn(channel.close(), name="close")
        if channel is not self._channel:
            return
        self._channel = None
        self._lost_by = reason
        if self._settled is not None:
            self._settled.set()
        elif not self._closed:
            self._lost(channel, reason)

    def _lost(self, channel: Channel, reason: str) -> None:
        now = self._loop.time()
        if channel.live and now - channel.live_since > LASTED_S:
            self._losses = 0
        self._losses += 1
        metrics.upstream_losses.labels(reason.split()[0]).inc()
        log.warning("model lost in mid-call", extra={"why": reason, "times": self._losses})
        self._talk.caller.holding = True
        for exchange in list(self._talk.exchanges.values()):
            self._interrupted(exchange)
        self._tasks.spawn(channel.close(), name="close")
        self._tasks.spawn(self._recover(), name="recover")

    def _interrupted(self, exchange: Exchange) -> None:
        """The rest is asked for again, unless only the word that it is done was missing."""
        response_id = exchange.request.response_id
        if exchange.whole:
            del self._talk.exchanges[response_id]
            self._talk.emit(ResponseFinished(response_id))
        elif exchange.resumed >= MAX_RESUMED:
            del self._talk.exchanges[response_id]
            self._talk.emit(ResponseFailed(response_id, "server_error", "The model was lost."))
        else:
            exchange.resumed += 1 if exchange.asked or exchange.upstream_id else 0
            exchange.suspend()

    async def _recover(self) -> None:
        if self._losses <= MAX_LOSSES:
            for delay in BACKOFF_S:
                await asyncio.sleep(delay + random.uniform(0, SPREAD_S))
                if await self._connect():
                    return
        await self._fall_back()

    async def _connect(self) -> bool:
        channel = self._channel = Channel(self._talk, self)
        try:
            await channel.open()
            await self._settle(self._settings.stall_timeout_s)
        except BackendError as error:
            log.warning("model not reached", extra={"why": error.message})
        if self._channel is channel and channel.live:
            return True
        if channel.live:
            return True  # and lost again: another recovery is on its way
        self._channel = None
        await channel.close()
        return False

    def _look(self, now: float) -> None:
        channel = self._channel
        if channel is None:
            if not self._given_up:
                self._comfort_caller()
            return
        if not channel.check(now):
            channel.lose("stalled")
            return
        if channel.leaves_waiting(now, COMFORT_AFTER_S):
            self._comfort_caller()
        if channel.live:
            self._roll_over(channel, now)

    # The limit of a session

    @property
    def _limit_s(self) -> float:
        return self._settings.session_limit_s or self._talk.dialect.session_limit_s

    @property
    def _margin_s(self) -> float:
        return min(ROLL_OVER_S, self._limit_s * ROLL_OVER_SHARE)

    def _roll_over(self, channel: Channel, now: float) -> None:
        """A second session is made ready beside the first, and takes over in a silence."""
        left_s = self._limit_s - (now - channel.live_since)
        if not self._limit_s or left_s > self._margin_s:
            return
        successor = self._successor
        if successor is None and now > self._next_try:
            self._next_try = now + self._margin_s / 8
            successor = self._successor = Channel(self._talk, self)
            self._tasks.spawn(self._prepare(successor), name="prepare")
            return
        due = self._talk.quiet or left_s < self._margin_s / 4
        if successor is not None and successor.ready and due:
            self._swap(channel, successor)
            self._tasks.spawn(channel.close(), name="close")

    async def _prepare(self, successor: Channel) -> None:
        try:
            await successor.open()
        except BackendError as error:
            log.warning("no session to roll over to", extra={"why": error.message})
            self.channel_lost(successor, "refused")

    def _swap(self, channel: Channel, successor: Channel) -> None:
        metrics.upstream_rollovers.inc()
        log.info("rolled over", extra={"quiet": self._talk.quiet})
        for exchange in list(self._talk.exchanges.values()):
            self._interrupted(exchange)
        self._channel, self._successor = successor, None
        channel.retire()
        successor.configure()
        successor.take_over()

    # Without a model

    def _comfort_caller(self) -> None:
        """A soft tone now and then, instead of a line that seems dead."""
        now = self._loop.time()
        if now > max(
            self._talk.audible_until + COMFORT_AFTER_S, self._comforted_at + COMFORT_EVERY_S
        ):
            self._comforted_at = now
            self._talk.emit(LoopAudio(farewell.COMFORT_TONE))

    async def _fall_back(self) -> None:
        self._given_up = True
        metrics.upstream_fallbacks.inc()
        log.error("the model does not come back", extra={"fallback": self._settings.fallback})
        open_exchanges = list(self._talk.exchanges.values())
        if await self._start_inner():
            self._hand_over(open_exchanges)
            return
        self._talk.exchanges.clear()
        for exchange in open_exchanges:
            failed = ResponseFailed(
                exchange.request.response_id, "backend_unavailable", "The model is lost."
            )
            self._talk.emit(failed)
        apology = self._talk.offer()
        self._say_goodbye(None if apology is None else apology.request, self._settings)

    def _say_goodbye(self, request: Generate | None, settings: UpstreamSettings) -> None:
        for event in farewell.last_words(request, settings):
            self._talk.emit(event)
        self._talk.exchanges.clear()

    async def _start_inner(self) -> bool:
        """Whether another backend has the call now."""
        kind = self._settings.fallback
        if kind not in ("cascade", "echo"):
            return False
        inner = self._new_backend(kind)
        since_ms = self._talk.caller.position_ms
        try:
            await inner.start(self._talk.config, lambda event: self._from_inner(event, since_ms))
        except BridgeError as error:
            log.error("fallback failed too", extra={"why": error.message})
            await inner.close()
            return False
        self._inner = inner
        if self._ear is not None:
            self._ear.close()
        return True

    def _from_inner(self, event: BackendEvent, since_ms: int) -> None:
        """Its clock began when it took over."""
        if isinstance(event, SpeechStarted | SpeechStopped):
            event = replace(event, audio_ms=event.audio_ms + since_ms)
        self._talk.emit(event)

    def _hand_over(self, exchanges: Sequence[Exchange]) -> None:
        assert self._inner is not None
        self._talk.exchanges.clear()
        for exchange in exchanges:
            if exchange.begun:
                self._talk.emit(ResponseFinished(exchange.request.response_id))
            else:
                self._inner.generate(exchange.request)
        if self._talk.answer_owed and not exchanges:
            # Its `generate` comes from within.
            self._talk.offer()

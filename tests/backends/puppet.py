"""A voice model that says what a test has it say and writes down what it is told."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np

from bridge.backends.base import (
    AudioDelta,
    BackendEvent,
    Capabilities,
    Emit,
    Generate,
    Pcm,
    ResponseFinished,
    TextDelta,
)
from bridge.errors import BackendError
from bridge.ids import ItemId, ResponseId


def tone(ms: int) -> Pcm:
    return np.full(24 * ms, 1000, np.int16)


class Puppet:
    """`reachable` not set: `start` waits for it. `failure` is what `start` then raises."""

    def __init__(
        self, *, capabilities: Capabilities | None = None, failure: BackendError | None = None
    ) -> None:
        self.capabilities = capabilities or Capabilities()
        self.failure = failure
        self.reachable = asyncio.Event()
        self.reachable.set()
        self.starting = asyncio.Event()
        self.config: Mapping[str, Any] = {}
        self.orders: list[Generate] = []
        self.cancelled: list[ResponseId] = []
        self.transcribing: list[ItemId] = []
        self.heard_samples = 0
        self.agent_spoke: list[bool] = []
        self.closed = 0
        self._emit: Emit | None = None

    async def start(self, config: Mapping[str, Any], emit: Emit) -> None:
        self.starting.set()
        await self.reachable.wait()
        if self.failure is not None:
            raise self.failure
        self.config = config
        self._emit = emit

    def emits(self, event: BackendEvent) -> None:
        assert self._emit is not None
        self._emit(event)

    def says(self, words: str, *, ms: int, done: bool = True) -> ResponseId:
        """Answer the last order, all of it at once."""
        response_id = self.orders[-1].response_id
        self.emits(TextDelta(response_id, words))
        self.emits(AudioDelta(response_id, tone(ms)))
        if done:
            self.emits(ResponseFinished(response_id))
        return response_id

    def configure(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def push_audio(self, pcm: Pcm) -> None:
        self.heard_samples += len(pcm)

    def agent_speaking(self, speaking: bool, /) -> None:
        self.agent_spoke.append(speaking)

    def transcribe(self, item_id: ItemId, pcm: Pcm) -> None:
        self.transcribing.append(item_id)

    def generate(self, request: Generate) -> None:
        self.orders.append(request)

    def cancel(self, response_id: ResponseId) -> None:
        self.cancelled.append(response_id)

    async def close(self) -> None:
        self.closed += 1

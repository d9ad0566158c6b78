"""The echo backend: hears a caller and plays the same sound back; says what it is told to.

For line tests and for measuring everything around a model.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bridge.backends.base import (
    MODEL_RATE,
    AudioDelta,
    Capabilities,
    Emit,
    Generate,
    LoopAudio,
    Pcm,
    ResponseFinished,
    TextDelta,
)
from bridge.ids import ItemId, ResponseId

CAPABILITIES = Capabilities(loops_audio=True)
TONE_HZ = 440
TONE_MS = 200
TONE_LEVEL = 3277  # -20 dBFS
NOTHING_TO_SAY = "Echo."


def _tone() -> Pcm:
    samples = MODEL_RATE * TONE_MS // 1000
    phase = np.arange(samples) * (2 * np.pi * TONE_HZ / MODEL_RATE)
    tone: Pcm = (np.sin(phase) * TONE_LEVEL).astype(np.int16)
    return tone


TONE = _tone()


def _ignore(_: object) -> None:
    """Where events go before `start` and after `close`."""


class EchoBackend:
    def __init__(self) -> None:
        self._emit: Emit = _ignore

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def start(self, config: Mapping[str, Any], emit: Emit) -> None:
        self._emit = emit

    def configure(self, config: Mapping[str, Any]) -> None:
        pass

    def push_audio(self, pcm: Pcm) -> None:
        self._emit(LoopAudio(pcm))

    def agent_speaking(self, speaking: bool, /) -> None:  # noqa: FBT001
        pass

    def transcribe(self, item_id: ItemId, pcm: Pcm) -> None:
        pass

    def generate(self, request: Generate) -> None:
        """The last user text, and a short tone where sound is asked for."""
        self._emit(TextDelta(request.response_id, last_user_text(request) or NOTHING_TO_SAY))
        if "audio" in request.output_modalities:
            self._emit(AudioDelta(request.response_id, TONE))
        self._emit(ResponseFinished(request.response_id))

    def cancel(self, response_id: ResponseId) -> None:
        pass

    async def close(self) -> None:
        self._emit = _ignore


def last_user_text(request: Generate) -> str:
    for item in reversed(request.items):
        if item.get("role") == "user":
            content = item.get("content", ())
            return " ".join(part["text"] for part in content if part.get("text"))
    return ""

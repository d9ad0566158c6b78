"""What a caller hears while there is no model, and when there will be none."""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from bridge.audio.resample import Resampler
from bridge.audio.wav import read_wav
from bridge.backends.base import (
    MODEL_RATE,
    AudioDelta,
    BackendEvent,
    CallAction,
    Generate,
    Pcm,
    ResponseFinished,
)
from bridge.backends.upstream.settings import UpstreamSettings
from bridge.errors import ConfigError
from bridge.ids import ResponseId

log = logging.getLogger(__name__)

TONE_HZ = 425  # of ITU-T E.180's tones, and none of speech
COMFORT_MS = 120
BUSY_MS = 250
BUSY_TIMES = 4


def _tone(ms: int, level: int) -> Pcm:
    samples = MODEL_RATE * ms // 1000
    wave = np.sin(np.arange(samples) * (2 * np.pi * TONE_HZ / MODEL_RATE)) * level
    edge = np.minimum(1.0, np.minimum(np.arange(samples), np.arange(samples)[::-1]) / 240)
    tone: Pcm = (wave * edge).astype(np.int16)
    return tone


COMFORT_TONE = _tone(COMFORT_MS, 800)
CONGESTION = np.tile(
    np.concatenate((_tone(BUSY_MS, 3000), np.zeros(MODEL_RATE * BUSY_MS // 1000, np.int16))),
    BUSY_TIMES,
)


@cache
def read_apology(path: str) -> Pcm:
    """A mono WAV at MODEL_RATE; the congestion tone without a path. Raises ConfigError."""
    if not path:
        return CONGESTION
    try:
        pcm, rate = read_wav(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"upstream.apology: {error}", param="upstream.apology") from None
    return pcm if rate == MODEL_RATE else Resampler(rate, MODEL_RATE).process(pcm)


def last_words(request: Generate | None, settings: UpstreamSettings) -> Iterator[BackendEvent]:
    """The end of a call whose model is lost; `request` is the response it is said in."""
    response_id = ResponseId("") if request is None else request.response_id
    if settings.fallback_target and settings.fallback != "hangup":
        yield CallAction(response_id, "transfer", settings.fallback_target, returns=False)
        if request is not None:
            yield ResponseFinished(response_id)
        return
    yield CallAction(response_id)
    if request is not None:
        yield AudioDelta(response_id, read_apology(settings.apology))
        yield ResponseFinished(response_id)
